"""Divide the rows of a table into a given number of segments and track it: `python fit.py --n_clusters 4`.

`load` and `fit_each`, by the engine that is asked for, and the parameters are those of `sweep.py` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import mlflow

from criteria import SHOWN
from describe import advice
from features import Selection, Table, load_table, refuse_too_many
from kmeans import Clustering, Options, fit_in_memory, score
from minibatch import fit_in_batches
from pictures import plane
from records import log_clustering, log_segments
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.parameters import option
from support.table import bad

COUNT = click.IntRange(min=1)
FITTING_OPTIONS = [
    option("data", default="data/customers.csv", help="Path or URL of a CSV or Parquet file."),
    option("columns", default="tenure,monthly_charges", help="Columns to fit on; empty for all."),
    option("drop", help="Columns to ignore."),
    option("profile", help="Columns to describe by, not to fit on; empty for all others, or none."),
    option("log_columns", help="Columns to take the logarithm of, as log(1 + x)."),
    option("categories", click.Choice(["refuse", "onehot"]), "refuse", "What to do with columns of text."),
    option("missing", click.Choice(["refuse", "impute"]), "refuse", "What to do with missing values."),
    option("kinds", help="What columns hold, where you know better: zip:category."),
    option("missing_values", help="Texts that stand for a missing value."),
    option("axes", help="Two columns to draw the segments on; empty for the best plane."),
    option("engine", click.Choice(["local", "minibatch", "spark"]), "local"),
    option("algorithm", click.Choice(["lloyd", "elkan"]), "lloyd"),
    option("n_init", COUNT, 10, "Initialisations to try; the best is kept."),
    option("max_iter", COUNT, 300, "Iterations; with minibatch, passes over the table."),
    option("tol", FiniteRange(min=0), 1e-4),
    option("batch_size", COUNT, 100_000, "With minibatch: rows in memory at a time."),
    option("init_size", click.IntRange(min=100), 100_000, "Rows of the sample to scale by."),
    option("sample_size", click.IntRange(min=100), 10_000, "Rows for silhouettes."),
    option("random_state", click.IntRange(0, 2**32 - 1), 0),
    LANGUAGE,
]


@click.command(params=[*FITTING_OPTIONS, option("n_clusters", click.IntRange(min=2), 4, "How many segments.")])
def fit(n_clusters: int, **parameters: Any) -> None:
    """Divide a table into n_clusters segments."""
    options = Options.of(parameters)
    table = load(Selection.of(parameters), options)
    refuse_too_many(table, n_clusters, "n_clusters")
    drawn = plane(table, parameters["axes"])

    with mlflow.start_run() as run:
        describe_run(run, f"k = {n_clusters}")
        [clustering] = score(table, fit_each(table, [n_clusters], options), options)
        info = log_clustering(table, clustering)
        click.echo(log_segments(table, clustering, drawn))
        click.echo("  ".join(f"{name} {clustering.metrics[name]:.4f}" for name in SHOWN))
        for line in advice(table, clustering):
            click.echo(line)
        click.echo(tr("Model: {uri}", uri=f"runs:/{info.run_id}/model"))
        say_where_to_look()


def load(selection: Selection, options: Options) -> Table:
    """Read a table, check it, and fit the preprocessing; with minibatch and spark on a sample of its rows.

    Raises click.BadParameter where the table, a name or the engine does not allow it.
    """
    if options.engine == "spark":
        if options.algorithm != "lloyd":
            raise bad("algorithm", options.algorithm, "is not an algorithm of Spark: leave it out with engine=spark.")
        from spark_kmeans import load_on_spark  # late: the other engines need no Spark

        return load_on_spark(selection, options)
    if options.engine == "minibatch":
        return load_table(selection, options.random_state, options.batch_size, options.init_size)
    return load_table(selection, options.random_state)


def fit_each(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit K-Means once for each number of segments, in that order; minibatch and spark read the table again."""
    if options.engine == "spark":
        from spark_kmeans import fit_on_spark

        return fit_on_spark(table, n_clusters, options)
    if options.engine == "minibatch":
        return fit_in_batches(table, n_clusters, options)
    return (fit_in_memory(table, k, options) for k in n_clusters)


if __name__ == "__main__":
    run_command(fit)
