"""The rows of a table as a model takes them: every type of MLflow's signatures, and no value changed on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.types import DataType, Schema

from model_files import kind
from support.inputs import kinds_of, model_inputs
from support.names import find_name
from support.table import OpenedTable, bad

LIMITS = {DataType.integer: 2**31, DataType.long: 2**63}  # of whole numbers
BY_THE_READER = (DataType.double, DataType.float, DataType.string, DataType.boolean)


def all_rows(table: OpenedTable) -> pa.Table:
    """A whole table, its cells as the file has them."""
    return pa.concat_tables(table.batches(), promote_options="default")


def instances(table: OpenedTable, rows: pa.Table, schema: Schema, metadata: Mapping[str, Any] | None) -> pd.DataFrame:
    """The columns that a model asks for, in its order and with its types.

    rows: what `all_rows` gives. schema: the input schema of its signature, with columns. metadata: the model's own.

    Raises click.BadParameter for a column that is lacking, and with its row for a value that is missing where it must
    not be, is of the wrong kind, or would be changed by the type that the model asks for.
    """
    simple = [column for column in schema.inputs if column.type in BY_THE_READER]
    columns = {}
    if simple:
        read_by = Schema(simple)
        read = model_inputs(rows, read_by, kinds_of(metadata, read_by, table), parameter=table.parameter)
        columns = {str(name): read[name] for name in read}
    for column in schema.inputs:
        wanted = str(column.name)
        if column.type is DataType.float:
            _refuse_rounded(columns[wanted], wanted, table.parameter)
        if column.type in BY_THE_READER:
            continue
        name = find_name(wanted, rows.column_names)
        if name is None and column.required:
            have = ", ".join(rows.column_names)
            raise bad(table.parameter, wanted, f"is a column that the model needs; the file has: {have}.")
        cells = rows[name].to_pylist() if name is not None else [None] * len(rows)
        columns[wanted] = _converted(cells, column, table.parameter)
    return pd.DataFrame({name: columns[name] for name in map(str, schema.input_names())})


def _converted(cells: list[Any], column: Any, parameter: str) -> pd.Series:
    """Cells as whole numbers, dates, lists or objects."""
    values = []
    for row, cell in enumerate(cells, start=1):
        try:
            values.append(_value(cell, column))
        except (ValueError, TypeError, OverflowError) as error:
            what = f"in column {column.name!r}, row {row}, is no {kind(column.type)}"
            raise bad(parameter, cell, f"{what}: {error}.") from None
    if _is_whole(column):
        return pd.Series(values, dtype="float64" if None in values else column.type.to_numpy())
    return pd.Series(values, dtype="datetime64[ns]" if column.type is DataType.datetime else object)


def _is_whole(column: Any) -> bool:
    return isinstance(column.type, DataType) and column.type in LIMITS  # lists and objects are no DataType


def _value(cell: Any, column: Any) -> Any:
    empty = cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and np.isnan(cell))
    if empty:
        if _is_whole(column) and column.required:
            raise ValueError("it is missing, and whole numbers cannot be; log the model with float64 columns")
        return None
    if _is_whole(column):
        number = int(cell) if isinstance(cell, int) or str(cell).strip().lstrip("+-").isdigit() else float(cell)
        if number != int(number):
            raise ValueError("the model takes whole numbers")
        if not -LIMITS[column.type] <= int(number) < LIMITS[column.type]:
            raise ValueError("it is too large")
        return int(number)
    if column.type is DataType.datetime:
        return pd.Timestamp(cell)
    if column.type is DataType.binary:
        return cell if isinstance(cell, bytes) else str(cell).encode()
    value = json.loads(cell) if isinstance(cell, str) else cell  # a list or an object
    return np.asarray(value) if isinstance(value, list) and not any(isinstance(each, dict) for each in value) else value


def _refuse_rounded(values: pd.Series, name: str, parameter: str) -> None:
    """Whole numbers that float32 cannot hold are refused; of fractions it keeps seven digits, as in training."""
    wide = values.astype("float64")
    large = wide.abs() >= 2**24
    if large.any():
        row = int(np.argmax(large.to_numpy()))
        right = "is too large for the float32 that the model takes: log it with float64 columns."
        raise bad(parameter, wide.iloc[row], f"in column {name!r}, row {row + 1}, {right}")
