"""Assign customers, written as people write them, to the segments of any logged K-Means of this example."""

from __future__ import annotations

from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import set_model
from sklearn.pipeline import Pipeline

from kmeans import nearest
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr, warn
from support.parameters import option
from support.scoring import Scored, SparkScorer, check_output, load, say_unseen, score
from support.table import bad

# What is added to each row; `far` says whether it lies farther from its centre than any row of its segment did.
ADDED = ("segment", "segment_distance", "segment_name", "far")
OPTIONS = [
    click.Option(["--model_uri"], required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder."),
    option("data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON, Excel."),
    option("output", help="Where to write the segments besides the run: a .csv or .parquet file."),
    option("segment_column", default="segment", help="What to call the column with the segment."),
    option("batch_size", click.IntRange(min=1), 100_000, "Rows in memory at a time."),
    option("engine", click.Choice(["local", "spark"]), "local", "What does the work."),
]


@click.command(params=[*OPTIONS, LANGUAGE])
def predict(model_uri: str, data: str, output: str, segment_column: str, **how: Any) -> None:
    """Write the segment of each customer and its distance to the centre."""
    check_output(output, how["engine"])
    model = SegmentModel(model_uri)
    how["called"] = {name: name.replace("segment", segment_column, 1) for name in ADDED}

    with mlflow.start_run() as run:
        describe_run(run, "predict")
        found = score(model, model_uri, data, output, artifact="segments.csv", sums=("far",), **how)
        segments = range(model.pipeline[-1].n_clusters)
        counts = {f"segment_{segment}": found.counts[str(segment)] for segment in segments}
        mlflow.log_metrics({"instances": found.rows, "far_from_centre": found.sums["far"], **counts})
        say_assigned(found)
        click.echo(tr("Segments: {where}", where=output or f"runs:/{run.info.run_id}/segments.csv"))
        say_where_to_look()


class SegmentModel:
    """A logged model of segments.

    pipeline: from raw columns to segments; ends in K-Means.
    info: what MLflow knows of the model: the columns that it takes, and what was stored with it.

    Raises click.BadParameter as `support.scoring.load` does, and where it is another kind of model.
    """

    def __init__(self, model_uri: str) -> None:
        self.info, self.pipeline = load(model_uri)
        if not isinstance(self.pipeline, Pipeline) or not hasattr(self.pipeline[-1], "cluster_centers_"):
            raise bad("model_uri", model_uri, "is not a Pipeline that ends in K-Means.")

    def add(self, X: pd.DataFrame, first_row: int = 1) -> pd.DataFrame:
        """The columns `ADDED` for each row; `segment_name` only where the model has names.

        X: raw columns (rows, features), as the model's signature has them.
        first_row: the number of the first row in its file, for messages.

        Raises click.BadParameter for a missing value where the model does not impute, and for one without a logarithm.
        """
        kmeans, metadata = self.pipeline[-1], self.info.metadata or {}
        lacking = X[[column.name for column in self.info.signature.inputs if column.required]].isna()
        _refuse(X, lacking, "is missing: fit the model with missing=impute to allow that.", first_row)
        with np.errstate(invalid="ignore", divide="ignore"):  # the logarithm of what is below -1
            Z = self.pipeline[:-1].transform(X)
        if not np.isfinite(Z).all():
            numbers = X.select_dtypes("number")
            wrong = (numbers <= -1) & ~np.isfinite(Z).all(axis=1)[:, None]
            _refuse(numbers, wrong, "has no logarithm: it must be above -1.", first_row)
        labels, distances = nearest(kmeans, Z)
        added = pd.DataFrame({"segment": labels.astype("int64"), "segment_distance": distances})
        if names := metadata.get("segments"):
            added["segment_name"] = np.array(names, dtype=object)[labels]
        farthest = np.array(metadata.get("farthest") or [np.inf] * kmeans.n_clusters)
        return added.assign(far=(distances > farthest[labels]).astype("int64"))


def _refuse(X: pd.DataFrame, wrong: pd.DataFrame, right: str, first_row: int) -> None:
    """Raise click.BadParameter for the first value that is wrong (rows, features)."""
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        name = wrong.columns[column]
        raise bad("data", X[name].iloc[row], f"in column {name!r}, row {first_row + row}, {right}")


def say_assigned(found: Scored) -> None:
    """Print the first segments, their sizes, and what to look at first: new categories, and rows far from all."""
    click.echo(found.first.to_string())
    say_unseen(found)
    if far := found.sums["far"]:
        text = (
            "{far:,} of {rows:,} instances lie farther from their centre than any that the model was fitted on: "
            "perhaps they belong to no segment."
        )
        warn(tr(text, far=far, rows=found.rows))
    sizes = sorted((int(segment), size) for segment, size in found.counts.items())
    one = "segment {segment}: {size:,} ({share:.1%})"
    shares = [tr(one, segment=segment, size=size, share=size / found.rows) for segment, size in sizes]
    click.echo(tr("{rows:,} instances; {shares}", rows=found.rows, shares=", ".join(shares)))


set_model(SparkScorer(SegmentModel))  # with engine=spark, MLflow runs this file in each worker

if __name__ == "__main__":
    run_command(predict)
