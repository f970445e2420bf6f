"""Predict the class of new instances, written as people write them, with any logged classifier."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable
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

from project import log_working_tree, run_command, say_where_to_look
from table import bad, conform, dataset_source, read_batches, short_name

Predictor = Callable[[pd.DataFrame], tuple[np.ndarray, pd.DataFrame | None]]


def load_predictor(model_uri: str) -> tuple[Predictor, ModelInfo]:
    """The model behind a URI, as a function from features to classes and probabilities (columns `probability_<class>`).

    Probabilities are None where the model has none. Raises click.BadParameter where there is no such model, or where
    it says nothing on the columns that it needs.
    """
    try:
        description = mlflow.models.get_model_info(model_uri)
        if description.signature is None or not description.signature.inputs.has_input_names():
            raise bad("model_uri", model_uri, "has no signature with column names: log it with one.")
        if "sklearn" in description.flavors:
            model = mlflow.sklearn.load_model(model_uri)
        else:
            model = mlflow.pyfunc.load_model(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None

    def native(X: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame | None]:
        if not hasattr(model, "predict_proba"):
            return model.predict(X), None
        return _most_probable(model.predict_proba(X), list(model.classes_))

    def generic(X: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame | None]:
        classes = (description.metadata or {}).get("classes")
        schema = description.signature.params
        if not classes or schema is None or "predict_method" not in [param.name for param in schema.params]:
            return np.asarray(model.predict(X)).ravel(), None
        return _most_probable(np.asarray(model.predict(X, params={"predict_method": "predict_proba"})), classes)

    return (native if "sklearn" in description.flavors else generic), description


def _most_probable(probabilities: np.ndarray, classes: list) -> tuple[np.ndarray, pd.DataFrame]:
    named = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in classes])
    return np.asarray(classes)[probabilities.argmax(axis=1)], named


def unseen(X: pd.DataFrame, known: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """Values of categorical columns that the model never saw in training, with how often each occurs."""
    found = {}
    for name, categories in known.items():
        values = X[name].dropna()
        strange = values[~values.isin(categories)]
        if len(strange):
            found[name] = Counter(strange)
    return found


@click.command()
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--output", default="", help="Where to write the predictions besides the run: a path ending in .csv.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
def predict(model_uri: str, data: str, output: str, batch_size: int) -> None:
    """Write the class and the class probabilities of each new instance."""
    if output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    predictor, description = load_predictor(model_uri)
    schema = description.signature.inputs
    known = (description.metadata or {}).get("categories", {})
    text = tuple(column.name for column in schema.inputs if column.type.name == "string")

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params({"model_uri": model_uri, "data": data, "output": output, "batch_size": batch_size})
        log_working_tree()
        file = Path(output).expanduser() if output else Path(folder) / "predictions.csv"
        strange: dict[str, Counter[str]] = {}
        predicted: Counter[Any] = Counter()
        digest = hashlib.sha256()
        done = 0
        for frame in read_batches(data, batch_size=batch_size, text_columns=text):
            X = conform(frame, schema, first_row=done + 1)
            labels, probabilities = predictor(X)
            for name, values in unseen(X, known).items():
                strange.setdefault(name, Counter()).update(values)
            written = frame.reset_index(drop=True).assign(prediction=labels)
            if probabilities is not None:
                written = pd.concat([written, probabilities], axis=1)
            written.to_csv(file, mode="a" if done else "w", header=not done, index=False)
            if not done:
                click.echo(written.iloc[:5, -min(written.shape[1], 3) :].to_string())
            predicted.update(labels.tolist())
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(frame)
        for name, values in strange.items():
            shown = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
            click.echo(f"Warning: column {name!r} holds categories that the model has not seen: {shown}.", err=True)

        source, name = dataset_source(data), short_name(data)
        dataset = MetaDataset(source, name=name, digest=digest.hexdigest()[:8])  # type: ignore[abstract]
        mlflow.log_input(dataset, context="inference")
        if description.model_id:  # shows the run on the page of the model
            mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(description.model_id)])
        mlflow.log_artifact(str(file))
        counts = {re.sub(r"[^\w.\- :/]", "_", f"predicted_{label}"): times for label, times in predicted.items()}
        mlflow.log_metrics({"instances": done, **counts})
        mlflow.set_tag("model_uri", model_uri)
        shares = ", ".join(
            f"{label} {times:,} ({times / done:.1%})" for label, times in sorted(predicted.items(), key=str)
        )
        click.echo(f"{done:,} instances: {shares}")
        click.echo(f"Predictions: {file}" if output else f"Predictions: runs:/{run.info.run_id}/predictions.csv")
        say_where_to_look()


if __name__ == "__main__":
    run_command(predict)
