"""Write a table a batch of rows at a time, as CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

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

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows. Raises click.BadParameter for Parquet where a column is not of the kind that it was before."""
        if self.file.suffix == ".parquet":
            self._write_parquet(frame)
        else:
            self._write_csv(frame)
        self._begun = True

    def _write_csv(self, frame: pd.DataFrame) -> None:
        import pyarrow.csv

        options = pyarrow.csv.WriteOptions(include_header=not self._begun, quoting_style="needed")
        try:
            rows = pyarrow.Table.from_pandas(frame, preserve_index=False)
            text = pyarrow.BufferOutputStream()
            pyarrow.csv.write_csv(rows, text, options)  # five times as fast as pandas
        except pyarrow.ArrowException:  # lists, records, or several kinds in one column
            frame.to_csv(self.file, mode="a" if self._begun else "w", header=not self._begun, index=False)
            return
        with open(self.file, "ab" if self._begun else "wb") as file:
            file.write(text.getvalue())

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        import pyarrow.parquet

        try:
            schema = self._parquet.schema if self._parquet else None
            rows = pyarrow.Table.from_pandas(frame, schema=schema, preserve_index=False)
            if self._parquet is None:
                self._parquet = pyarrow.parquet.ParquetWriter(self.file, rows.schema)
            self._parquet.write_table(rows)
        except (pyarrow.ArrowException, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise bad(self.parameter, self.file, f"cannot hold these rows: {reason} A .csv can.") from None
