# Copied by `make vendor` from support/datasets.py of the collection: edit that, or this in your own copy.
"""Tables as MLflow records them with a run: where they come from, what they hold, and a digest of their rows."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
from mlflow.data.pandas_dataset import PandasDataset, from_pandas

from support.table import dataset_source


def as_dataset(rows: pd.DataFrame, data: str, name: str, **columns: Any) -> PandasDataset:
    """Rows that were read from a table, as a dataset of MLflow.

    data: path or URL of the table. columns: `targets`, and `predictions` where there are any, as `from_pandas` takes
    them.
    """
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer")
    given = {"source": dataset_source(data), "name": name, **columns}
    dataset = from_pandas(rows, **given)
    # To find a column's type MLflow looks at every text in turn, for minutes where there are a million rows. The first
    # value and, where there is one, the first missing value of each column tell as much.
    missing = rows.isna().to_numpy()
    telling = rows.iloc[sorted({*missing.argmin(axis=0), *missing.argmax(axis=0)})]
    dataset.schema = from_pandas(telling, **given).schema
    return dataset
