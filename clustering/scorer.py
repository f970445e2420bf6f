"""A logged K-Means in a worker of Spark: from rows as people write them to what `predict` adds to them.

MLflow runs this file where it loads the model ("models from code").
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from segment_model import SegmentModel
from support.inputs import kinds_of, model_inputs


class Scorer(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.model = SegmentModel(context.artifacts["model"])
        self.kinds = kinds_of(self.model.metadata, self.model.schema)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        added = self.model.add(model_inputs(model_input, self.model.schema, self.kinds))
        return added.set_axis(context.model_config["columns"], axis=1)  # the table may have columns of our names


set_model(Scorer())
