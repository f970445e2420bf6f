"""A logged classifier in a worker of Spark: from rows as people write them to what `predict` adds to them.

MLflow runs this file where it loads the model ("models from code").
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from predict import load_predictor
from support.inputs import kinds_of, model_inputs


class Scorer(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.predictor = load_predictor(context.artifacts["model"])
        self.schema = self.predictor.info.signature.inputs
        self.kinds = kinds_of(self.predictor.info.metadata, self.schema)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        added = self.predictor.add(model_inputs(model_input, self.schema, self.kinds))
        return added.set_axis(context.model_config["columns"], axis=1)


set_model(Scorer())
