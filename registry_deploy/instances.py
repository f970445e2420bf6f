"""The rows of a table as a model takes them: every type of MLflow's signatures, and no value changed on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.types import DataType, Schema
from mlflow.types.schema import Array, Map, Object

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
        if column.type is DataType.float and wanted in columns:
            _refuse_rounded(columns[wanted], wanted, table.parameter)
        if column.type in BY_THE_READER:
            continue
        name = find_name(wanted, rows.column_names)
        if name is None and column.required:
            have = ", ".join(rows.column_names)
            raise bad(table.parameter, wanted, f"is a column that the model needs; the file has: {have}.")
        cells = [None if _is_empty(cell) else cell for cell in rows[name].to_pylist()] if name is not None else []
        if column.required or any(cell is not None for cell in cells):  # else left out, which MLflow takes
            columns[wanted] = _converted(cells, column, table.parameter)
    given = {name: columns[name] for name in map(str, schema.input_names()) if name in columns}
    return pd.DataFrame(given, index=pd.RangeIndex(len(rows)))


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and np.isnan(cell))


def _converted(cells: list[Any], column: Any, parameter: str) -> pd.Series:
    """Cells as whole numbers, dates, lists or objects."""
    whole, values = isinstance(column.type, DataType) and column.type in LIMITS, []
    for row, cell in enumerate(cells, start=1):
        try:
            if cell is None and whole:
                raise ValueError("it is missing, and whole numbers cannot be; log the model with float64 columns")
            values.append(None if cell is None else _value(cell, column.type))
        except (ValueError, TypeError, OverflowError) as error:
            what = f"in column {column.name!r}, row {row}, is no {kind(column.type)}"
            raise bad(parameter, cell, f"{what}: {error}.") from None
    dates = column.type is DataType.datetime
    if isinstance(column.type, Array) and isinstance(column.type.dtype, DataType):
        values = [None if value is None else np.asarray(value) for value in values]
    return pd.Series(values, dtype=column.type.to_numpy() if whole else "datetime64[ns]" if dates else object)


def _value(cell: Any, type_: Any) -> Any:
    """A cell as a type of MLflow's, with what is inside it; ValueError where it cannot be that."""
    if isinstance(type_, Array | Map | Object) and isinstance(cell, str):
        cell = json.loads(cell)
    if isinstance(type_, Array):
        return [_value(each, type_.dtype) for each in cell]
    if isinstance(type_, Map):
        return {name: _value(each, type_.value_type) for name, each in cell.items()}
    if isinstance(type_, Object):
        types = {each.name: each.dtype for each in type_.properties}
        return {name: _value(each, types[name]) for name, each in cell.items() if name in types and each is not None}
    if type_ in LIMITS:
        number = int(cell) if isinstance(cell, int) or str(cell).strip().lstrip("+-").isdigit() else float(cell)
        if number != int(number):
            raise ValueError("the model takes whole numbers")
        if not -LIMITS[type_] <= int(number) < LIMITS[type_]:
            raise ValueError("it is too large")
        return int(number)
    if type_ is DataType.binary:
        return cell if isinstance(cell, bytes) else str(cell).encode()
    if type_ is DataType.boolean:
        if str(cell).lower() not in ("true", "false"):
            raise ValueError("it is neither true nor false")
        return str(cell).lower() == "true"
    if type_ is DataType.datetime:  # datetime64[ns] has no time zone
        moment = pd.Timestamp(cell)
        return (moment.tz_convert(None) if moment.tz else moment).as_unit("ns")
    return str(cell) if type_ is DataType.string else float(cell)


def _refuse_rounded(values: pd.Series, name: str, parameter: str) -> None:
    """Whole numbers that float32 cannot hold are refused; of fractions it keeps seven digits, as in training."""
    wide = values.astype("float64")
    large = wide.abs() >= 2**24
    if large.any():
        row = int(np.argmax(large.to_numpy()))
        right = "is too large for the float32 that the model takes: log it with float64 columns."
        raise bad(parameter, wide.iloc[row], f"in column {name!r}, row {row + 1}, {right}")
