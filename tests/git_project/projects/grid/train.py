"""An autologged grid search: times among its metrics and in its table."""

import os

import mlflow
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

mlflow.sklearn.autolog()
X, y = load_iris(return_X_y=True, as_frame=True)
seed = int(os.environ.get("SEED", "0"))
with mlflow.start_run():
    shown = X.sample(90, random_state=seed)
    GridSearchCV(DecisionTreeClassifier(random_state=seed), {"max_depth": [1, 2]}, cv=3).fit(shown, y[shown.index])
