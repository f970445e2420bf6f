"""A model that answers every row with its own version; its faults show only in a server."""

import os
import time
from typing import Any

import mlflow

SERVING = "__pyfunc_model_path__" in os.environ  # set for the server, not where the expected answer is worked out


class Numbered(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.number = float(context.model_config["number"])
        fault = context.model_config["fault"] if SERVING else ""
        if fault == "crash":
            raise RuntimeError("the weights are gone")
        if fault == "hang":
            time.sleep(600)
        if fault == "wrong":
            self.number += 1

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        if SERVING and (model_input["x"] < 0).any():
            os._exit(9)
        if SERVING and (model_input["x"] > 100).any():
            time.sleep(model_input["x"].max() - 100)
        return [self.number] * len(model_input)


mlflow.models.set_model(Numbered())
