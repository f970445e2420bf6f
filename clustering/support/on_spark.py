# Copied by `make vendor` from support/on_spark.py of the collection: edit that, or this in your own copy.
"""Run on Spark what one machine cannot hold: read a table, have a model score it in the workers, write the result."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import mlflow.pyfunc
import pandas as pd
import pyarrow as pa

from support.entry_point import FOLDER
from support.evidence import MISSING
from support.kinds import Evidence, Kind
from support.names import find_name
from support.staged import ParquetTable
from support.table import absolute, bad, is_catalog_name, is_url
from support.text_file import NotATableError, TextFile
from support.texts import short

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


def spark_session(parameter: str = "engine") -> SparkSession:
    """The Spark session: the cluster's, or else one on this machine.

    parameter: the one that asked for Spark, for messages.

    Raises click.BadParameter where there is no PySpark or no Java for it.
    """
    needs = "needs PySpark: install this project's requirements-spark.txt; it needs Java 17."
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise bad(parameter, "spark", needs) from None
    if session := SparkSession.getActiveSession():
        return session
    builder = SparkSession.builder
    at_home = "DATABRICKS_RUNTIME_VERSION" not in os.environ
    if at_home:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the workers need what this process has
        for name in ("spark.ui.enabled", "spark.ui.showConsoleProgress"):
            builder = builder.config(name, "false")
    try:
        session = builder.getOrCreate()
    except PySparkException:
        raise bad(parameter, "spark", needs) from None
    if at_home:
        session.sparkContext.setLogLevel("OFF")  # what fails in a worker is said here, in one line
        session.conf.set("spark.sql.caseSensitive", "true")  # as in pandas
    return session


def send_modules(spark: SparkSession) -> None:
    """Let the workers import the modules of this example, in functions that they are sent."""
    for path in [*sorted(FOLDER.glob("*.py")), _packed_support()]:  # without Spark Connect, one at a time
        spark.addArtifacts(str(path), pyfile=True)


@cache
def _packed_support() -> str:
    """The modules of support/ in one file, the same for all of a process: a session refuses another of this name."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the workers fetch it when they begin to work
    return shutil.make_archive(f"{folder}/support", "zip", FOLDER, "support")


def select(frame: DataFrame, names: list[str]) -> DataFrame:
    """Columns by their names, whatever these hold."""
    return frame.select(*map(_column, names))


@contextmanager
def one_line(parameter: str, value: object) -> Iterator[None]:
    """Turn what Spark raises into a click.BadParameter, in the words of the worker where one refuses a value."""
    from pyspark.errors import PySparkException

    try:
        yield
    except Exception as error:
        # Spark raises the second, which is of a package that it brings, where a file cannot be read.
        if not isinstance(error, PySparkException) and type(error).__name__ != "Py4JJavaError":
            raise
        text = str(error)
        if mistake := re.search(r"click\.exceptions\.BadParameter: (.*)", text):
            said = re.sub(r", row \d+,?", "", mistake[1])  # a row of a batch, which nobody knows
            raise click.BadParameter(said, param_hint=repr(f"--{parameter}")) from None
        why = re.search(r"\[[A-Z_.]+\] .*", text) or re.search(".*", text.strip())
        cure = "" if parameter == "output" else " Take engine=local, which says where the table is wrong."
        raise bad(parameter, value, f"fails on Spark: {why[0] if why else text}{cure}") from None


def read_on_spark(spark: SparkSession, source: str, parameter: str = "data") -> DataFrame:
    """A table as a Spark DataFrame, the columns of a CSV file as text: what they hold is for pandas to say.

    source: a path or address, which all workers can read, of CSV or JSON where its name ends so, else Parquet; a
    folder of such files; or a table of Spark's catalog as catalog.schema.table.

    Raises click.BadParameter when it is missing or not such a table.
    """
    source = absolute(source)
    if source.startswith(("http://", "https://")):
        raise bad(parameter, source, "is a web address, which Spark does not read: download it, or take engine=local.")
    if not is_url(source) and not is_catalog_name(source) and not Path(source).exists():
        raise bad(parameter, source, "does not exist.")
    with one_line(parameter, source):
        if is_catalog_name(source):
            return spark.table(_quoted(*source.split(".")))
        if is_text(source):
            return _read_csv(spark, source, parameter)
        if _ending(source) in ("json", "jsonl", "ndjson"):
            return _read_json(spark, source, parameter)
        if Path(source).is_file() and _ending(source) != "parquet":
            raise bad(parameter, source, f"is {_NOT_FOR_SPARK}.")
        return spark.read.parquet(_path(source))


