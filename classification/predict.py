"""Predict the class of new instances, written as people write them, with any logged classifier."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from support.table import bad, conform, dataset_source, read_batches, short_name
from support.table_writer import TableWriter

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

    def decided(probabilities: np.ndarray, classes: list) -> tuple[np.ndarray, pd.DataFrame]:
        named = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in classes])
        known = description.metadata or {}
        return np.asarray(classes)[decide(probabilities, classes, known.get("positive"), known.get("threshold"))], named

    def native(X: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame | None]:
        if not hasattr(model, "predict_proba"):
            return model.predict(X), None
        return decided(model.predict_proba(X), list(model.classes_))

    def generic(X: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame | None]:
        classes = (description.metadata or {}).get("classes")
        schema = description.signature.params
        if not classes or schema is None or "predict_method" not in [param.name for param in schema.params]:
            return np.asarray(model.predict(X)).ravel(), None
        return decided(np.asarray(model.predict(X, params={"predict_method": "predict_proba"})), classes)

    return (native if "sklearn" in description.flavors else generic), description


def unseen(X: pd.DataFrame, known: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """Values of categorical columns that the model never saw in training, with how often each occurs."""
    found = {}
    for name, categories in known.items():
        values = X[name].dropna()
        strange = values[~values.isin(categories)]
        if len(strange):
            found[name] = Counter(strange)
    return found


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


def added_columns(predictor: Predictor, X: pd.DataFrame) -> pd.DataFrame:
    """What is written beside each row: its class as `prediction`, and the probabilities where the model has them."""
    labels, probabilities = predictor(X)
    added = pd.DataFrame({"prediction": labels})
    return added if probabilities is None else pd.concat([added, probabilities], axis=1)


def predict_locally(predictor: Predictor, description: ModelInfo, data: str, batch_size: int, file: Path) -> Predicted:
    """Predict a table a batch at a time in this process, and write it to a file."""
    schema, known = description.signature.inputs, (description.metadata or {}).get("categories", {})
    text = tuple(column.name for column in schema.inputs if column.type.name == "string")
    strange: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    done = 0
    with TableWriter(file) as writer:
        for frame in read_batches(data, batch_size=batch_size, text_columns=text):
            X = conform(frame, schema, first_row=done + 1)
            added = added_columns(predictor, X)
            for name, values in unseen(X, known).items():
                strange.setdefault(name, Counter()).update(values)
            rows = frame.reset_index(drop=True).drop(columns=added.columns, errors="ignore")
            writer.write(pd.concat([rows, added], axis=1))
            if not done:
                show(added)
            counts.update({str(label): times for label, times in added["prediction"].value_counts().items()})
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(frame)
    return Predicted(done, counts, strange, digest.hexdigest()[:8])


def predict_on_spark(predictor: Predictor, description: ModelInfo, model_uri: str, data: str, output: str) -> Predicted:
    """Predict a table in the workers of Spark, which write it to a folder of files or a table of the catalog.

    Raises click.BadParameter as `predict_locally` does, where there is no Spark, and where the output exists.
    """
    from support import on_spark  # late: the local engine needs no Spark

    spark = on_spark.spark_session()
    on_spark.refuse_output(spark, output)
    frame = on_spark.read_on_spark(spark, data)
    head = on_spark.first_rows(frame, data, rows=5)
    schema, known = description.signature.inputs, (description.metadata or {}).get("categories", {})
    example = added_columns(predictor, conform(head, schema))
    show(example)
    scored = on_spark.score_on_spark(frame, model_uri, example, schema.input_names(), known, output)
    return Predicted(scored.rows, scored.counts, scored.unseen, scored.digest)


def show(added: pd.DataFrame) -> None:
    """Print the first predictions."""
    click.echo(added.iloc[:5, -min(added.shape[1], 3) :].to_string())


@click.command()
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--output", default="", help="Where to write the predictions besides the run: a .csv or .parquet file.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="What does the work.")
def predict(model_uri: str, data: str, output: str, batch_size: int, engine: str) -> None:
    """Write the class and the class probabilities of each new instance."""
    if engine == "local" and output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    predictor, description = load_predictor(model_uri)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        name_run("predict")
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        if engine == "spark":
            found = predict_on_spark(predictor, description, model_uri, data, output)
        else:
            file = Path(output).expanduser() if output else Path(folder) / "predictions.csv"
            found = predict_locally(predictor, description, data, batch_size, file)
            mlflow.log_artifact(str(file))
        for name, values in found.unseen.items():
            shown = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
            click.echo(f"Warning: column {name!r} holds categories that the model has not seen: {shown}.", err=True)

        source, name = dataset_source(data), short_name(data)
        dataset = MetaDataset(source, name=name, digest=found.digest)  # type: ignore[abstract]
        mlflow.log_input(dataset, context="inference")
        if description.model_id:  # shows the run on the page of the model
            mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(description.model_id)])
        counts = {re.sub(r"[^\w.\- :/]", "_", f"predicted_{label}"): times for label, times in found.counts.items()}
        mlflow.log_metrics({"instances": found.rows, **counts})
        mlflow.set_tag("model_uri", model_uri)
        shares = ", ".join(
            f"{label} {times:,} ({times / found.rows:.1%})" for label, times in sorted(found.counts.items())
        )
        click.echo(f"{found.rows:,} instances: {shares}")
        click.echo(f"Predictions: {output or f'runs:/{run.info.run_id}/predictions.csv'}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(predict)
