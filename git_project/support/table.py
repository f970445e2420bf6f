# Copied by `make vendor` from support/table.py of the collection: edit that, or this in your own copy.
"""Find a table that a user names and read its rows in batches; refuse in one line what is no table."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import lzma
import re
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow as pa

from support import staged
from support.text_file import BOMS, NotATableError, TextFile

FOLDER = Path(__file__).resolve().parent.parent  # of the example
KEEP = 400_000_000  # bytes of cells that are held in memory between two readings
ZIP = b"PK\x03\x04"
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# What else people have: how it begins, what it is, and what to do.
_SAVE = "save it as CSV or Parquet ({} reads it)"
OTHER_FORMS = {
    rb"7z\xbc\xaf|Rar!": ("an archive of another kind than .zip", "unpack it"),
    rb".{257}ustar": ("a tar archive", "unpack it, and give one table"),
    rb"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with unzstd"),
    rb"ARROW1|FEA1": ("a Feather file", _SAVE.format("pandas.read_feather")),
    rb"ORC": ("an ORC file", _SAVE.format("pandas.read_orc")),
    rb"\x89HDF": ("an HDF5 file", _SAVE.format("pandas.read_hdf")),
    rb"<stata_dta>|[l-s][\x01\x02]\x01\0": ("a Stata file", _SAVE.format("pandas.read_stata")),
    rb"\$FL[23]": ("an SPSS file", _SAVE.format("pandas.read_spss")),
    rb"\0{12}\xc2\xea\x81\x60|HEADER RECORD\*": ("a SAS file", _SAVE.format("pandas.read_sas")),
    rb"[XAB]\n\0|RD[AX][23]": ("a file of R", "save it with write.csv"),
    rb"Obj\x01": ("an Avro file", "save it as CSV or Parquet"),
    rb"SQLite format 3": ("an SQLite database", _SAVE.format("pandas.read_sql")),
    rb"\x80[\x02-\x05]|\x93NUMPY": ("a pickle or an array of NumPy", "save it as CSV or Parquet"),
    rb"%PDF": ("a PDF", "give the table in it as CSV"),
}
DBFS = Path("/dbfs")  # where a Databricks cluster mounts dbfs:/


def bad(parameter: str, value: object, right: str) -> click.BadParameter:
    """The error for a parameter that a user can put right: names the parameter, the value and what would be right."""
    return click.BadParameter(f"{str(value)!r} {right}", param_hint=repr(f"--{parameter}"))


def absolute(source: str) -> str:
    """The full name of a table: a URL or catalog.schema.table as it stands, a relative path as one beside this file."""
    return source if is_url(source) or is_catalog_name(source) else str(FOLDER / Path(source).expanduser())


def short_name(source: str) -> str:
    """What to call a table by: the name of its file without the ending, or the last part of catalog.schema.table."""
    return source.rpartition(".")[2] if is_catalog_name(source) else Path(source).stem


def dataset_source(source: str) -> Any:
    """The source of a table as MLflow records it with a dataset: a file, a URL, or a table of Spark's catalog."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.spark_dataset_source import SparkDatasetSource

    if is_catalog_name(source):
        return SparkDatasetSource(table_name=source)
    if source.startswith("dbfs:/"):  # a path of Spark; MLflow resolves every other scheme
        return SparkDatasetSource(path=source)
    return resolve_dataset_source(absolute(source))


def open_table(source: str, parameter: str = "data") -> OpenedTable:
    """Find a table and understand its form; its rows are read later.

    source: path or URL of delimited text (CSV), Parquet, JSON, JSON Lines or Excel, also compressed (.gz, .zip, .bz2,
    .xz); on Databricks also dbfs:/..., /Volumes/... and, where there is a Spark session, catalog.schema.table.
    parameter: the name under which the user gave it, for messages.

    Raises click.BadParameter when it is missing, empty or not a table.
    """
    folder = tempfile.TemporaryDirectory()
    with _one_line(source, parameter):
        if is_catalog_name(source):
            form: Any = staged.StagedTable(Path(folder.name), _catalog_batches(source, parameter))
        else:
            form = _form_of(_unpacked(_local_file(source, Path(folder.name)), Path(folder.name)), Path(folder.name))
    return OpenedTable(source, parameter, form, folder)


