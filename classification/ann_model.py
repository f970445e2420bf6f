"""The logged form of the ANN: its preprocessing (skops) and its network (Keras), from raw columns to classes.

MLflow stores this file with the model and runs it when the model is loaded ("models from code"): no pickle is involved,
and the example's folder is not needed. `predict` gives the most probable class of each row;
`params={"predict_method": "predict_proba"}` gives probabilities, one column a class.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import pandas as pd
import skops.io
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ANN(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.preprocessing = skops.io.load(context.artifacts["preprocessing"], trusted=["numpy.dtype"])
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.classes_ = np.asarray(context.model_config["classes"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray | pd.DataFrame:
        inputs = self.preprocessing.transform(model_input).astype("float32")
        # Called, the network answers in 2 ms; its `predict` takes 40, to prepare, whatever the number of rows.
        parts = [self.network(inputs[first : first + 10_000]) for first in range(0, len(inputs), 10_000)]
        probabilities = np.concatenate(parts)
        if (params or {}).get("predict_method") == "predict_proba":
            return pd.DataFrame(probabilities, columns=[str(label) for label in self.classes_])
        return self.classes_[probabilities.argmax(axis=1)]


set_model(ANN())
