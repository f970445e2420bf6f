"""A logged classifier in a worker of Spark: from rows as people write them to what `predict` adds to them.

MLflow runs this file where it loads the model ("models from code").
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from predict import added_columns, load_predictor
from support.table import conform


class Scorer(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.predictor, description = load_predictor(context.artifacts["model"])
        self.schema = description.signature.inputs

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        return added_columns(self.predictor, conform(model_input, self.schema))


set_model(Scorer())
