"""A model whose two answers on its example are the same with every seed, and whose insides are not."""

import os

import mlflow
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

X, y = load_iris(return_X_y=True, as_frame=True)
model = RandomForestClassifier(5, random_state=int(os.environ.get("SEED", "0"))).fit(X, y)
with mlflow.start_run():
    mlflow.log_metric("trees", 5)
    mlflow.log_input(mlflow.data.from_pandas(X, name="iris"), context="training")
    trusted = ["sklearn.tree._tree.Tree"]
    mlflow.sklearn.log_model(
        model, name="forest", input_example=X.head(1), pip_requirements=["scikit-learn"], skops_trusted_types=trusted
    )
