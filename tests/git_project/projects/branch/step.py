"""A step that says the same at every commit."""

import mlflow

with mlflow.start_run():
    mlflow.log_metric("score", 1)
