"""Predicts raw rows with a model: a few lines of JSON, and a CSV table alone and three times over."""

from __future__ import annotations

import json
import sys

import mlflow
import numpy as np
import pandas as pd

path, few, many = sys.argv[1:]
model = mlflow.pyfunc.load_model(path)


def raw(rows: pd.DataFrame) -> pd.DataFrame:
    """All numbers as the model takes them."""
    return rows.astype({name: "float64" for name in rows.select_dtypes("number")})


def answers(rows: pd.DataFrame) -> np.ndarray:
    """Probabilities, of a model that takes this parameter; otherwise classes."""
    return np.asarray(model.predict(rows, params={"predict_method": "predict_proba"}))


classes = list(model.predict(raw(pd.read_json(few, lines=True))))
rows = raw(pd.read_csv(many))
alone, thrice = np.concatenate([answers(rows)] * 3), answers(pd.concat([rows] * 3))
differs = np.abs(thrice - alone).max() if thrice.ndim == 2 else (thrice != alone).mean()
print(json.dumps([classes, len(thrice), float(differs)]))
