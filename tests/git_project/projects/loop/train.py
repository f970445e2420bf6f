"""A loop of runs of which only the first is that of the project: as many as RUNS says; the third follows SEED."""

import os

import mlflow

for depth in range(1, int(os.environ.get("RUNS", "3")) + 1):
    with mlflow.start_run():
        mlflow.log_param("depth", depth)
        mlflow.log_metric("score", depth + (int(os.environ.get("SEED", "0")) if depth == 3 else 0))
