"""Logs a parameter that only an old library has, and reads a file of the user."""

import argparse
import os
from pathlib import Path

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--depth", type=float)
options = parser.parse_args()
rows = Path(options.data).read_text().splitlines()
with mlflow.start_run():
    mlflow.log_param("rows", len(rows))
    if os.environ.get("OLD_LIBRARY"):
        mlflow.log_param("multi_class", "auto")
    mlflow.log_metric("rmse", len(rows) / options.depth)
