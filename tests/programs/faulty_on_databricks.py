"""Behaves in the process of the test, which has the address of the workspace, and misbehaves where it serves."""

import os
from typing import Any

import mlflow


class Faulty(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.fault = "" if "DATABRICKS_HOST" in os.environ else context.model_config["fault"]
        if self.fault == "crash":
            raise RuntimeError("the weights are gone")

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        return [2.0 if self.fault == "wrong" else 1.0] * len(model_input)


mlflow.models.set_model(Faulty())
