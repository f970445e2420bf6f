"""Reads a table that Git LFS holds."""

import mlflow
import pandas as pd

with mlflow.start_run():
    mlflow.log_metric("mean", pd.read_csv("table.csv")["x"].mean())