_NOT_UTF8 = "is a file that Spark does not read: It is not UTF-8. Take engine=local, or save it as UTF-8."
_NOT_FOR_SPARK = "a form of file that Spark does not read: take engine=local, or write CSV, JSON Lines or Parquet"


def _read_json(spark: SparkSession, source: str, parameter: str) -> DataFrame:
    """JSON Lines, or an array of objects. Raises click.BadParameter for another form of JSON."""
    from pyspark.sql import functions

    text = spark.read.text(_path(source))
    if text.where(functions.col("value").rlike("[\\x00\\ufffd]")).limit(1).collect():
        raise bad(parameter, source, _NOT_UTF8)
    lines = [row[0].lstrip("\ufeff \t") for row in text.limit(1000).collect()]
    array = bool(lines) and lines[0].startswith("[")
    frame = spark.read.json(_path(source), multiLine=array, mode="FAILFAST")
    if len(lines) == 1 and not array and any(type_.startswith(("array", "struct")) for _, type_ in frame.dtypes):
        raise bad(parameter, source, f"is {_NOT_FOR_SPARK}.")
    order: list[str] = []  # of the first object; Spark sorts the columns
    with suppress(ValueError):
        order = list(json.JSONDecoder().raw_decode("\n".join(lines).lstrip("[ \n"))[0])
    return select(frame, sorted(frame.columns, key=lambda name: order.index(name) if name in order else len(order)))


def _head(spark: SparkSession, source: str, parameter: str) -> TextFile:
    """What the first lines of delimited text say. Raises click.BadParameter where they are none."""
    text = "".join(row[0] + "\n" for row in spark.read.text(_path(source)).limit(200).collect())
    if "\0" in text or "\ufffd" in text:
        raise bad(parameter, source, _NOT_UTF8)
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head"
        head.write_text(text, encoding="utf-8")
        try:
            return TextFile(head, Path(folder), whole=False)
        except NotATableError as error:
            raise bad(parameter, source, str(error)) from None


def _read_csv(spark: SparkSession, source: str, parameter: str) -> DataFrame:
    """Delimited text as text. Raises click.BadParameter for a file that only the local engine understands."""
    from pyspark.sql import functions

    table = _head(spark, source, parameter)
    line, edge = functions.col("value"), re.escape(table.separator)
    odd = (functions.length(line) - functions.length(functions.translate(line, '"', ""))) % 2 == 1
    behind = line.rlike(f'[^{edge}"]"[^{edge}"]')
    lines, wrong = spark.read.text(_path(source)), line.rlike("\ufffd")  # what is not UTF-8 is read as that
    if lines.where(wrong).limit(1).collect():
        raise bad(parameter, source, _NOT_UTF8)
    quotes = lines.where(line.rlike(f'(^|{edge}) *"') & (odd | behind)).limit(1).collect()
    why = " ".join(table.notes)
    if table.spaced or quotes:
        why = f"There are cells over several lines, or quotes at their edges ({short(quotes[0][0] if quotes else '')})."
    if why:
        raise bad(parameter, source, f"is a file that Spark does not read: {why} Take engine=local, or mend the file.")
    schema = ", ".join(f"{_quoted(name)} string" for name in table.names)
    options: dict[str, Any] = {"header": True, "sep": table.separator, "quote": '"', "escape": '"', "mode": "FAILFAST"}
    return spark.read.csv(_path(source), schema=schema, **options)


def decide_on_spark(
    frame: DataFrame,
    source: str,
    kinds: str = "",
    missing_values: str = "",
    *,
    drop: Iterable[str] = (),
    asked: Iterable[str] = (),
) -> tuple[dict[str, Kind], list[str]]:
    """What the columns of a table of `read_on_spark` are, and what is to be said of it: `kinds.decide` on all rows.

    Raises click.BadParameter as `decide` does; rows have no number on Spark.
    """
    source = absolute(source)
    dropped = set(drop)
    with one_line("data", source):
        said = _said_by_file(frame.sparkSession, source)
        labels = [name for name in said.row_names if name not in asked]
        wanted = [name for name in frame.columns if name not in dropped]
        evidence = Evidence(wanted, missing_values, kinds, frame.columns, labels)
        _gather(frame, evidence, said.categories, again=False)
        _gather(frame, evidence, said.categories, again=True)
    if not any(column.rows for column in evidence.columns.values()):
        raise bad("data", source, "has no rows.")
    decided = evidence.decide(said.separator)
    return {name: decided[name] for name in wanted}, evidence.notes(decided, set(asked))


class _Said(NamedTuple):
    """What a file says beside its cells: as attributes of `OpenedTable` and of `ParquetTable`."""

    separator: str = ","
    row_names: Iterable[str] = ()
    categories: Iterable[str] = ()


