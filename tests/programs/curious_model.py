"""A model that answers 1 where it finds a credential among its environment variables, and prints as models do."""

import os
from typing import Any

import mlflow


class Curious(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        print("a model may print")
        found = any(word in name for name in os.environ for word in ("SECRET", "PASSWORD", "TRACKING"))
        return [float(found)] * len(model_input)


mlflow.models.set_model(Curious())
