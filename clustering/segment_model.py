"""A logged K-Means of this example as `predict` needs it: from rows to segments, distances and names."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.types import Schema
from sklearn.pipeline import Pipeline

from kmeans import nearest
from support.table import bad

# What is added to each row; `far` says whether it lies farther from its centre than any row of its segment did.
ADDED = ("segment", "segment_distance", "segment_name", "far")


class SegmentModel:
    """A logged model of segments.

    pipeline: from raw columns to segments; ends in K-Means.
    info, metadata, schema: what MLflow knows of the model, what was stored with it, and the columns it takes.

    Raises click.BadParameter where there is no such model, where it is another kind of model, or where it says nothing
    on the columns that it needs.
    """

    def __init__(self, model_uri: str) -> None:
        try:
            self.info: ModelInfo = mlflow.models.get_model_info(model_uri)
            signature = self.info.signature
            if signature is None or not signature.inputs.has_input_names():
                raise bad("model_uri", model_uri, "has no signature with column names: log it with one.")
            if "sklearn" not in self.info.flavors:
                raise bad("model_uri", model_uri, "is not a scikit-learn model.")
            self.pipeline: Any = mlflow.sklearn.load_model(model_uri)
        except (MlflowException, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None
        if not isinstance(self.pipeline, Pipeline) or not hasattr(self.pipeline[-1], "cluster_centers_"):
            raise bad("model_uri", model_uri, "is not a Pipeline that ends in K-Means.")
        self.schema: Schema = signature.inputs
        self.metadata: dict[str, Any] = self.info.metadata or {}

    def add(self, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
        """The columns `ADDED` for each row; `segment_name` only where the model has names.

        X: raw columns (rows, features), as the model's signature has them.
        first_row: the number of the first row in its file, for messages.

        Raises click.BadParameter for a missing value where the model does not impute, and for one without a logarithm.
        """
        lacking = X[[column.name for column in self.schema.inputs if column.required]].isna()
        _refuse(X, lacking, "is missing: fit the model with missing=impute to allow that.", first_row)
        with np.errstate(invalid="ignore", divide="ignore"):  # the logarithm of what is below -1
            Z = self.pipeline[:-1].transform(X)
        if not np.isfinite(Z).all():
            numbers = X.select_dtypes("number")
            wrong = (numbers <= -1) & ~np.isfinite(Z).all(axis=1)[:, None]
            _refuse(numbers, wrong, "has no logarithm: it must be above -1.", first_row)
        labels, distances = nearest(self.pipeline[-1], Z)
        added = pd.DataFrame({"segment": labels.astype("int64"), "segment_distance": distances})
        if names := self.metadata.get("segments"):
            added["segment_name"] = np.array(names, dtype=object)[labels]
        farthest = np.array(self.metadata.get("farthest") or [np.inf] * self.pipeline[-1].n_clusters)
        return added.assign(far=(distances > farthest[labels]).astype("int64"))


def _refuse(X: pd.DataFrame, wrong: pd.DataFrame, right: str, first_row: int) -> None:
    """Raise click.BadParameter for the first value that is wrong (rows, features)."""
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        name = wrong.columns[column]
        raise bad("data", X[name].iloc[row], f"in column {name!r}, row {first_row + row}, {right}")
