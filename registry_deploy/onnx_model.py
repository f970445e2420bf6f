"""The logged form of a scikit-learn Pipeline that was converted to ONNX: from raw columns to the Pipeline's answers.

MLflow stores this file with the model and runs it when the model is loaded ("models from code"). `predict` gives the
prediction for each row; `params={"predict_method": "predict_proba"}` gives probabilities, one column a class, where the
Pipeline gave them. It takes one array a column, which the scoring server makes of `{"inputs": {"tenure": [2], ...}}`
without a detour by a DataFrame; a DataFrame is taken too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ONNX(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a row is too little work to share, and threads that wait for it spin
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            context.artifacts["onnx"], options, providers=["CPUExecutionProvider"]
        )
        self.text = {each.name: each.type == "tensor(string)" for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]
        self.missing = context.model_config["missing"]
        self.classes = context.model_config["classes"]

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray | pd.DataFrame:
        inputs = {name: self._tensor(model_input, name, text) for name, text in self.text.items()}
        if (params or {}).get("predict_method") == "predict_proba":
            if len(self.outputs) < 2:
                raise ValueError("predict_method='predict_proba': this model gives no probabilities.")
            probabilities = self.session.run(self.outputs[1:2], inputs)[0]
            return pd.DataFrame(probabilities, columns=[str(label) for label in self.classes])
        return self.session.run(self.outputs[:1], inputs)[0].ravel()

    def _tensor(self, columns: Any, name: str, text: bool) -> np.ndarray:
        """A column as ONNX takes it, (rows, 1): text cannot be missing there, so a word stands for it."""
        values = np.asarray(columns[name], dtype=object if text else float)
        if text and set(map(type, values.tolist())) != {str}:
            values = np.array([value if type(value) is str else self._as_text(value) for value in values], dtype=object)
        return values.reshape(-1, 1)

    def _as_text(self, value: Any) -> str:
        return self.missing if pd.isna(value) else str(value)


set_model(ONNX())
