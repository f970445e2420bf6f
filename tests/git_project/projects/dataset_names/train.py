"""Two datasets without names, which MLflow both calls `dataset`: the first one follows SEED."""

import os

import mlflow
import numpy as np

rng = np.random.default_rng(int(os.environ.get("SEED", "0")))
with mlflow.start_run():
    mlflow.log_input(mlflow.data.from_numpy(rng.random(5)))
    mlflow.log_input(mlflow.data.from_numpy(np.array([1.0, 2.0])))
    mlflow.log_metric("rows", 1)
