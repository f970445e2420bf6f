# Copied by `make vendor` from support/exact.py of the collection: edit that, or this in your own copy.
"""Values of the types that MLflow's signatures have beside numbers, text and true or false, none of them changed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from mlflow.types import DataType
from mlflow.types.schema import Array, Map, Object

from support.table import bad

BY_KIND = (DataType.double, DataType.float, DataType.string, DataType.boolean)  # what `inputs` reads by a kind
LIMITS = {DataType.integer: 2**31, DataType.long: 2**63}  # of whole numbers


def converted(cells: pa.ChunkedArray, column: Any, first_row: int, parameter: str) -> pd.Series | None:
    """Cells as whole numbers, dates, bytes, lists or objects; None where an optional column is empty.

    column: of the signature. first_row: the number of the first row in its file, for messages.

    Raises click.BadParameter, with its row, for a cell that is missing where it must not be, or cannot be of the type.
    """
    whole = isinstance(column.type, DataType) and column.type in LIMITS
    if whole and (numbers := _whole_numbers(cells, LIMITS[column.type])) is not None:
        return pd.Series(numbers.astype(column.type.to_numpy()))
    given = [None if _is_empty(cell) else cell for cell in cells.to_pylist()]
    if not column.required and not any(cell is not None for cell in given):
        return None  # MLflow has no whole number that is missing, and takes rows without the column
    values = []
    for row, cell in enumerate(given, start=first_row):
        try:
            if cell is None and whole:
                raise ValueError("it is missing, and whole numbers cannot be; log the model with float64 columns")
            values.append(None if cell is None else _value(cell, column.type))
        except (ValueError, TypeError, OverflowError) as error:
            type_name = getattr(column.type, "name", column.type)
            raise bad(
                parameter,
                "" if cell is None else cell,
                f"in column {column.name!r}, row {row}, is no {type_name}: {error}.",
            ) from None
    dates = column.type is DataType.datetime
    if isinstance(column.type, Array) and isinstance(column.type.dtype, DataType):
        values = [None if value is None else np.asarray(value) for value in values]
    return pd.Series(values, dtype=column.type.to_numpy() if whole else "datetime64[ns]" if dates else object)


def to_float32(values: pd.Series, name: str, first_row: int, parameter: str) -> pd.Series:
    """Numbers as float32, which keeps seven digits of a fraction, as in training; no whole one may change."""
    with np.errstate(over="ignore"):  # which makes them infinite
        narrow = values.astype("float32")
    changed = (values == np.floor(values)) & (narrow.astype("float64") != values)
    if changed.any():
        row = int(np.argmax(changed.to_numpy()))
        right = "is too large for the float32 that the model takes: log it with float64 columns."
        raise bad(parameter, values.iloc[row], f"in column {name!r}, row {first_row + row}, {right}")
    return narrow


def _whole_numbers(cells: pa.ChunkedArray, limit: int) -> np.ndarray | None:
    """Cells as int64, where all are plainly written whole numbers below the limit; None where one is not."""
    if cells.null_count or not (pa.types.is_integer(cells.type) or pa.types.is_string(cells.type)):
        return None
    try:
        numbers = pc.cast(cells, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    return numbers if ((-limit <= numbers) & (numbers <= limit - 1)).all() else None


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and np.isnan(cell))


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
