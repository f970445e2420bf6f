"""Predict the class of new instances, written as people write them, with any logged classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.models.model import ModelInfo

from evaluation import decide
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.parameters import option
from support.scoring import Scored, SparkScorer, check_output, load, say_unseen, score
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
def predict(model_uri: str, data: str, output: str, prediction_column: str, **how: Any) -> None:
    """Write the class and the class probabilities of each new instance."""
    check_output(output, how["engine"])
    predictor = load_predictor(model_uri)
    called = {"prediction": prediction_column}

    with mlflow.start_run() as run:
        describe_run(run, "predict")
        found = score(predictor, model_uri, data, output, called=called, artifact="predictions.csv", **how)
        names = dict(zip(metric_names(sorted(found.counts), "predicted_"), sorted(found.counts), strict=True))
        mlflow.log_metrics({"instances": found.rows, **{name: found.counts[label] for name, label in names.items()}})
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
        predicted = decide(probabilities, self.classes, metadata.get("positive"), metadata.get("threshold"))
        added = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in self.classes])
        added.insert(0, "prediction", pd.Index(self.classes)[predicted])
        return added


def load_predictor(model_uri: str) -> Predictor:
    """The classifier behind a URI. Raises click.BadParameter as `support.scoring.load` does."""
    info, model = load(model_uri)
    if "sklearn" in info.flavors and hasattr(model, "predict_proba"):
        return Predictor(info, model.predict_proba, model.predict, list(model.classes_))
    classes, schema = (info.metadata or {}).get("classes"), info.signature.params
    if classes and schema and "predict_method" in [param.name for param in schema.params]:
        method = {"predict_method": "predict_proba"}
        return Predictor(info, lambda X: model.predict(X, params=method), model.predict, classes)
    return Predictor(info, None, model.predict, [])


def say_predicted(found: Scored) -> None:
    """Print the first predictions, how many instances got each class, and categories that the model has not seen."""
    first = found.first
    if first.shape[1] > 4:  # many classes: the probability of the predicted one
        first = first.iloc[:, :1].assign(probability=first.iloc[:, 1:].max(axis=1))
    click.echo(first.to_string())
    say_unseen(found)
    one = "{label} {times:,} ({share:.1%})"
    counts = sorted(found.counts.items())
    shares = ", ".join(tr(one, label=label, times=times, share=times / found.rows) for label, times in counts)
    click.echo(tr("{rows:,} instances: {shares}", rows=found.rows, shares=shares))


set_model(SparkScorer(load_predictor))  # with engine=spark, MLflow runs this file in each worker

if __name__ == "__main__":
    run_command(predict)
