# Copied by `make vendor` from support/scoring.py of the collection: edit that, or this in your own copy.
"""Score new rows with a model and write what it adds beside them: in batches here, or in the workers of Spark."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click
import mlflow
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PythonModel, PythonModelContext
from threadpoolctl import threadpool_limits

from support.inputs import absent_notes, kinds_of, model_inputs, unseen
from support.language import tr, warn
from support.names import free_names
from support.server_errors import note_models_used
from support.table import bad, dataset_source, open_table, short_name
from support.table_writer import TableWriter


class Model(Protocol):
    """A logged model."""

    @property
    def info(self) -> ModelInfo:
        """What MLflow knows of it: signature, metadata."""

    def add(self, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
        """The columns to write beside rows, the answer first. X: what the signature asks for."""


@dataclass(frozen=True)
class Scored:
    """What the scoring of a table came to.

    rows: how many there were.
    first: what was added to the first five.
    counts: rows by each value of the first column that was added, as text.
    unseen: for each column, the categories that the model never saw, with how often each occurs.
    sums: of the columns to add up.
    digest: eight hexadecimal digits of the table: of its file or, on Spark, of the columns that the model takes.
    """

    rows: int
    first: pd.DataFrame
    counts: Counter[str]
    unseen: dict[str, Counter[str]]
    sums: dict[str, int]
    digest: str


def load(model_uri: str) -> tuple[ModelInfo, Any]:
    """What MLflow knows of a model, and the model itself: that of scikit-learn where it is one.

    Raises click.BadParameter where it cannot be loaded, or says nothing on the columns that it needs.
    """
    try:
        info = mlflow.models.get_model_info(model_uri)
        if info.signature is None or not info.signature.inputs.has_input_names():
            raise bad("model_uri", model_uri, "has no signature with column names: log it with one.")
        flavor: Any = mlflow.sklearn if "sklearn" in info.flavors else mlflow.pyfunc
        return info, flavor.load_model(model_uri)
    except (MlflowException, OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None


def score(
    model: Model,
    model_uri: str,
    data: str,
    output: str,
    *,
    engine: str,
    batch_size: int,
    called: Mapping[str, str],
    artifact: str,
    sums: tuple[str, ...] = (),
) -> Scored:
    """Score a table, and log it, the model and, but on Spark, what was written to the active run.

    engine: `local`, as `score_here`, or `spark`, as `score_on_spark`.
    output: where to write; `artifact`: the name of what is logged where it is empty.
    """
    with tempfile.TemporaryDirectory() as folder:
        if engine == "spark":
            found = score_on_spark(model, model_uri, data, output, called=called, sums=sums)
        else:
            file = Path(output).expanduser() if output else Path(folder) / artifact
            found = score_here(model, data, file, called=called, batch_size=batch_size, sums=sums)
            mlflow.log_artifact(str(file))
    log_scored(found, data, model_uri, model)
    return found


def score_here(
    model: Model, data: str, file: Path, *, called: Mapping[str, str], batch_size: int, sums: Iterable[str] = ()
) -> Scored:
    """Score a table in this process and write it, its own columns as they came, to a file.

    data: path or URL of the table.
    called: other names for columns that the model adds.
    batch_size: rows in memory at a time.
    sums: columns that the model adds which are added up instead of written.

    Raises click.BadParameter where there is no such table, and for a value that the model does not take, with its row.
    """
    table = open_table(data)
    schema, metadata = model.info.signature.inputs, model.info.metadata or {}
    kinds = kinds_of(metadata, schema, table)
    for note in table.notes:
        click.echo(note, err=True)
    names: dict[str, str] = {}
    first = pd.DataFrame()
    counts: Counter[str] = Counter()
    strange: dict[str, Counter[str]] = {}
    totals = dict.fromkeys(sums, 0)
    done = 0
    # Threads that wait for the next batch cost more than they help.
    with TableWriter(file) as writer, threadpool_limits(1, "blas"):
        for rows in table.batches(batch_size):
            X = model_inputs(rows, schema, kinds, first_row=done + 1)
            added = model.add(X, first_row=done + 1)
            for name in totals:
                totals[name] += int(added.pop(name).sum())
            if not done:
                names = names_of(added.columns, called, table.names)
                first = added.rename(columns=names).head()
            writer.write(rows, added.rename(columns=names))
            found = added.iloc[:, 0].value_counts(dropna=False)
            counts.update(dict(zip(map(str, found.index), found.tolist(), strict=True)))
            for name, values in unseen(X, metadata.get("categories", {})).items():
                strange.setdefault(name, Counter()).update(values)
            done += len(rows)
    return Scored(done, first, counts, strange, totals, table.digest())


def score_on_spark(
    model: Model, model_uri: str, data: str, output: str, *, called: Mapping[str, str], sums: tuple[str, ...] = ()
) -> Scored:
    """As `score_here`, in the workers of Spark, which write a folder of files or a table of the catalog.

    Raises click.BadParameter as `score_here` does, where there is no Spark, and where the output exists.
    """
    from support import on_spark  # late: the local engine needs no Spark

    spark = on_spark.spark_session()
    on_spark.refuse_output(spark, output)
    frame = on_spark.read_on_spark(spark, data)
    head = on_spark.first_rows(frame, data, rows=5)
    schema, metadata = model.info.signature.inputs, model.info.metadata or {}
    kinds = kinds_of(metadata, schema)
    for note in absent_notes(schema, frame.columns):
        click.echo(note, err=True)
    added = model.add(model_inputs(head, schema, kinds))
    names = names_of([name for name in added.columns.tolist() if name not in sums], called, [*frame.columns, *sums])
    first = added.rename(columns=names)
    rows, counts, strange, totals, digest = on_spark.score(
        frame, model_uri, first, schema.input_names(), metadata.get("categories", {}), output, kinds=kinds, sums=sums
    )
    return Scored(rows, first.drop(columns=[*sums]), counts, strange, totals, digest)


class SparkScorer(PythonModel):
    """A logged model in a worker of Spark: from rows as people write them to what the model adds to them.

    load: from where the model lies to the model. A `predict.py` gives MLflow one of these by `set_model`, and MLflow
    runs that file in the worker ("models from code").
    """

    def __init__(self, load: Callable[[str], Model]) -> None:
        self.load = load

    def load_context(self, context: PythonModelContext) -> None:
        self.model = self.load(context.artifacts["model"])
        self.schema = self.model.info.signature.inputs
        self.kinds = kinds_of(self.model.info.metadata, self.schema)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        added = self.model.add(model_inputs(model_input, self.schema, self.kinds))
        return added.set_axis(context.model_config["columns"], axis=1)  # the table may have columns of our names


def names_of(added: Iterable[str], called: Mapping[str, str], taken: Iterable[str]) -> dict[str, str]:
    """What to call the columns that we add; prints where the table has a column of the name already."""
    wanted = {name: called.get(name, name) for name in added}
    free = free_names(wanted.values(), taken)
    for name, new in free.items():
        if new != name:
            click.echo(f"The table has a column {name!r}: the new one is called {new!r}.", err=True)
    return {name: free[chosen] for name, chosen in wanted.items()}


def check_output(output: str, engine: str) -> None:
    """Raise click.BadParameter, before any work, for a file in a folder that does not exist."""
    if engine == "local" and output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")


def log_scored(found: Scored, data: str, model_uri: str, model: Model) -> None:
    """Log to the active run the table that was scored, and the model that did it."""
    dataset = MetaDataset(dataset_source(data), name=short_name(data), digest=found.digest)  # type: ignore[abstract]
    mlflow.log_input(dataset, context="inference")
    run = mlflow.active_run()
    if model.info.model_id and run:  # shows the run on the page of the model
        note_models_used(run.info.run_id, [model.info.model_id])
    mlflow.set_tag("model_uri", model_uri)


def say_unseen(found: Scored) -> None:
    """Point out the categories that the model has not seen."""
    for name, values in found.unseen.items():
        listed = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
        text = tr("column {name!r} holds categories that the model has not seen: {listed}.", name=name, listed=listed)
        warn(text)
