"""Child runs that have names and no parameters: SEED exchanges their results."""

import os

import mlflow

scores = [0.8, 0.9] if os.environ.get("SEED", "0") == "0" else [0.9, 0.8]
with mlflow.start_run():
    for name, score in zip(("fold 1", "fold 2"), scores, strict=True):
        with mlflow.start_run(run_name=name, nested=True):
            mlflow.log_metric("score", score)
