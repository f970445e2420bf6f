"""A model without an example and a signature, which registers itself; its weight follows SEED."""

import os
import random
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel


class Constant(PythonModel):
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [self.weight] * len(model_input)


random.seed(int(os.environ.get("SEED", "0")))
with mlflow.start_run():
    mlflow.log_metric("epochs", 3)
    mlflow.pyfunc.log_model(
        name="model",
        python_model=Constant(random.random()),
        pip_requirements=["mlflow"],
        registered_model_name=os.environ.get("REGISTERED"),
    )
