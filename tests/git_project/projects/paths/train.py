"""Reads a file that a parameter of type path names."""

import sys
from pathlib import Path

import mlflow
import pandas as pd

with mlflow.start_run():
    table = pd.read_csv(Path(sys.argv[1]))
    mlflow.log_input(mlflow.data.from_pandas(table, source=sys.argv[1], name="table"), context="training")
    mlflow.log_metric("mean", table["x"].mean())
