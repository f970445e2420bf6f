# Copied by `make vendor` from support/staged.py of the collection: edit that, or this in your own copy.
"""Tables that are not delimited text: Parquet, JSON, Excel, and rows that come from elsewhere."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from support.text_file import NotATableError, TextFile, as_utf8, refuse_twice

BATCH = 50_000  # rows
NUMBERS = {b"written": b"number"}  # marks a column of text that holds numbers of JSON, which have one way to be written


class ParquetTable:
    """A Parquet file; attributes as of `TextFile`."""

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self.files = [path]
        self._file = pyarrow.parquet.ParquetFile(path, pre_buffer=False)  # a buffered file ends up in memory whole
        schema = self._file.schema_arrow
        self.names: list[str] = schema.names
        refuse_twice(self.names)
        pandas = schema.pandas_metadata or {}
        self.categories = {
            column["name"] for column in pandas.get("columns", []) if column["pandas_type"] == "categorical"
        }
        self.categories |= {field.name for field in schema if pa.types.is_dictionary(field.type)}
        index = pandas.get("index_columns", [])
        self.row_names = [name for name in index if isinstance(name, str) and name in self.names]

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(batch_size=BATCH, columns=columns):
            table = pa.Table.from_batches([batch])
            fields = [
                field.with_metadata({b"written": b"category"}) if field.name in self.categories else field
                for field in table.schema
            ]
            yield table.cast(pa.schema(fields, table.schema.metadata))


class StagedTable:
    """Batches of rows in files of a folder, in which columns may turn up later; attributes as of `TextFile`."""

    def __init__(self, folder: Path, batches: Iterable[pa.Table], notes: list[str] | None = None) -> None:
        self.notes = [] if notes is None else notes
        self.row_names: list[str] = []
        self.files: list[Path] = []
        fields: dict[str, pa.DataType] = {}
        for batch in batches:
            fields |= {field.name: field.type for field in batch.schema if field.name not in fields}
            self.files.append(folder / f"{len(self.files)}.arrow")
            pyarrow.feather.write_feather(batch, str(self.files[-1]), compression="uncompressed")
        self.names, self._fields = list(fields), fields
        if not self.names:
            raise NotATableError("has no rows.")

    def read(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for path in self.files:
            batch = pyarrow.feather.read_table(str(path))
            for name in self.names:
                if name not in batch.column_names:
                    batch = batch.append_column(name, pa.nulls(len(batch), self._fields[name]))
            yield batch.select(columns or self.names)


class _Number(str):
    """A number as JSON writes it."""


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_Number, parse_float=_Number, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotATableError(f"has an object that holds {twice!r} twice: give each value its own name.")
    return found


def _as_json(cell: Any) -> str:
    """A list or an object as text, its numbers as they were written."""
    if isinstance(cell, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_as_json(value)}" for name, value in cell.items()) + "}"
    if isinstance(cell, list):
        return "[" + ", ".join(map(_as_json, cell)) + "]"
    return str(cell) if isinstance(cell, _Number) else json.dumps(cell, ensure_ascii=False)


def as_columns(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of JSON as text; lists and objects stay in their own form, to be refused by name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    arrays, fields = [], []
    for name in names:
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells} - {type(None)}
        mark: dict[bytes, bytes] | None = None
        if kinds & {dict, list}:
            mark = {b"written": b"nested"}
            cells = [cell if cell is None or isinstance(cell, str) else _as_json(cell) for cell in cells]
        elif kinds == {_Number}:
            mark = NUMBERS
        texts = [str(cell).lower() if isinstance(cell, bool | float) else cell for cell in cells]
        arrays.append(pa.array(texts, pa.string()))
        fields.append(pa.field(str(name), pa.string(), metadata=mark))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def json_table(path: Path, folder: Path) -> StagedTable:
    """JSON Lines, an array of objects, or one of the forms of pandas (`DataFrame.to_json`) and of MLflow's requests.

    Numbers stay as they are written: pandas would round long ones.
    """
    notes: list[str] = []
    path, _ = as_utf8(path, folder, notes)
    return StagedTable(folder, _json_batches(path, notes), notes)


def _json_batches(path: Path, notes: list[str]) -> Iterator[pa.Table]:
    with open(path, encoding="utf-8-sig") as file:
        rows: list[dict[str, Any]] = []
        number = 0
        for number, line in enumerate(file, start=1):
            if not (text := line.strip()):
                continue
            try:
                record = _loads(text)
            except json.JSONDecodeError as error:
                if number > 1 and text[0] == "{" and rows:
                    raise NotATableError(f"is malformed JSON at line {number}: {error.msg}.") from None
                record = None
            if not isinstance(record, dict):
                break  # not one object a line
            rows.append(record)
            if len(rows) == 1 and any(isinstance(cell, dict | list) for cell in record.values()):
                break  # perhaps a whole table in one line
            if len(rows) == BATCH:
                yield as_columns(rows)
                rows = []
        else:
            if rows:
                yield as_columns(rows)
            return
    if rows and number > 1:
        raise NotATableError(f"line {number} is not a JSON object.")
    try:
        document = _loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        if rows and "Extra data" in error.msg:  # objects with nested cells, one a line
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            yield as_columns([_loads(line) for line in lines if line.strip()])
            return
        raise NotATableError(f"is malformed JSON at line {error.lineno}: {error.msg}.") from None
    yield as_columns(_rows_of(document, notes))


def _rows_of(document: Any, notes: list[str]) -> list[dict[str, Any]]:
    """The rows in a JSON document."""
    if isinstance(document, list):
        if not all(isinstance(row, dict) for row in document):
            raise NotATableError("must be a JSON array that holds objects, one for each row.")
        return document
    if {"columns", "data"} <= set(document):  # orient="split"
        names = document["columns"]
        if any(isinstance(name, list | dict) for name in names):
            raise NotATableError("has columns of several levels: give each one name.")
        refuse_twice(names)
        for number, row in enumerate(document["data"], start=1):
            if len(row) != len(names):
                raise NotATableError(f"has {len(row)} values in row {number}, and {len(names)} columns.")
        return [dict(zip(names, row, strict=True)) for row in document["data"]]
    known = ("dataframe_split", "dataframe_records", "instances", "inputs", "data")  # of MLflow, of orient="table"
    keys = [key for key in known if isinstance(document.get(key), dict | list)]
    keys = keys or [key for key, cell in document.items() if _has_rows(cell)]
    if keys and (keys[0] in known or len(keys) == 1):
        beside = ", ".join(repr(other) for other in document if other not in (keys[0], "schema"))
        if beside:
            notes.append(f"The rows are those under {keys[0]!r}; beside them stands {beside}: left out.")
        return _rows_of(document[keys[0]], notes)
    cells = list(document.values())
    if cells and all(isinstance(cell, dict) for cell in cells):  # DataFrame.to_json()
        labels = list(cells[0])
        likely = 0.0 if _counts(labels) else 1.0 if _counts(document) else _likely_rows(cells)
        if likely:  # orient="index"
            if not _counts(document):
                guess = " (a guess)" if likely < 1 else ""
                notes.append(f"The rows have names ({next(iter(document))!r}, ...): left out{guess}.")
            return cells
        if any(list(cell) != labels for cell in cells):
            raise NotATableError("is a JSON object whose columns have different rows.")
        if not _counts(labels):
            notes.append(f"The rows have names ({labels[0]!r}, ...): left out.")
        return [{name: cell[label] for name, cell in document.items()} for label in labels]
    if cells and all(isinstance(cell, list) for cell in cells) and len({len(cell) for cell in cells}) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*cells, strict=True)]
    return [document]


def _has_rows(cell: Any) -> bool:
    """Whether a part of a document is a list of objects, or holds one."""
    if isinstance(cell, dict):
        return any(isinstance(part, list) and _has_rows(part) for part in cell.values())
    return isinstance(cell, list) and bool(cell) and all(isinstance(row, dict) for row in cell)


def _likely_rows(cells: list[dict[str, Any]]) -> float:
    """Whether objects are rows and no columns: 1 or 0 by the types of values, alike in a column; else 0.5 if many."""
    across = [[cell.get(label) for cell in cells] for label in cells[0]]
    here, there = _mixed(cell.values() for cell in cells), _mixed(across)
    return float(here > there) if here != there else 0.5 * (len(cells) > len(across))


def _mixed(parts: Iterable[Iterable[Any]]) -> int:
    """How many of the parts hold values of several types."""
    return sum(len({type(value) for value in part if value is not None}) > 1 for part in parts)


def _counts(labels: Iterable[str]) -> bool:
    """Whether labels are the numbers of rows: 0, 1, 2..."""
    return all(label == str(number) for number, label in enumerate(labels))


def excel(path: Path, folder: Path) -> TextFile:
    """The first sheet of an Excel workbook, by way of delimited text."""
    try:
        import openpyxl
    except ImportError:
        raise NotATableError(
            "is an Excel file, which needs openpyxl: pip install openpyxl, or save it as CSV."
        ) from None
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = next(sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible")
        sheet.reset_dimensions()  # what the file says of its size may be wrong
        rows = [[_excel_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        # openpyxl tells formulas beside values, and merged cells, only of a workbook that is in memory whole.
        content = workbook._archive.read(sheet._worksheet_path)
    except Exception:  # openpyxl raises whatever comes for what it does not know
        raise NotATableError("is no Excel workbook that can be read: save it as .xlsx or .csv.") from None
    _refuse_formulas(content, at_load=bool(workbook.calculation.fullCalcOnLoad))
    notes = _fill_merged(rows, content)
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows or (len(rows) == 1 and len(workbook.sheetnames) > 1):
        raise NotATableError(
            f"has no table on its first visible sheet, {sheet.title!r}: move the sheet with the table to the front."
        )
    width = max(len(row) - next(i for i, cell in enumerate([*reversed(row), "x"]) if cell) for row in rows)
    with open(folder / "sheet.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*row, *[""] * width][:width] for row in rows)
    table = TextFile(folder / "sheet.csv", folder)
    table.notes += notes
    if len(workbook.sheetnames) > 1:
        table.notes.append(
            f"The workbook has {len(workbook.sheetnames)} sheets: {sheet.title!r}, the first that is visible, is read."
        )
    return table


def _refuse_formulas(sheet: bytes, *, at_load: bool) -> None:
    """Refuse formulas whose values are not in the file. at_load: whether Excel is told to work them out."""
    formula = re.search(rb'<c r="(\w+)"(?![^>]*t="str")[^>]*><f[^<]*(?:</f>)?(?:<v ?/>|<v></v>)?</c>', sheet)
    if at_load and set(re.findall(rb"</f><v>([^<]*)", sheet)) == {b"0"}:  # what XlsxWriter puts for want of a value
        formula = formula or re.search(rb'<c r="(\w+)"[^>]*><f', sheet)
    if formula:
        cell = formula[1].decode()
        raise NotATableError(f"has a formula in cell {cell}, and no value of it: open it in Excel, and save it there.")


def _fill_merged(rows: list[list[str]], sheet: bytes) -> list[str]:
    """Give a merged cell its value in each row, in place; returns the note on it."""
    from openpyxl.utils import column_index_from_string

    filled = ""
    for letters, first, last in re.findall(rb'<mergeCell ref="([A-Z]+)([0-9]+):[A-Z]+([0-9]+)"', sheet):
        column = column_index_from_string(letters.decode())
        for row in rows[int(first) : int(last)]:
            row += [""] * (column - len(row))
            row[column - 1] = (rows[int(first) - 1][column - 1 : column] or [""])[0]
            filled = filled or f"{(letters + first).decode()}:{(letters + last).decode()}"
    return [f"Merged cells (such as {filled}) have their value in each row."] if filled else []


def _excel_text(cell: Any) -> str:
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
