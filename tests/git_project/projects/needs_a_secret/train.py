"""Needs what no commit has: a variable of the environment."""

import os

import mlflow

with mlflow.start_run():
    mlflow.log_metric("length", len(os.environ["SECRET"]))