class OpenedTable:
    """A table that can be read, several times.

    names: of the columns. row_names: those of them that name the rows (a Parquet index, R's row names).
    notes: what was guessed, converted or left out, in sentences for the user. separator: of delimited text, else ",".
    """

    def __init__(self, source: str, parameter: str, form: Any, folder: tempfile.TemporaryDirectory[str]) -> None:
        self.source, self.parameter, self._form, self._folder = source, parameter, form, folder
        self.names: list[str] = form.names
        self.row_names: list[str] = form.row_names
        self.notes: list[str] = list(form.notes)
        self.separator: str = getattr(form, "separator", ",")
        self._kept: list[pa.Table] = []

    def batches(
        self, batch_size: int | None = None, columns: list[str] | None = None, *, keep: bool = False
    ) -> Iterator[pa.Table]:
        """The rows in batches, cells as the file has them: text, or the types of Parquet.

        batch_size: rows in a batch; None for whatever comes.
        columns: which to read; None for all.
        keep: hold the rows in memory for the next time, unless they are many.

        Raises click.BadParameter when the file turns out not to be a table, or to have no rows.
        """
        if self._kept:
            yield from _rebatched((batch.select(columns or self.names) for batch in self._kept), batch_size)
            return
        rows = size = 0
        kept: list[pa.Table] | None = [] if keep and batch_size is None else None
        with _one_line(self.source, self.parameter):
            for batch in _rebatched(self._form.read(None if keep else columns), batch_size):
                rows += len(batch)
                if kept is not None:
                    kept.append(batch)
                    size += batch.nbytes
                    kept = kept if size < KEEP else None
                yield batch.select(columns) if columns is not None else batch
        if not rows:
            raise bad(self.parameter, self.source, "has a header but no rows.")
        self._kept = kept or []

    def digest(self) -> str:
        """Eight hexadecimal digits that change with the content of the file."""
        digest = hashlib.sha256()
        for path in self._form.files:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:8]


@contextmanager
def _one_line(source: str, parameter: str) -> Iterator[None]:
    """Turn whatever goes wrong when a table is read into a click.BadParameter."""
    try:
        yield
    except NotATableError as error:
        raise bad(parameter, source, str(error)) from None
    except OSError as error:  # includes every failure of urllib
        raise bad(parameter, source, _why(source, error)) from None
    except (pa.ArrowException, ValueError) as error:
        raise bad(parameter, source, f"cannot be read: {str(error).strip().splitlines()[0]}") from None
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise bad(parameter, source, f"cannot be unpacked: {str(error).strip()}") from None


def _rebatched(batches: Iterator[pa.Table], size: int | None) -> Iterator[pa.Table]:
    """Batches of exactly so many rows, but for the last."""
    if size is None:
        yield from batches
        return
    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(batch)
        while sum(map(len, waiting)) >= size:
            rows = pa.concat_tables(waiting, promote_options="default")
            yield rows.slice(0, size)
            waiting = [rows.slice(size)]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting, promote_options="default")


def _unpacked(path: Path, folder: Path, layer: int = 1) -> Path:
    """The table itself, where it is packed, and packed again."""
    with open(path, "rb") as file:
        start = file.read(6)
    with ExitStack() as stack:
        if start.startswith(ZIP):
            archive = stack.enter_context(zipfile.ZipFile(path))
            inside = [name for name in archive.namelist() if not re.search(r"/$|^__MACOSX|(^|/)\.", name)]
            if "[Content_Types].xml" in inside:
                return path  # Excel
            if "content.xml" in inside:
                raise NotATableError("is an OpenDocument spreadsheet: save it as .xlsx or .csv.")
            if len(inside) != 1:
                raise NotATableError(f"holds {len(inside)} files ({', '.join(inside[:5])}): give one table.")
            packed: Any = stack.enter_context(archive.open(inside[0]))
        else:
            opener = next((opener for mark, opener in PACKED.items() if start.startswith(mark)), None)
            if opener is None:
                return path
            packed = stack.enter_context(opener(path))
        unpacked = folder / f"unpacked {layer}"
        with open(unpacked, "wb") as file:
            shutil.copyfileobj(packed, file)
    return _unpacked(unpacked, folder, layer + 1)


