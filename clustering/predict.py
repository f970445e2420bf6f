"""Assign customers, written as people write them, to the segments of any logged K-Means of this example."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from sklearn.pipeline import Pipeline

from project import log_working_tree, run_command, say_where_to_look
from table import bad, conform, dataset_source, read_batches, short_name


def load_pipeline(model_uri: str) -> tuple[Pipeline, ModelInfo]:
    """The model behind a URI: a Pipeline that ends in K-Means.

    Raises click.BadParameter where there is no such model, where it is another kind of model, or where it says nothing
    on the columns that it needs.
    """
    try:
        description = mlflow.models.get_model_info(model_uri)
        if description.signature is None or not description.signature.inputs.has_input_names():
            raise bad("model_uri", model_uri, "has no signature with column names: log it with one.")
        if "sklearn" not in description.flavors:
            raise bad("model_uri", model_uri, "is no scikit-learn model.")
        pipeline = mlflow.sklearn.load_model(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise bad("model_uri", model_uri, f"cannot be loaded: {reason}") from None
    if not isinstance(pipeline, Pipeline) or not hasattr(pipeline[-1], "cluster_centers_"):
        raise bad("model_uri", model_uri, "is no Pipeline that ends in K-Means.")
    return pipeline, description


def assign(pipeline: Pipeline, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
    """The segment of each row and its distance to the centre, in the scaled units in which K-Means measures.

    X: raw columns (rows, features), as the model's signature has them.
    first_row: the number of the first row in its file, for messages.

    Raises click.BadParameter for a missing value where the model does not impute, and for one without a logarithm.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # the logarithm of what is below -1
        Z = pipeline[:-1].transform(X)
    wrong = ~np.isfinite(Z).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        values = X.iloc[row]
        numbers = pd.to_numeric(values, errors="coerce")
        missing = values.index[values.isna()]
        name = missing[0] if len(missing) else numbers.index[numbers <= -1][0]
        right = "a value is missing: fit with missing=impute to allow it." if len(missing) else "must be above -1."
        raise bad("data", values[name], f"in column {name!r}, row {first_row + row}: {right}")
    distances = pipeline[-1].transform(Z)
    return pd.DataFrame({"segment": distances.argmin(axis=1), "segment_distance": distances.min(axis=1)})


def unseen(X: pd.DataFrame, known: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """Values of categorical columns that the model never saw when it was fitted, with how often each occurs."""
    found = {}
    for name, categories in known.items():
        strange = X[name][~X[name].isin(categories)].fillna("(missing)")
        if len(strange):
            found[name] = Counter(strange)
    return found


@click.command()
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--output", default="", help="Where to write the segments besides the run: a path ending in .csv.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
def predict(model_uri: str, data: str, output: str, batch_size: int) -> None:
    """Write the segment of each customer and its distance to the centre."""
    if output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    pipeline, description = load_pipeline(model_uri)
    schema = description.signature.inputs
    metadata = description.metadata or {}
    names, farthest = metadata.get("segments", []), metadata.get("farthest", [])
    text = tuple(column.name for column in schema.inputs if column.type.name == "string")

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params({"model_uri": model_uri, "data": data, "output": output, "batch_size": batch_size})
        log_working_tree()
        file = Path(output).expanduser() if output else Path(folder) / "segments.csv"
        strange: dict[str, Counter[str]] = {}
        sizes = np.zeros(pipeline[-1].n_clusters, dtype=int)
        digest = hashlib.sha256()
        done = far = 0
        for frame in read_batches(data, batch_size=batch_size, text_columns=text):
            X = conform(frame, schema, first_row=done + 1)
            assigned = assign(pipeline, X, first_row=done + 1)
            for name, values in unseen(X, metadata.get("categories", {})).items():
                strange.setdefault(name, Counter()).update(values)
            written = frame.reset_index(drop=True).assign(**assigned)
            if names:
                written["segment_name"] = np.array(names)[assigned["segment"]]
            if farthest:
                far += int((assigned["segment_distance"] > np.array(farthest)[assigned["segment"]]).sum())
            written.to_csv(file, mode="a" if done else "w", header=not done, index=False)
            if not done:
                click.echo(written.iloc[:5, -min(written.shape[1], 5) :].to_string())
            sizes += np.bincount(assigned["segment"], minlength=len(sizes))
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(frame)
        for name, values in strange.items():
            shown = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
            click.echo(f"Warning: column {name!r} holds categories that the model has not seen: {shown}.", err=True)
        if far:
            click.echo(
                f"Warning: {far:,} of {done:,} instances lie farther from their centre than any that the model was "
                "fitted on: perhaps they belong to no segment.",
                err=True,
            )

        source, name = dataset_source(data), short_name(data)
        dataset = MetaDataset(source, name=name, digest=digest.hexdigest()[:8])  # type: ignore[abstract]
        mlflow.log_input(dataset, context="inference")
        if description.model_id:  # shows the run on the page of the model
            mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(description.model_id)])
        mlflow.log_artifact(str(file))
        counts = {f"segment_{segment}": int(size) for segment, size in enumerate(sizes)}
        mlflow.log_metrics({"instances": done, "far_from_centre": far, **counts})
        mlflow.set_tag("model_uri", model_uri)
        shares = ", ".join(
            f"segment {segment}: {size:,} ({size / done:.1%})" for segment, size in enumerate(sizes) if size
        )
        click.echo(f"{done:,} instances; {shares}")
        click.echo(f"Segments: {file}" if output else f"Segments: runs:/{run.info.run_id}/segments.csv")
        say_where_to_look()


if __name__ == "__main__":
    run_command(predict)
