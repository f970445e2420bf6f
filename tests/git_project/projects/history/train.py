"""A metric that ends at the same value, whichever way it took: that follows SEED."""

import os

import mlflow

with mlflow.start_run():
    for step, value in enumerate([1.0, 0.5 + int(os.environ.get("SEED", "0")), 0.25]):
        mlflow.log_metric("loss", value, step=step)
