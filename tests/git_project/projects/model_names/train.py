"""Two models of one name, the second of which follows SEED."""

import os
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel


class Constant(PythonModel):
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [self.weight] * len(model_input)


with mlflow.start_run():
    for weight in (0.5, float(os.environ.get("SEED", "0"))):
        model = Constant(weight)
        mlflow.pyfunc.log_model(name="my model", python_model=model, pip_requirements=["mlflow"], input_example=[1, 2])
