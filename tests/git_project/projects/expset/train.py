"""Names its experiment itself, as many scripts do."""

import os

import mlflow

mlflow.set_experiment("wine")
with mlflow.start_run():
    mlflow.log_metric("rmse", 0.7 + int(os.environ.get("SEED", "0")))
