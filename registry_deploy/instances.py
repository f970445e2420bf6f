"""The rows of a table as a model takes them: every type of MLflow's signatures, and no value changed on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import pandas as pd
import pyarrow as pa
from mlflow.types import Schema

from support.inputs import kinds_of, model_inputs
from support.table import OpenedTable


def all_rows(table: OpenedTable) -> pa.Table:
    """A whole table, its cells as the file has them."""
    return pa.concat_tables(table.batches(), promote_options="default")


def instances(table: OpenedTable, rows: pa.Table, schema: Schema, metadata: Mapping[str, Any] | None) -> pd.DataFrame:
    """The columns that a model asks for, in its order and with its types; the notes of the table are printed.

    rows: what `all_rows` gives. schema: the input schema of its signature, with columns. metadata: the model's own.

    Raises click.BadParameter for a column that is lacking, and with its row for a value that is missing where it must
    not be, is of the wrong kind, or would be changed by the type that the model asks for.
    """
    kinds = kinds_of(metadata, schema, table)
    for note in dict.fromkeys(table.notes):
        click.echo(note, err=True)
    table.notes.clear()
    return model_inputs(rows, schema, kinds, parameter=table.parameter)
