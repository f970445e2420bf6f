"""A model that takes one array for each of its columns, as those in ONNX do."""

from typing import Any

import mlflow
import numpy as np


class NamedArrays(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        if not isinstance(model_input, dict):
            raise TypeError(f"expected a dictionary of arrays, not {type(model_input).__name__}")
        lengths = [float(len(str(value))) for value in model_input["b"]]
        return np.nan_to_num(np.asarray(model_input["a"], float)) + np.array(lengths)


mlflow.models.set_model(NamedArrays())
