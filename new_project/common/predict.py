"""Predict new instances with the model of a run: `mlflow run . -e predict -P model_uri=runs:/<run id>/model`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from support.entry_point import log_working_tree, name_run, run_command, say_where_to_look
from support.inputs import kinds_of, model_inputs
from support.names import free_names
from support.parameters import option
from support.table import bad, open_table
from support.table_writer import TableWriter

BATCH = 50_000  # rows in memory at a time
OPTIONS = [
    click.Option(["--model_uri"], required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder."),
    option("data", default="@data@", help="Path or URL of a table with new instances."),
    option("output", help="Where to write the predictions besides the run: a .csv or .parquet file."),
]


@click.command(params=OPTIONS)
def predict(model_uri: str, data: str, output: str) -> None:
    """Write what the model predicts beside the columns of each new instance."""
    if output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    model, info = load(model_uri)
    table = open_table(data)
    schema = info.signature.inputs
    kinds = kinds_of(info.metadata, schema, table)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        name_run("predict")
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        file = Path(output).expanduser() if output else Path(folder) / "predictions.csv"
        rows = 0
        with TableWriter(file) as writer:
            for batch in table.batches(BATCH):
                X = model_inputs(batch, schema, kinds, first_row=rows + 1)
                added = predictions(model, X)
                added = added.rename(columns=free_names(added.columns, table.names))
                if not rows:
                    click.echo(added.head().to_string())
                writer.write(batch, added)
                rows += len(batch)
        mlflow.log_artifact(str(file))
        mlflow.log_metric("instances", rows)
        click.echo(f"{rows:,} instances. Predictions: {output or f'runs:/{run.info.run_id}/predictions.csv'}")
        say_where_to_look()


def load(model_uri: str) -> tuple[Any, Any]:
    """The model behind a URI, and what MLflow knows of it. Raises click.BadParameter where there is none."""
    try:
        return mlflow.sklearn.load_model(model_uri), mlflow.models.get_model_info(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None


def predictions(model: Any, X: pd.DataFrame) -> pd.DataFrame:
    """What the model predicts for each row: `prediction`, and the probability of each class where it has classes."""
    if not hasattr(model, "predict_proba"):
        return pd.DataFrame({"prediction": model.predict(X)})
    probabilities = model.predict_proba(X)
    added = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in model.classes_])
    added.insert(0, "prediction", np.asarray(model.classes_)[probabilities.argmax(axis=1)])
    return added


if __name__ == "__main__":
    run_command(predict)
