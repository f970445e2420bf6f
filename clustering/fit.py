"""Divide the rows of a table into a given number of segments and track it: `python fit.py --n_clusters 4`."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import skops.io  # noqa: F401  # early: it looks its types up in every module that is loaded by then
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo
from sklearn.metrics import davies_bouldin_score

import cluster
from cluster import Clustering, Options
from criteria import sample_rows, silhouettes
from describe import profile, profile_figure, profile_table, summary
from features import Table, check_n_clusters, load_table, split_names
from pictures import Plane, log_picture, plane, scatter_figure, silhouette_figure
from support.entry_point import FiniteRange, log_working_tree, run_command, say_where_to_look
from support.table import bad

COUNT = click.IntRange(min=1)
# What a logged model needs to predict.
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("mlflow", "scikit-learn", "skops", "pandas", "numpy")]
# What a line on a clustering shows.
SHOWN = ("inertia", "silhouette", "davies_bouldin", "calinski_harabasz")


def table_options(command: Any) -> Any:
    """The options that say which table to divide, by which columns, and how to fit and score."""
    for option in reversed(
        [
            click.option("--data", default="data/customers.csv", help="Path or URL of a CSV or Parquet file."),
            click.option(
                "--columns", default="tenure,monthly_charges", help="Columns to fit on, comma-separated; empty for all."
            ),
            click.option("--drop", default="", help="Columns to ignore."),
            click.option(
                "--profile", default="", help="Columns to describe by, not to fit on; empty for all others, or none."
            ),
            click.option("--log_columns", default="", help="Columns to take the logarithm of, as log(1 + x)."),
            click.option("--categories", type=click.Choice(["refuse", "onehot"]), default="refuse"),
            click.option("--missing", type=click.Choice(["refuse", "impute"]), default="refuse"),
            click.option("--axes", default="", help="Two columns to draw the segments on; empty for the best plane."),
            click.option("--algorithm", type=click.Choice(["lloyd", "elkan", "minibatch", "spark"]), default="lloyd"),
            click.option("--n_init", type=COUNT, default=10, help="Initialisations to try; the best is kept."),
            click.option("--max_iter", type=COUNT, default=300, help="With minibatch: passes over the table."),
            click.option("--tol", type=FiniteRange(min=0), default=1e-4),
            click.option("--batch_size", type=COUNT, default=100_000, help="Rows of a mini-batch."),
            click.option(
                "--init_size",
                type=click.IntRange(min=100),
                default=100_000,
                help="Rows that minibatch starts on; with spark, of the sample.",
            ),
            click.option("--sample_size", type=click.IntRange(min=100), default=10_000, help="Rows for silhouettes."),
            click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0),
        ]
    ):
        command = option(command)
    return command


def load(parameters: dict[str, Any]) -> tuple[Table, Options, Plane]:
    """The table, the way to fit, and the axes to draw on, by the values of `table_options`."""
    named = ("data", "columns", "drop", "profile", "log_columns", "categories", "missing", "random_state")
    given = {name: parameters[name] for name in named}
    match parameters["algorithm"]:
        case "minibatch":
            table = load_table(**given, batch_size=parameters["batch_size"], init_size=parameters["init_size"])
        case "spark":
            from spark_kmeans import load_on_spark  # late: the others need no Spark

            table = load_on_spark(**given, init_size=parameters["init_size"])
        case _:
            table = load_table(**given)
    options = Options(**{field.name: parameters[field.name] for field in dataclasses.fields(Options)})
    axes = split_names(parameters["axes"])
    numbers = table.frame.select_dtypes("number").columns.tolist()
    if axes and (len(axes) != 2 or not set(axes) <= set(numbers)):
        raise bad("axes", parameters["axes"], f"must be two of the columns of numbers: {', '.join(numbers)}.")
    return table, options, plane(table, axes)


def score(
    table: Table, clusterings: list[Clustering], sample_size: int, random_state: int
) -> tuple[list[dict[str, float]], np.ndarray, list[np.ndarray]]:
    """The metrics of each clustering, under scikit-learn's names.

    sample_size: the most rows to compute silhouettes on.
    random_state: seed of the sample.

    Returns the metrics, and what the silhouettes are: the numbers of the rows of `table.frame` that they were computed
    on (rows,), and for each clustering the coefficients of those rows (rows,).
    """
    sampled = sample_rows(len(table.Z), sample_size, random_state)
    coefficients = silhouettes(table.Z[sampled], [clustering.labels[sampled] for clustering in clusterings])
    metrics = [
        {
            **clustering.metrics,
            "silhouette": float(values.mean()),
            "davies_bouldin": float(davies_bouldin_score(table.Z, clustering.labels)),
            "rows": table.rows,
            "silhouette_rows": len(sampled),
            "largest_segment": clustering.sizes[0],
            "smallest_segment": clustering.sizes[-1],
        }
        for clustering, values in zip(clusterings, coefficients, strict=True)
    ]
    return metrics, sampled, coefficients


def log_clustering(table: Table, clustering: Clustering, metrics: dict[str, float]) -> ModelInfo:
    """Log a clustering to the active run: its table, its model, its metrics and the sizes of its segments."""
    mlflow.log_input(table.dataset, context="training")
    info = mlflow.sklearn.log_model(
        clustering.pipeline,
        name="model",
        input_example=table.raw.head(5),
        signature=ModelSignature(table.schema, infer_signature(clustering.labels[:5]).inputs),
        serialization_format="skops",  # on Databricks the default is a pickle
        skops_trusted_types=["numpy.dtype"],  # all that a ColumnTransformer asks for
        pip_requirements=REQUIREMENTS,
        metadata={
            "segments": profile(table, clustering.labels, clustering.sizes, table.columns.fitted).names,
            "farthest": cluster.farthest(table, clustering),
            "categories": {
                name: sorted(table.frame[name].dropna().unique().tolist()) for name in table.columns.categorical
            },
        },
    )
    mlflow.log_metrics(metrics, dataset=table.dataset, model_id=info.model_id)
    mlflow.set_tag("sizes", json.dumps(clustering.sizes))
    return info


def log_description(
    table: Table,
    clustering: Clustering,
    drawn: Plane,
    sampled: np.ndarray,
    coefficients: np.ndarray,
    remarks: str,
) -> str:
    """Log what the segments are to the active run: profile (CSV, picture, Markdown), scatter, silhouettes.

    drawn: the axes of the scatter.
    sampled, coefficients: rows of `table.frame` with their silhouettes, as from `score`.
    remarks: what else there is to say on the number of segments, a sentence or none.

    Returns the Markdown, which also becomes the description of the run in the Tracking UI.
    """
    columns = [*table.columns.fitted, *table.columns.described]
    described = profile(table, clustering.labels, clustering.sizes, columns)
    name = Path(table.source).name
    title = f"{clustering.n_clusters} segments of {table.rows:,} rows of {name}"
    sample = len(table.frame)
    on_a_sample = "" if sample == table.rows else f" Means and shares are those of a sample of {sample:,} rows."
    fitted = ", ".join(table.columns.fitted)
    text = summary(described, f"## {title}\n\nK-Means on {fitted}.{on_a_sample} {remarks}".rstrip())
    mlflow.log_text(text, "segments.md")
    mlflow.set_tag("mlflow.note.content", text)
    mlflow.log_text(profile_table(described).to_csv(index=False), "profile.csv")
    log_picture(profile_figure(described, title), "profile.png")
    log_picture(scatter_figure(drawn, clustering.labels, described.names, title), "scatter.png")
    blades = silhouette_figure(coefficients, clustering.labels[sampled], clustering.n_clusters, title)
    log_picture(blades, "silhouette.png")
    return text


@click.command()
@table_options
@click.option("--n_clusters", type=click.IntRange(min=2), default=4, help="How many segments.")
def fit(n_clusters: int, **parameters: Any) -> None:
    """Divide the rows of a table into a given number of segments."""
    table, options, drawn = load(parameters)
    check_n_clusters(table, n_clusters, "n_clusters")
    with mlflow.start_run() as run:
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params({"n_clusters": n_clusters, **parameters})
        log_working_tree()
        clustering = next(cluster.fit(table, [n_clusters], options))
        [metrics], sampled, [coefficients] = score(table, [clustering], parameters["sample_size"], options.random_state)
        info = log_clustering(table, clustering, metrics)
        click.echo(log_description(table, clustering, drawn, sampled, coefficients, ""))
        click.echo("  ".join(f"{name} {metrics[name]:.4f}" for name in SHOWN))
        click.echo(f"Model: runs:/{info.run_id}/model")
        say_where_to_look()


if __name__ == "__main__":
    run_command(fit)
