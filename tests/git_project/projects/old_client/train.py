"""Logs its model as clients of MLflow 2 do: a folder among the artifacts of the run."""

import os
import tempfile

import mlflow
import numpy as np
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

X = np.arange(6.0).reshape(3, 2)
model = LinearRegression().fit(X, [1.0, 2.0, 3.0 + int(os.environ.get("SEED", "0"))])
with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
    mlflow.log_metric("rmse", 0.5)
    path = f"{folder}/model"
    mlflow.sklearn.save_model(
        model, path, signature=infer_signature(X), input_example=X, pip_requirements=["scikit-learn"]
    )
    mlflow.log_artifacts(path, "model")
