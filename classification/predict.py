"""Predict the class of new instances, written as people write them, with any logged classifier."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from evaluation import decide
from support.entry_point import log_working_tree, name_run, run_command, say_where_to_look
from support.inputs import kinds_of, model_inputs, unseen
from support.names import free_names
from support.parameters import option
from support.table import OpenedTable, bad, dataset_source, open_table, short_name
from support.table_writer import TableWriter
from support.texts import metric_names

OPTIONS = [
    click.Option(["--model_uri"], required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder."),
    option("data", default="data/new_customers.jsonl", help="Path or URL of a table with new instances."),
    option("output", help="Where to write the predictions besides the run: a .csv or .parquet file."),
    option("prediction_column", default="prediction", help="What to call the column with the predicted class."),
    option("batch_size", click.IntRange(min=1), 50_000, "Rows in memory at a time."),
    option("engine", click.Choice(["local", "spark"]), "local", "What does the work."),
]


@click.command(params=OPTIONS)
def predict(model_uri: str, data: str, output: str, prediction_column: str, batch_size: int, engine: str) -> None:
    """Write the class and the class probabilities of each new instance."""
    if engine == "local" and output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    predictor = load_predictor(model_uri)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        name_run("predict")
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        if engine == "spark":
            found = predict_on_spark(predictor, model_uri, data, output, prediction_column)
        else:
            file = Path(output).expanduser() if output else Path(folder) / "predictions.csv"
            found = predict_locally(predictor, open_table(data), prediction_column, batch_size, file)
            mlflow.log_artifact(str(file))
        log_predicted(found, data, model_uri, predictor.info)
        say_predicted(found)
        click.echo(f"Predictions: {output or f'runs:/{run.info.run_id}/predictions.csv'}")
        say_where_to_look()


@dataclass(frozen=True)
class Predictor:
    """A logged classifier.

    info: what MLflow knows of it: signature, metadata.
    probabilities: from features to probabilities (rows, classes); None where the model has none.
    labels: from features to classes (rows,), for a model without probabilities.
    classes: in the order of the probabilities.
    """

    info: ModelInfo
    probabilities: Callable[[pd.DataFrame], np.ndarray] | None
    labels: Callable[[pd.DataFrame], Any]
    classes: list[Any]

    @property
    def metadata(self) -> dict[str, Any]:
        return self.info.metadata or {}

    def predict(self, X: pd.DataFrame) -> pd.DataFrame:
        """What is written beside each row: its class as `prediction`, and probabilities where the model has them."""
        if self.probabilities is None:
            return pd.DataFrame({"prediction": np.asarray(self.labels(X)).ravel()})
        probabilities = np.asarray(self.probabilities(X))
        positive, threshold = self.metadata.get("positive"), self.metadata.get("threshold")
        predicted = np.asarray(self.classes)[decide(probabilities, self.classes, positive, threshold)]
        named = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in self.classes])
        return pd.concat([pd.DataFrame({"prediction": predicted}), named], axis=1)


def load_predictor(model_uri: str) -> Predictor:
    """The classifier behind a URI.

    Raises click.BadParameter where there is none, or where it says nothing on the columns that it needs.
    """
    try:
        info = mlflow.models.get_model_info(model_uri)
        if info.signature is None or not info.signature.inputs.has_input_names():
            raise bad("model_uri", model_uri, "has no signature with column names: log it with one.")
        sklearn = "sklearn" in info.flavors
        model = mlflow.sklearn.load_model(model_uri) if sklearn else mlflow.pyfunc.load_model(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None

    if sklearn and hasattr(model, "predict_proba"):
        return Predictor(info, model.predict_proba, model.predict, list(model.classes_))
    classes, schema = (info.metadata or {}).get("classes"), info.signature.params
    if classes and schema and "predict_method" in [param.name for param in schema.params]:
        method = {"predict_method": "predict_proba"}
        return Predictor(info, lambda X: model.predict(X, params=method), model.predict, classes)
    return Predictor(info, None, model.predict, [])


@dataclass(frozen=True)
class Predicted:
    """What the prediction of a table came to.

    rows: how many instances there were.
    counts: how many of each class.
    unseen: for each column, the categories that the model never saw, with how often each occurs.
    digest: of the columns that the model takes.
    """

    rows: int
    counts: Counter[str]
    unseen: dict[str, Counter[str]]
    digest: str


def predict_locally(
    predictor: Predictor, table: OpenedTable, prediction_column: str, batch_size: int, file: Path
) -> Predicted:
    """Predict a table a batch at a time in this process, and write it to a file, with its own columns as they came."""
    schema = predictor.info.signature.inputs
    kinds = kinds_of(predictor.metadata, schema, table)
    for note in table.notes:
        click.echo(note, err=True)
    strange: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    digest, done = hashlib.sha256(), 0
    with TableWriter(file) as writer:
        for rows in table.batches(batch_size):
            X = model_inputs(rows, schema, kinds, first_row=done + 1)
            added = predictor.predict(X)
            counts.update({str(label): times for label, times in added["prediction"].value_counts().items()})
            added = renamed(added, prediction_column, table.names, say=not done)
            writer.write(rows, added)
            for name, values in unseen(X, predictor.metadata.get("categories", {})).items():
                strange.setdefault(name, Counter()).update(values)
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(rows)
    return Predicted(done, counts, strange, digest.hexdigest()[:8])


def predict_on_spark(predictor: Predictor, model_uri: str, data: str, output: str, prediction_column: str) -> Predicted:
    """Predict a table in the workers of Spark, which write it to a folder of files or a table of the catalog.

    Raises click.BadParameter as `predict_locally` does, where there is no Spark, and where the output exists.
    """
    from support import on_spark  # late: the local engine needs no Spark

    spark = on_spark.spark_session()
    on_spark.refuse_output(spark, output)
    frame = on_spark.read_on_spark(spark, data)
    head = on_spark.first_rows(frame, data, rows=5)
    schema = predictor.info.signature.inputs
    kinds = kinds_of(predictor.metadata, schema)
    X = model_inputs(head, schema, kinds)
    example = renamed(predictor.predict(X), prediction_column, frame.columns, say=True)
    known = predictor.metadata.get("categories", {})
    scored = on_spark.score_on_spark(frame, model_uri, example, schema.input_names(), known, output, kinds=kinds)
    return Predicted(scored.rows, scored.counts, scored.unseen, scored.digest)


def renamed(added: pd.DataFrame, prediction_column: str, taken: list[str], say: bool) -> pd.DataFrame:
    """The new columns under names that the table does not have yet.

    say: print the first predictions, and names that were taken.
    """
    named = added.rename(columns={"prediction": prediction_column})
    free = free_names(named.columns, taken)
    if say:
        for old, new in free.items():
            if old != new:
                click.echo(f"The table has a column {old!r}: the new one is called {new!r}.", err=True)
        shown = named.rename(columns=free).head()
        if shown.shape[1] > 4:  # many classes: the probability of the predicted one
            shown = shown.iloc[:, :1].assign(probability=shown.iloc[:, 1:].max(axis=1))
        click.echo(shown.to_string())
    return named.rename(columns=free)


def log_predicted(found: Predicted, data: str, model_uri: str, info: ModelInfo) -> None:
    """Log what the prediction of a table came to, to the active run: the table, the model, counts."""
    dataset = MetaDataset(dataset_source(data), name=short_name(data), digest=found.digest)  # type: ignore[abstract]
    mlflow.log_input(dataset, context="inference")
    run = mlflow.active_run()
    if info.model_id and run:  # shows the run on the page of the model
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(info.model_id)])
    labels = sorted(found.counts)
    names = dict(zip(metric_names(labels, "predicted_"), labels, strict=True))
    mlflow.log_metrics({"instances": found.rows, **{name: found.counts[label] for name, label in names.items()}})
    mlflow.set_tag("model_uri", model_uri)


def say_predicted(found: Predicted) -> None:
    """Print how many instances got each class, and the categories that the model has not seen."""
    for name, values in found.unseen.items():
        listed = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
        click.echo(f"Warning: column {name!r} holds categories that the model has not seen: {listed}.", err=True)
    counts = sorted(found.counts.items())
    shares = ", ".join(f"{label} {times:,} ({times / found.rows:.1%})" for label, times in counts)
    click.echo(f"{found.rows:,} instances: {shares}")


if __name__ == "__main__":
    run_command(predict)
