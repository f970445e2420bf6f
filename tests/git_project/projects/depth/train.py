"""Runs below runs below the run; the deepest follows SEED."""

import os

import mlflow

with mlflow.start_run(), mlflow.start_run(run_name="a", nested=True), mlflow.start_run(run_name="b", nested=True):
    mlflow.log_metric("score", int(os.environ.get("SEED", "0")))
