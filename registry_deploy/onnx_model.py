"""The logged form of a scikit-learn Pipeline that was converted to ONNX: from raw columns to the Pipeline's answers.

MLflow stores this file with the model and runs it when the model is loaded ("models from code"). It takes one array a
column, which the scoring server makes of `{"inputs": {"tenure": [2], ...}}`, or a DataFrame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ONNX(PythonModel):
    """Predictions; with `params={"predict_method": "predict_proba"}` probabilities, one column a class."""

    def load_context(self, context: PythonModelContext) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a row is too little work to share, and threads that wait for it spin
        options.log_severity_level = 3
        model, providers = context.artifacts["onnx"], ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model, options, providers=providers)
        self.text = {each.name: each.type == "tensor(string)" for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]
        self.missing, self.classes = context.model_config["missing"], context.model_config["classes"]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray | pd.DataFrame:
        inputs = {name: self._tensor(model_input[name], text) for name, text in self.text.items()}
        if (params or {}).get("predict_method") != "predict_proba":
            return self.session.run(self.outputs[:1], inputs)[0].ravel()
        if not self.classes:
            raise ValueError("predict_method='predict_proba': this model gives no probabilities.")
        return pd.DataFrame(self.session.run(self.outputs[1:2], inputs)[0], columns=list(map(str, self.classes)))

    def _tensor(self, column: Any, text: bool) -> np.ndarray:
        """A column as ONNX takes it, (rows, 1): text cannot be missing there, so a word stands for it."""
        values = np.asarray(column, dtype=object if text else float)
        if text and set(map(type, values.tolist())) != {str}:
            texts = [each if type(each) is str else self.missing if pd.isna(each) else str(each) for each in values]
            values = np.array(texts, dtype=object)
        return values.reshape(-1, 1)


set_model(ONNX())
