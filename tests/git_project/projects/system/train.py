"""Asks for a package that no index has: only what is installed can run it."""

import os

import mlflow

with mlflow.start_run():
    mlflow.log_metric("rmse", 0.5 + int(os.environ.get("SEED", "0")))
