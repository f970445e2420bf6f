"""Assign customers, written as people write them, to the segments of any logged K-Means of this example."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
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
from sklearn.pipeline import Pipeline

from kmeans import nearest
from support.entry_point import log_working_tree, run_command, say_where_to_look
from support.table import bad, conform, dataset_source, read_batches, short_name
from support.table_writer import TableWriter

# What stands for a missing value where it is one that the model never saw.
MISSING = "(missing)"


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
    labels, distances = nearest(pipeline[-1], Z)
    return pd.DataFrame({"segment": labels.astype("int64"), "segment_distance": distances})


def unseen(X: pd.DataFrame, known: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """Values of categorical columns that the model never saw when it was fitted, with how often each occurs."""
    found = {}
    for name, categories in known.items():
        strange = X[name][~X[name].isin(categories)].fillna(MISSING)
        if len(strange):
            found[name] = Counter(strange)
    return found


@dataclass(frozen=True)
class Assigned:
    """What the assignment of a table came to.

    sizes: instances of each segment.
    far: how many lie farther from their centre than any row of the segment that the model was fitted on.
    unseen: for each column, the categories that the model never saw, with how often each occurs.
    digest: of the columns that the model takes.
    """

    sizes: list[int]
    far: int
    unseen: dict[str, Counter[str]]
    digest: str

    @property
    def rows(self) -> int:
        return sum(self.sizes)


def added_columns(
    pipeline: Pipeline, metadata: dict[str, Any] | None, X: pd.DataFrame, first_row: int = 1
) -> pd.DataFrame:
    """What `assign` gives, the name of each segment where the model has them, and whether a row is `far` (0 or 1).

    metadata: of the logged model.
    """
    added = assign(pipeline, X, first_row)
    known = metadata or {}
    if known.get("segments"):
        added["segment_name"] = np.array(known["segments"])[added["segment"]]
    farthest = np.array(known.get("farthest") or [np.inf] * pipeline[-1].n_clusters)
    return added.assign(far=(added["segment_distance"] > farthest[added["segment"]]).astype("int64"))


def assign_locally(pipeline: Pipeline, description: ModelInfo, data: str, batch_size: int, file: Path) -> Assigned:
    """Assign a table a batch at a time in this process, and write it to a file."""
    schema, known = description.signature.inputs, (description.metadata or {}).get("categories", {})
    text = tuple(column.name for column in schema.inputs if column.type.name == "string")
    strange: dict[str, Counter[str]] = {}
    sizes = np.zeros(pipeline[-1].n_clusters, dtype=int)
    digest = hashlib.sha256()
    done = far = 0
    with TableWriter(file) as writer:
        for frame in read_batches(data, batch_size=batch_size, text_columns=text):
            X = conform(frame, schema, first_row=done + 1)
            added = added_columns(pipeline, description.metadata, X, first_row=done + 1)
            for name, values in unseen(X, known).items():
                strange.setdefault(name, Counter()).update(values)
            far += int(added.pop("far").sum())
            written = pd.concat(
                [frame.reset_index(drop=True).drop(columns=added.columns, errors="ignore"), added], axis=1
            )
            writer.write(written)
            if not done:
                show(written)
            sizes += np.bincount(added["segment"], minlength=len(sizes))
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(frame)
    return Assigned(sizes.tolist(), far, strange, digest.hexdigest()[:8])


def assign_on_spark(pipeline: Pipeline, description: ModelInfo, model_uri: str, data: str, output: str) -> Assigned:
    """Assign a table in the workers of Spark, which write it to a folder of files or a table of the catalog.

    Raises click.BadParameter as `assign_locally` does, where there is no Spark, and where the output exists.
    """
    from support import on_spark  # late: the local engine needs no Spark

    spark = on_spark.spark_session()
    on_spark.refuse_output(spark, output)
    frame = on_spark.read_on_spark(spark, data)
    head = on_spark.first_rows(frame, data, rows=5)
    schema, known = description.signature.inputs, (description.metadata or {}).get("categories", {})
    example = added_columns(pipeline, description.metadata, conform(head, schema))
    show(pd.concat([head, example.drop(columns="far")], axis=1))
    scored = on_spark.score_on_spark(
        frame, model_uri, example, schema.input_names(), known, output, sums=("far",), missing=MISSING
    )
    sizes = [scored.counts[str(segment)] for segment in range(pipeline[-1].n_clusters)]
    return Assigned(sizes, scored.sums["far"], scored.unseen, scored.digest)


def show(written: pd.DataFrame) -> None:
    """Print the first instances with their segments."""
    click.echo(written.iloc[:5, -min(written.shape[1], 5) :].to_string())


@click.command()
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--output", default="", help="Where to write the segments besides the run: a .csv or .parquet file.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="What does the work.")
def predict(model_uri: str, data: str, output: str, batch_size: int, engine: str) -> None:
    """Write the segment of each customer and its distance to the centre."""
    if engine == "local" and output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    pipeline, description = load_pipeline(model_uri)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        if engine == "spark":
            found = assign_on_spark(pipeline, description, model_uri, data, output)
        else:
            file = Path(output).expanduser() if output else Path(folder) / "segments.csv"
            found = assign_locally(pipeline, description, data, batch_size, file)
            mlflow.log_artifact(str(file))
        for name, values in found.unseen.items():
            shown = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
            click.echo(f"Warning: column {name!r} holds categories that the model has not seen: {shown}.", err=True)
        if found.far:
            click.echo(
                f"Warning: {found.far:,} of {found.rows:,} instances lie farther from their centre than any that the "
                "model was fitted on: perhaps they belong to no segment.",
                err=True,
            )

        source, name = dataset_source(data), short_name(data)
        dataset = MetaDataset(source, name=name, digest=found.digest)  # type: ignore[abstract]
        mlflow.log_input(dataset, context="inference")
        if description.model_id:  # shows the run on the page of the model
            mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(description.model_id)])
        counts = {f"segment_{segment}": size for segment, size in enumerate(found.sizes)}
        mlflow.log_metrics({"instances": found.rows, "far_from_centre": found.far, **counts})
        mlflow.set_tag("model_uri", model_uri)
        shares = ", ".join(
            f"segment {segment}: {size:,} ({size / found.rows:.1%})" for segment, size in enumerate(found.sizes) if size
        )
        click.echo(f"{found.rows:,} instances; {shares}")
        click.echo(f"Segments: {output or f'runs:/{run.info.run_id}/segments.csv'}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(predict)
