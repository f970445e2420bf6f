"""Divide the rows of a table into a given number of segments and track it: `python fit.py --n_clusters 4`."""

from __future__ import annotations

from typing import Any

import click
import mlflow

import engines
from describe import advice
from evaluation import SHOWN, score
from features import Selection, refuse_too_many
from kmeans import Options
from options import FITTING_OPTIONS
from pictures import plane
from records import log_clustering, log_segments
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import tr
from support.parameters import option


@click.command(params=[*FITTING_OPTIONS, option("n_clusters", click.IntRange(min=2), 4, "How many segments.")])
def fit(n_clusters: int, **parameters: Any) -> None:
    """Divide a table into n_clusters segments."""
    options = Options.of(parameters)
    table = engines.load(Selection.of(parameters), options)
    refuse_too_many(table, n_clusters, "n_clusters")
    drawn = plane(table, parameters["axes"])

    with mlflow.start_run() as run:
        describe_run(run, f"k = {n_clusters}")
        [clustering] = engines.fit(table, [n_clusters], options)
        [scored] = score(table, [clustering], options)
        info = log_clustering(table, scored)
        click.echo(log_segments(table, scored, drawn))
        click.echo("  ".join(f"{name} {scored.metrics[name]:.4f}" for name in SHOWN))
        for line in advice(table, clustering):
            click.echo(line)
        click.echo(tr("Model: {uri}", uri=f"runs:/{info.run_id}/model"))
        say_where_to_look()


if __name__ == "__main__":
    run_command(fit)
