# Copied by `make vendor` from support/inputs.py of the collection: edit that, or this in your own copy.
"""From the cells of a table to the values that a model takes, by the decision on the kinds of its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from support.evidence import MISSING
from support.exact import BY_KIND, converted, to_float32
from support.kinds import Evidence, Kind, decide, from_metadata
from support.names import find_name, pick_names
from support.table import OpenedTable, bad, open_table
from support.written import as_text, quick_numbers, to_floats

NUMBERS = ("double", "float")
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def read_table(
    data: str, target: str, drop: str, kinds: str, missing_values: str
) -> tuple[pd.DataFrame, dict[str, Kind]]:
    """A whole table as something to learn from, and what its columns are; what is left out or guessed is said.

    The parameters are those of these names. The columns are those that can be learnt from, numbers, then categories,
    then true and false, and last the target.

    Raises click.BadParameter where the table or a parameter does not fit.
    """
    table = open_table(data)
    dropped = pick_names("drop", drop, table.names)
    [target] = pick_names("target", [target], table.names)
    if target in dropped:
        raise bad("drop", target, "is the target.")
    decided = decide(table, kinds, missing_values, drop=dropped, asked=[target])
    for note in table.notes:
        click.echo(note, err=True)
    of_target = {target: decided.pop(target)}
    learnt: dict[str, Kind] = {}
    for wanted in ("number", "category", "boolean"):
        learnt |= {name: kind for name, kind in decided.items() if kind.kind == wanted}
    if not learnt:
        raise bad("data", data, "has no column to learn from.")
    return to_frame(table, learnt | of_target), learnt | of_target


def to_frame(table: OpenedTable, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """A whole table by the kinds of its columns: those that `kinds` has, in its order.

    Numbers are float64, true and false bool (object where some are missing), all else is text as object without outer
    spaces; a missing value is NaN, or None among true and false.

    Raises click.BadParameter for a value that is not of its column's kind, with its row.
    """
    rows = pa.concat_tables(table.batches(columns=list(kinds)), promote_options="default")
    return values_of(rows, kinds, parameter=table.parameter)


def values_of(rows: pa.Table, kinds: Mapping[str, Kind], first_row: int = 1, parameter: str = "data") -> pd.DataFrame:
    """As `to_frame`, for a batch of `OpenedTable`. first_row: the number of its first row in the file, for messages."""
    columns = {name: _values(rows, name, kind, first_row, parameter) for name, kind in kinds.items()}
    return pd.DataFrame(columns, copy=False)


def absent_notes(schema: Any, names: Iterable[str]) -> list[str]:
    """What to say of columns that a model takes, may do without, and that new instances lack: one note each.

    schema: the input schema of the model's signature. names: the columns of the new instances.
    """
    have = list(names)
    absent = [each.name for each in schema.inputs if not each.required and find_name(each.name, have) is None]
    return [f"There is no column {name!r}: its values are taken as missing." for name in absent]


def kinds_of(metadata: Mapping[str, Any] | None, schema: Any, table: OpenedTable | None = None) -> dict[str, Kind]:
    """The decision on the columns of a model: the one that is stored with it, or else one made from its signature.

    metadata, schema: the metadata of the model and the input schema of its signature.
    table: new instances; a model that stores no decision reads numbers as they are written there. A column that they
    lack and that may be missing is noted.

    Raises click.UsageError for a model without a decision that knows a category with outer spaces: it would never
    meet it again.
    """
    if table is not None:
        table.notes += absent_notes(schema, table.names)
    stored = (metadata or {}).get("kinds")
    if stored:
        return from_metadata(stored)
    _refuse_outer_spaces((metadata or {}).get("categories"))
    columns = {column.name: column.type.name for column in schema.inputs if column.type in BY_KIND}
    kinds = {name: Kind("category") for name, type_name in columns.items() if type_name == "string"}
    kinds |= {name: Kind("boolean") for name, type_name in columns.items() if type_name == "boolean"}
    kinds |= {name: Kind("number") for name, type_name in columns.items() if type_name in NUMBERS}
    found = (
        {name: find_name(name, table.names) for name, kind in kinds.items() if kind.kind == "number"} if table else {}
    )
    present = [name for name in found.values() if name is not None]
    if table is not None and present:
        evidence = Evidence(present, "", "", table.names)
        for batch in table.batches(columns=present):
            evidence.add(batch, 1)
        hint = evidence.hint(table.separator)
        for name, column in found.items():
            if column is not None:
                kinds[name] = evidence.number(evidence.columns[column], hint)[0]
                if (kinds[name].decimal, kinds[name].thousands) != (".", ""):
                    table.notes.append(f"Column {name!r} is read with {kinds[name].decimal!r} as decimal mark.")
    return kinds


def _refuse_outer_spaces(categories: Any) -> None:
    """Refuse a model whose categories have outer spaces, which are no longer read. categories: of its metadata."""
    for name, texts in categories.items() if isinstance(categories, dict) else ():
        known = texts if isinstance(texts, list) else []
        spaced = [text for text in known if isinstance(text, str) and text != text.strip()]
        if spaced:
            raise click.UsageError(
                f"The model is from before outer spaces were left out: it knows {spaced[0]!r} in column {name!r}. "
                "Train it again."
            )


def model_inputs(
    rows: pa.Table | pd.DataFrame,
    schema: Any,
    kinds: Mapping[str, Kind],
    first_row: int = 1,
    parameter: str = "data",
) -> pd.DataFrame:
    """The columns that a model asks for, in its order and with its types.

    rows: new instances: a batch of `OpenedTable`, or a DataFrame.
    schema: the input schema of the model's signature.
    kinds: what `kinds_of` gives.
    first_row: the number of the first of the rows in their file, for messages.

    Raises click.BadParameter for a column that is lacking, and for a value of the wrong kind, with its row.
    """
    index = rows.index if isinstance(rows, pd.DataFrame) else None
    table = _as_arrow(rows) if isinstance(rows, pd.DataFrame) else rows
    columns: dict[str, Any] = {}
    for column in schema.inputs:
        found = find_name(column.name, table.column_names)
        if found is None and column.required:
            have = ", ".join(table.column_names)
            raise bad(parameter, column.name, f"is a column that the model needs; the file has: {have}.")
        if column.type in BY_KIND:
            kind = kinds.get(column.name, Kind("category"))
            columns[column.name] = _by_kind(table, found, column, kind, first_row, parameter)
        elif found is not None and (read := converted(table[found], column, first_row, parameter)) is not None:
            columns[column.name] = read
    X = pd.DataFrame(columns, index=pd.RangeIndex(len(table)), copy=False)
    return X if index is None else X.set_axis(index)


def _by_kind(table: pa.Table, found: str | None, column: Any, kind: Kind, first_row: int, parameter: str) -> pd.Series:
    """A column that a model takes as numbers, true or false, or text. found: its name; None where it is lacking."""
    type_name = column.type.name
    if found is None:
        found, table = column.name, pa.table({column.name: pa.nulls(len(table), pa.string())})
    if type_name in NUMBERS and kind.kind == "boolean":
        return _values(table, found, kind, first_row, parameter).astype("float64")
    if type_name in NUMBERS and kind.kind != "number":
        kind = Kind("number", missing=kind.missing)
    elif type_name == "boolean":
        kind = Kind("boolean", missing=kind.missing)
    elif type_name == "string" and kind.kind in ("number", "boolean"):
        kind = Kind("category", missing=kind.missing)
    values = _values(table, found, kind, first_row, parameter)
    return to_float32(values, column.name, first_row, parameter) if type_name == "float" else values


def unseen(X: pd.DataFrame, known: Mapping[str, list[str]]) -> dict[str, Counter[str]]:
    """Values of categorical columns that the model never saw in training, with how often each occurs."""
    found = {}
    for name, categories in known.items():
        strange = {value for value in set(X[name].tolist()) if not pd.isna(value)} - set(categories)
        if strange:
            found[name] = Counter(X[name][X[name].isin(strange)])
    return found


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    """A DataFrame as a table; columns that arrow has no type for (texts among numbers) as text."""
    arrays = []
    for position in range(frame.shape[1]):
        values = frame.iloc[:, position]
        try:
            arrays.append(pa.array(values, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays.append(pa.array(values.map(str, na_action="ignore"), pa.string(), from_pandas=True))
    return pa.Table.from_arrays(arrays, names=[str(name) for name in frame.columns])


def _values(table: pa.Table, name: str, kind: Kind, first_row: int, parameter: str) -> pd.Series:
    """The cells of a column as values: float64, bool, or text as object."""
    field = table.schema.field(name)
    if pa.types.is_nested(field.type) or (field.metadata or {}).get(b"written") == b"nested":
        raise bad(parameter, name, "is a column whose cells are lists or objects.")
    if (field.metadata or {}).get(b"written") == b"number" and kind.kind == "number":
        kind = Kind("number", missing=kind.missing)  # JSON writes numbers in one way
    convert = {"number": _numbers, "boolean": _truths}.get(kind.kind, _texts)
    known: dict[str, str] = {}  # of each text one object, which is fast to compare
    values = np.empty(len(table), dtype="float64" if kind.kind == "number" else object)
    start = 0
    for chunk in table[name].chunks:
        cells, codes = chunk, None
        if pa.types.is_dictionary(chunk.type):
            cells, codes = chunk.dictionary, chunk.indices
        elif kind.kind != "number":
            coded = as_text(chunk).dictionary_encode()
            cells, codes = coded.dictionary, coded.indices
        found, wrong = convert(cells, kind, known)
        here = values[start : start + len(chunk)]
        if codes is None:
            here[:] = found
        else:
            none: Any = np.nan if convert is not _truths else None
            at = codes.fill_null(len(found)).to_numpy(zero_copy_only=False)
            np.take(np.append(found, none), at, out=here, mode="clip")
            wrong = np.append(wrong, False)[at] if wrong.any() else wrong
        if wrong.any():
            row = int(np.argmax(wrong))
            right = "is not a (finite) number." if convert is _numbers else "is neither true nor false."
            if kind not in (Kind("number", missing=kind.missing), Kind("boolean", missing=kind.missing)):
                right = right.replace(".", ", written as in training.")
            raise bad(parameter, chunk[row].as_py(), f"in column {name!r}, row {first_row + start + row}, {right}")
        start += len(chunk)
    if convert is _truths and not pd.isna(values).any():
        return pd.Series(values.astype(bool), copy=False)
    return pd.Series(values, dtype=values.dtype, copy=False)


def _numbers(cells: pa.Array, kind: Kind, known: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells as numbers, and which of them are none."""
    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        values = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # a float64 is what is asked for
        return values, np.isinf(values)
    if kind == Kind("number") and (values := quick_numbers(cells)) is not None:
        return values, np.zeros(len(values), dtype=bool)
    texts = as_text(cells)
    absent = pc.or_(
        pc.fill_null(pc.is_in(texts, pa.array([*MISSING, *kind.missing], pa.string())), True), pc.is_null(texts)
    )
    present = pc.if_else(absent, pa.scalar(None, pa.string()), texts) if pc.any(absent).as_py() else texts
    values = to_floats(present, kind)
    return values, ~np.isfinite(values) & ~np.asarray(absent)


def _truths(cells: pa.Array, kind: Kind, known: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    words = _words(cells, kind)
    values = np.array([None if word is None else TRUTH.get(word.lower()) for word in words], dtype=object)
    return values, np.array([word is not None and word.lower() not in TRUTH for word in words], dtype=bool)


def _texts(cells: pa.Array, kind: Kind, known: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    values = np.empty(len(cells), dtype=object)
    for position, word in enumerate(_words(cells, kind)):
        if word is not None and kind.spelling:
            word = kind.spelling.get(word.casefold(), word)
        values[position] = np.nan if word is None else known.setdefault(word, word)
    return values, np.zeros(len(cells), dtype=bool)


def _words(cells: pa.Array, kind: Kind) -> list[str | None]:
    absent = {*MISSING, *kind.missing, None}
    return [None if text in absent else text for text in as_text(cells).to_pylist()]
