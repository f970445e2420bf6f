# Copied by `make vendor` from support/table_writer.py of the collection: edit that, or this in your own copy.
"""Write a table a batch of rows at a time, as CSV or Parquet: cells as they came, and new columns beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from support.table import bad


class TableWriter:
    """A file that grows by batches of rows; Parquet where its name ends in .parquet, else CSV.

    file: where to write; overwritten.
    parameter: the one under which the user named the file, for messages.
    """

    def __init__(self, file: Path, parameter: str = "output") -> None:
        self.file, self.parameter = file, parameter
        self._parquet: Any = None
        self._begun = False

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._parquet:
            self._parquet.close()

    def write(self, rows: pa.Table | pd.DataFrame, added: pd.DataFrame | None = None) -> None:
        """Append rows.

        rows: a batch of `OpenedTable`, or a DataFrame.
        added: columns to write beside them, under names that the rows do not have.

        Raises click.BadParameter for Parquet where a column is not of the kind that it was before.
        """
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        metadata = dict(rows.schema.metadata or {})  # names the index of pandas
        if added is not None:
            beside = pa.Table.from_pandas(added, preserve_index=False)
            for name in beside.column_names:
                rows = rows.append_column(name, beside[name])
            if b"pandas" in metadata:  # it may say that names are numbers, or dates: those added are not
                metadata[b"pandas"] = json.dumps(json.loads(metadata[b"pandas"]) | {"column_indexes": []}).encode()
        if self.file.suffix == ".parquet":
            self._write_parquet(rows.replace_schema_metadata(metadata))
        else:
            self._write_csv(rows)
        self._begun = True

    def _write_csv(self, rows: pa.Table) -> None:
        cells = [_decoded(column) for column in rows.columns]
        table = pa.table(cells, names=rows.column_names)
        with open(self.file, "ab" if self._begun else "wb") as file:
            if not self._begun:
                header = quoted(pa.chunked_array([pa.array(rows.column_names, pa.string())]))
                file.write((",".join(header.to_pylist()) + "\n").encode())
            start = file.tell()
            try:
                options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
                pyarrow.csv.write_csv(table, file, options)  # fast, but it refuses cells to quote
            except pa.ArrowInvalid:
                file.seek(start)
                file.truncate()
                lines = pc.binary_join_element_wise(*(quoted(column.cast(pa.string())) for column in cells), ",")
                file.write(("\n".join(lines.to_pylist()) + "\n").encode())

    def _write_parquet(self, rows: pa.Table) -> None:
        try:
            if self._parquet is None:
                self._parquet = pyarrow.parquet.ParquetWriter(self.file, rows.schema)
            schema = self._parquet.schema
            self._parquet.write_table(rows.select(schema.names).cast(schema))
        except (pa.ArrowException, KeyError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise bad(self.parameter, self.file, f"cannot hold these rows: {reason} A .csv can.") from None


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that has a form as text; lists and objects as Python shows them."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        return column.cast(pa.string())  # as the writer of arrow does, which takes longer
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        texts = [None if cell is None else str(cell) for cell in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column


def quoted(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as they stand in a CSV file: in quotes where they hold a comma, a quote or a line's end."""
    texts = pc.fill_null(texts, "")
    special = pc.match_substring_regex(texts, '[,"\r\n]')
    doubled = pc.replace_substring(texts, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), texts)
