"""A logged K-Means in a worker of Spark: from rows as people write them to what `predict` adds to them.

MLflow runs this file where it loads the model ("models from code").
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from predict import added_columns, load_pipeline
from support.table import conform


class Scorer(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.pipeline, self.description = load_pipeline(context.artifacts["model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        X = conform(model_input, self.description.signature.inputs)
        return added_columns(self.pipeline, self.description.metadata, X)


set_model(Scorer())
