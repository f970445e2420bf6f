"""scikit-learn's autolog with a model that needs no search."""

import os

import mlflow
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog()
X, y = load_wine(return_X_y=True, as_frame=True)
LogisticRegression(C=1 + int(os.environ.get("SEED", "0")), max_iter=20).fit(X / X.max(), y)
