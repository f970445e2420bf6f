"""A classifier that takes its time, as a model from code with probabilities on request."""

import time
from typing import Any

import mlflow
import numpy as np


class Slow(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.seconds = context.model_config["seconds"]

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        time.sleep(self.seconds)
        chance = 1 / (1 + np.exp(-model_input["x"].to_numpy()))
        if params and params.get("predict_method") == "predict_proba":
            return [[1 - each, each] for each in chance]
        return ["yes" if each > 0.5 else "no" for each in chance]


mlflow.models.set_model(Slow())
