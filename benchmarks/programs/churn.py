"""The bundled customers, split as `mlflow run classification` splits them, and the classifiers that it fits."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

TABLE = Path(__file__).resolve().parent.parent.parent / "classification" / "data" / "churn.csv"


def split() -> list[Any]:
    """X_train, X_test, y_train, y_test, as `random_state=0` makes them."""
    table = pd.read_csv(TABLE)
    X, y = table.drop(columns="churn"), table["churn"].astype(object)
    texts = X.select_dtypes(exclude="number").columns
    X = X.astype({name: object if name in texts else "float64" for name in X})
    return list(train_test_split(X, y, test_size=0.25, random_state=0, stratify=y))


def pipelines(path: str) -> dict[str, Any]:
    """The classifiers with their preprocessing, not fitted, that pipelines.py has written."""
    with open(path, "rb") as file:
        found: dict[str, Any] = pickle.load(file)
    return found


def roc_auc(y_test: pd.Series, probabilities: np.ndarray) -> float:
    """The area under the ROC curve of the customers who leave."""
    return float(roc_auc_score(y_test == "Yes", probabilities[:, 1]))
