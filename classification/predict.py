"""Predict the class of new instances, written as people write them, with any logged classifier."""

from __future__ import annotations

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
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from evaluation import decide
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.parameters import option
from support.scoring import Scored, check_output, log_scored, say_unseen, score_here, score_on_spark
from support.table import bad
from support.texts import metric_names

OPTIONS = [
    click.Option(["--model_uri"], required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder."),
    option("data", default="data/new_customers.jsonl", help="Path or URL of a table with new instances."),
    option("output", help="Where to write the predictions besides the run: a .csv or .parquet file."),
    option("prediction_column", default="prediction", help="What to call the column with the predicted class."),
    option("batch_size", click.IntRange(min=1), 100_000, "Rows in memory at a time."),
    option("engine", click.Choice(["local", "spark"]), "local", "What does the work."),
]


@click.command(params=[*OPTIONS, LANGUAGE])
def predict(model_uri: str, data: str, output: str, prediction_column: str, batch_size: int, engine: str) -> None:
    """Write the class and the class probabilities of each new instance."""
    check_output(output, engine)
    predictor = load_predictor(model_uri)
    called = {"prediction": prediction_column}

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        describe_run(run, "predict")
        if engine == "spark":
            found = score_on_spark(predictor, model_uri, data, output, called=called)
        else:
            file = Path(output).expanduser() if output else Path(folder) / "predictions.csv"
            found = score_here(predictor, data, file, called=called, batch_size=batch_size)
            mlflow.log_artifact(str(file))
        log_scored(found, data, model_uri, predictor)
        log_counts(found.counts)
        say_predicted(found)
        click.echo(tr("Predictions: {where}", where=output or f"runs:/{run.info.run_id}/predictions.csv"))
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

    def add(self, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
        """What is written beside each row: its class as `prediction`, and probabilities where the model has them."""
        if self.probabilities is None:
            return pd.DataFrame({"prediction": np.asarray(self.labels(X)).ravel()})
        probabilities = np.asarray(self.probabilities(X))
        metadata = self.info.metadata or {}
        positive, threshold = metadata.get("positive"), metadata.get("threshold")
        predicted = pd.Index(self.classes)[decide(probabilities, self.classes, positive, threshold)]
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


def log_counts(counts: Counter[str]) -> None:
    """Log to the active run how many instances there are, and how many of each class."""
    labels = sorted(counts)
    names = dict(zip(metric_names(labels, "predicted_"), labels, strict=True))
    mlflow.log_metrics({"instances": counts.total(), **{name: counts[label] for name, label in names.items()}})


def say_predicted(found: Scored) -> None:
    """Print the first predictions, how many instances got each class, and categories that the model has not seen."""
    first = found.first
    if first.shape[1] > 4:  # many classes: the probability of the predicted one
        first = first.iloc[:, :1].assign(probability=first.iloc[:, 1:].max(axis=1))
    click.echo(first.to_string())
    say_unseen(found)
    counts = sorted(found.counts.items())
    one = "{label} {times:,} ({share:.1%})"
    shares = ", ".join(tr(one, label=label, times=times, share=times / found.rows) for label, times in counts)
    click.echo(tr("{rows:,} instances: {shares}", rows=found.rows, shares=shares))


if __name__ == "__main__":
    run_command(predict)
