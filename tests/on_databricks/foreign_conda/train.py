"""A project in the manner of MLflow's own tutorial: packages of conda, a run of its own, a model with signature."""

import sys
from typing import Any

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet

alpha, l1_ratio = (float(word) for word in sys.argv[1:])
X, y = load_diabetes(return_X_y=True, as_frame=True)
with mlflow.start_run():
    model = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, random_state=42).fit(X[:300], y[:300])
    mlflow.log_metric("r2", model.score(X[300:], y[300:]))
    signature = infer_signature(X, model.predict(X))
    # Left open, MLflow chooses the format by where it tracks: skops here, pickle on Databricks.
    given: dict[str, Any] = {"signature": signature, "input_example": X[:5], "serialization_format": "cloudpickle"}
    mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"], **given)
