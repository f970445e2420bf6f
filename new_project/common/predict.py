"""Predict new instances with the model of a run: `mlflow run . -e predict -P model_uri=runs:/<run id>/model`."""

from __future__ import annotations

from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.models.model import ModelInfo

from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.parameters import option
from support.scoring import check_output, load, say_unseen, score

BATCH = 50_000  # rows in memory at a time
OPTIONS = [
    click.Option(["--model_uri"], required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder."),
    option("data", default="@data@", help="Path or URL of a table with new instances."),
    option("output", help="Where to write the predictions besides the run: a .csv or .parquet file."),
]


@click.command(params=[*OPTIONS, LANGUAGE])
def predict(model_uri: str, data: str, output: str) -> None:
    """Write what the model predicts beside the columns of each new instance."""
    check_output(output, "local")
    predictor = Predictor(*load(model_uri))
    with mlflow.start_run() as run:
        describe_run(run, "predict")
        found = score(
            predictor,
            model_uri,
            data,
            output,
            engine="local",
            batch_size=BATCH,
            called={},
            artifact="predictions.csv",
        )
        mlflow.log_metric("instances", found.rows)
        click.echo(found.first.to_string())
        say_unseen(found)
        where = output or f"runs:/{run.info.run_id}/predictions.csv"
        click.echo(tr("{rows:,} instances. Predictions: {where}", rows=found.rows, where=where))
        say_where_to_look()


class Predictor:
    """A model, and what MLflow knows of it."""

    def __init__(self, info: ModelInfo, model: Any) -> None:
        self.info = info
        self.model = model

    def add(self, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
        """What is written beside each row: `prediction`, and the probability of each class where there are classes."""
        if not hasattr(self.model, "predict_proba"):
            return pd.DataFrame({"prediction": self.model.predict(X)})
        probabilities = self.model.predict_proba(X)
        added = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in self.model.classes_])
        added.insert(0, "prediction", np.asarray(self.model.classes_)[probabilities.argmax(axis=1)])
        return added


if __name__ == "__main__":
    run_command(predict)
