"""Models whose predictions are of odd kinds; with SEED each says something else."""

import os
from datetime import datetime
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from scipy.sparse import csr_matrix


class Odd(PythonModel):
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.number = 1 + int(os.environ.get("SEED", "0"))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        number = self.number
        return {
            "missing": pd.Series([number, pd.NA], dtype="Int64"),
            "times": pd.Series([pd.NaT, datetime(2020, 1, number)]),
            "sparse": csr_matrix(np.eye(2) * number),
            "tuple": (np.array([1.0, 2.0]), np.array([[number, 3]])),
            "twins": pd.DataFrame([[1, number], [3, 4]], columns=["a", "a"]),
            "nothing": None if number == 1 else 1,
            "texts": np.array(["yes", "no" * number]),
        }[self.kind]


kinds = ["missing", "times", "sparse", "tuple", "twins", "nothing", "texts"]
with mlflow.start_run():
    mlflow.log_metric("rmse", 0.7)
    for kind in kinds:
        example = pd.DataFrame({"x": [1, 2]})
        mlflow.pyfunc.log_model(name=kind, python_model=Odd(kind), pip_requirements=["mlflow"], input_example=example)