def _said_by_file(spark: SparkSession, source: str) -> _Said:
    if is_text(source):
        table = _head(spark, source, "data")
        return _Said(table.separator, table.row_names)
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if is_url(source) or is_catalog_name(source) or not files or _ending(str(files[0])) in ("json", "jsonl", "ndjson"):
        return _Said()
    parquet = ParquetTable(files[0])
    return _Said(row_names=parquet.row_names, categories=parquet.categories)


def _gather(frame: DataFrame, evidence: Evidence, categories: Iterable[str], *, again: bool) -> None:
    """Collect evidence in the workers, all of it or, again, of the columns whose texts were not counted."""
    names = evidence.incomplete() if again else list(evidence.columns)
    if not names:
        return
    empty = pickle.dumps(evidence.without_rows(names))
    typed = {name: {b"written": b"category"} for name in categories}

    def gather(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        part = pickle.loads(empty)
        for batch in batches:
            fields = [field.with_metadata(typed.get(field.name)) for field in batch.schema]
            part.add(pa.Table.from_batches([batch]).cast(pa.schema(fields)), 0, again=again)
        part.forget_rows()  # here they are those of a batch
        yield pa.RecordBatch.from_pydict({"part": [pickle.dumps(part)]})

    for row in select(frame, names).mapInArrow(gather, "part binary").collect():
        evidence.merge(pickle.loads(row[0]))


def is_text(source: str) -> bool:
    """Whether a table is read on Spark as text only."""
    return not is_catalog_name(source) and _ending(source) in ("csv", "tsv", "txt", "gz")


def first_rows(frame: DataFrame, source: str, rows: int, parameter: str = "data") -> pd.DataFrame:
    """Some rows of `read_on_spark`, for the driver to look at. Raises click.BadParameter where there are none."""
    with one_line(parameter, source):
        head = frame.limit(rows).toPandas()
    if head.empty:
        raise bad(parameter, source, "has no rows.")
    return head


def score(
    frame: DataFrame,
    model_uri: str,
    example: pd.DataFrame,
    inputs: list[str],
    known: dict[str, list[str]],
    output: str,
    *,
    kinds: Mapping[str, Kind] | None = None,
    sums: tuple[str, ...] = (),
) -> tuple[int, Counter[str], dict[str, Counter[str]], dict[str, int], str]:
    """Score a table in Spark's workers with `predict.py`, and write its rows and the scorer's columns beside them.

    Returns rows, counts, unseen, sums and digest, as in `scoring.Scored`; the digest is one for any order of the rows.

    example: what the scorer gives for a few rows, under names that the table does not have (`free_names`). The scorer
    (`support.scoring.SparkScorer`) gives its columns these names.
    inputs: the columns that the model takes; those that the frame lacks are optional.
    known: the categories that the model saw, by column.
    output: a path or a table of the catalog that does not exist yet; CSV where it ends in .csv, else Parquet.
    kinds: the decision on the model's columns.
    sums: columns of the example to leave out of the result and add up instead.

    Raises click.BadParameter for a value that the scorer refuses, and for an output that exists.
    """
    from pyspark.sql import Observation, functions

    present = {name: column for name in inputs if (column := find_name(name, frame.columns)) is not None}
    categories = {name: _category(_column(present[name]), (kinds or {}).get(name)) for name in known if name in present}
    strange = {name: text.isNotNull() & ~text.isin(known[name]) for name, text in categories.items()}
    columns = {name: functions.col(f"`scored `.{_quoted(name)}") for name in example.columns}
    added = [column.alias(name) for name, column in columns.items() if name not in sums]
    observation = Observation()
    observed = _observed(present.values(), strange, {name: columns[name] for name in sums})
    with tempfile.TemporaryDirectory() as folder, one_line("data", "scoring"):
        scorer = _scorer(frame.sparkSession, f"{folder}/scorer", model_uri, example)
        scored = frame.withColumn("scored ", scorer(functions.struct(*_asked(frame, present, known))))
        scored = scored.observe(observation, *(value.alias(name) for name, value in observed.items()))
        written = _write(scored.select(*map(_column, frame.columns), *added), output)
        counts = _counts(written, _column(example.columns[0]))
        found = observation.get
        met = {name: condition for name, condition in strange.items() if found[f"unseen {name}"]}
        unseen = {name: _counts(frame.where(condition), categories[name]) for name, condition in met.items()}
    totals = {name: found[f"sum {name}"] for name in sums}
    return found["rows"], counts, unseen, totals, f"{int(found['hash']) % 2**32:08x}"


def _observed(inputs: Iterable[str], strange: dict[str, Column], sums: dict[str, Column]) -> dict[str, Column]:
    """What is counted while rows are written. strange: where a category is unseen. sums: columns to add up."""
    from pyspark.sql import functions

    return {
        "rows": functions.count(functions.lit(1)),
        "hash": functions.sum(functions.xxhash64(*map(_column, inputs)).cast("decimal(38,0)")),
        **{f"unseen {name}": functions.count_if(condition) for name, condition in strange.items()},
        **{f"sum {name}": functions.sum(column.cast("long")) for name, column in sums.items()},
    }


def _asked(frame: DataFrame, present: dict[str, str], known: Iterable[str]) -> list[Column]:
    """The columns for the model, under its names. Codes go as text: beside missing ones pandas would round them."""
    types, cells = dict(frame.dtypes), {name: _column(column) for name, column in present.items()}
    for name in known:
        if name in present and types[present[name]] in ("bigint", "int"):
            cells[name] = cells[name].cast("string")
    return [cell.alias(name) for name, cell in cells.items()]


def _counts(frame: DataFrame, column: Column) -> Counter[str]:
    """How many rows there are of each value of a column."""
    return Counter({str(row[0]): row[1] for row in frame.groupBy(column).count().collect()})


def _category(column: Column, kind: Kind | None) -> Column:
    """A column of categories as `inputs` reads it: without outer spaces, missing values as null."""
    from pyspark.sql import functions

    text = functions.regexp_replace(column.cast("string"), r"(?U)^\s+|\s+$", "")
    text = functions.when(~text.isin([*MISSING, *(kind.missing if kind else ())]), text)
    for folded, spelled in (kind.spelling if kind else {}).items():
        text = functions.when(functions.lower(text) == folded, spelled).otherwise(text)
    return text


def refuse_output(spark: SparkSession, output: str) -> None:
    """Raise click.BadParameter where Spark cannot write to a new path or table of this name."""
    if not output:
        raise bad(
            "output", output, "is empty: engine=spark writes a folder (or a table of the catalog), and needs a name."
        )
    if is_catalog_name(output):
        with one_line("output", output):
            exists = spark.catalog.tableExists(_quoted(*output.split(".")))
    else:
        path = Path(_local(output))
        exists = not is_url(output) and path.exists()
        if not is_url(output) and not path.parent.is_dir():
            raise bad("output", output, "lies in a folder that does not exist.")
    if exists:
        raise bad("output", output, "exists: engine=spark writes where nothing stands yet.")


def _scorer(spark: SparkSession, folder: str, model_uri: str, example: pd.DataFrame) -> Any:
    """The user-defined function that gives the columns of the example for a struct of a model's inputs."""
    from pyspark.sql.types import BooleanType, DoubleType, LongType, StringType, StructField, StructType

    types = {"b": BooleanType(), "i": LongType(), "f": DoubleType()}
    fields = [StructField(str(name), types.get(kind.kind, StringType())) for name, kind in example.dtypes.items()]
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(FOLDER / "predict.py"),
        artifacts={"model": model_uri},
        code_paths=[*map(str, sorted(FOLDER.glob("*.py"))), str(FOLDER / "support")],
        model_config={"columns": [str(name) for name in example.columns]},
        pip_requirements=[],
    )
    return mlflow.pyfunc.spark_udf(spark, folder, result_type=StructType(fields), env_manager="local")


def _write(frame: DataFrame, output: str) -> DataFrame:
    """Write rows to a new path or table; returns them as they stand there."""
    spark = frame.sparkSession
    if is_catalog_name(output):
        frame.write.saveAsTable(_quoted(*output.split(".")))
        return spark.table(_quoted(*output.split(".")))
    path = _path(output if is_url(output) else _local(output))
    if output.endswith(".csv"):
        frame.write.csv(path, header=True, escape='"')
        return spark.read.csv(path, header=True, escape='"')
    frame.write.parquet(path)
    return spark.read.parquet(path)


def _path(source: str) -> str:
    """How Spark calls a full path: a Volume and an address as they stand, other paths as files of the machine."""
    if is_url(source) or source.startswith("/Volumes/"):
        return source
    return f"dbfs:/{source.removeprefix('/dbfs/')}" if source.startswith("/dbfs/") else f"file://{source}"


def _local(output: str) -> str:
    return os.path.abspath(Path(output).expanduser())


def _ending(source: str) -> str:
    return source.rstrip("/").rpartition(".")[2].lower()


def _quoted(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def _column(name: str) -> Column:
    from pyspark.sql import functions

    return functions.col(_quoted(name))