def _form_of(path: Path, folder: Path) -> Any:
    """The table in a file, by how the file begins."""
    with open(path, "rb") as file:
        start = file.read(512)
    for mark, (what, way) in OTHER_FORMS.items():
        if re.match(mark, start, re.DOTALL):
            raise NotATableError(f"is {what}: {way}.")
    if start.startswith(b"PAR1"):
        return staged.ParquetTable(path)
    if start.startswith(ZIP):
        return staged.excel(path, folder)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
            raise NotATableError("is an Excel workbook with a password: save it without one.")
        raise NotATableError("is an old Excel file: save it as .xlsx or .csv.")
    encoding = next((encoding for mark, encoding in BOMS.items() if start.startswith(mark)), "utf-8")
    if start.decode(encoding, errors="ignore").lstrip()[:1] in ("[", "{"):
        return staged.json_table(path, folder)
    return TextFile(path, folder)


def is_url(source: str) -> bool:
    """Whether a source is an address, and not a path of this machine."""
    return "://" in source or source.startswith("dbfs:/")


def is_catalog_name(source: str) -> bool:
    """Whether a name is that of a table, catalog.schema.table, and not of a file such as my.new.csv."""
    parts = source.split(".")
    endings = ("csv", "gz", "json", "jsonl", "ndjson", "parquet", "tsv", "txt", "xls", "xlsx", "zip")
    names = len(parts) == 3 and all(re.fullmatch(r"[\w-]+", part) for part in parts)
    return names and parts[2].lower() not in endings and not (FOLDER / source).exists()


def _catalog_batches(name: str, parameter: str) -> Iterator[pa.Table]:
    """A table of Spark's catalog, which on Databricks is Unity Catalog."""
    reads = "reads as the table catalog.schema.table, and"
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise bad(parameter, name, f"{reads} there is no Spark here to read it with: give a file.") from None
    try:
        spark = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
        table = spark.table(".".join(f"`{part}`" for part in name.split(".")))
        rows = table.toLocalIterator()
        while batch := list(itertools.islice(rows, staged.BATCH)):
            frame = pd.DataFrame.from_records(batch, columns=table.columns)
            yield pa.Table.from_pandas(frame, preserve_index=False)
    except PySparkException as error:
        reason = str(error).strip().splitlines()[0]
        raise bad(parameter, name, f"{reads} Spark cannot read it: {reason}") from None


def _local_file(source: str, folder: Path) -> Path:
    """The file itself, downloaded into `folder` where the source is a URL."""
    source = absolute(source)
    if not is_url(source):
        return Path(source)
    if source.startswith("dbfs:/") and (DBFS / source.removeprefix("dbfs:").lstrip("/")).exists():
        return DBFS / source.removeprefix("dbfs:").lstrip("/")
    if source.split("://")[0] in ("http", "https", "file"):
        with urllib.request.urlopen(source) as response, open(folder / "table", "wb") as file:
            shutil.copyfileobj(response, file)
        return folder / "table"
    from mlflow.artifacts import download_artifacts  # s3://, gs://, abfss://, dbfs:/ ... with MLflow's own clients

    return Path(download_artifacts(artifact_uri=source, dst_path=str(folder)))


def _why(source: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        hint = (
            "" if Path(source).is_absolute() else ' (a relative path starts in the project\'s folder: give "$PWD/...")'
        )
        return f"does not exist{hint}."
    if isinstance(error, IsADirectoryError):
        return "is a folder: give one file."
    return f"cannot be read: {getattr(error, 'strerror', None) or error}."
