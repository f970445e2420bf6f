"""A project as they are found elsewhere: parameters by position, autologging, no run of its own."""

import sys

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

mlflow.sklearn.autolog(log_input_examples=True)
X, y = load_diabetes(return_X_y=True)
model = Ridge(alpha=float(sys.argv[1])).fit(X, y)
mlflow.log_metric("r2", model.score(X, y))
