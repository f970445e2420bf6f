"""Fit K-Means for every number of segments in a range, as child runs of one parent, and choose one by evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.models.model import ModelInfo

from criteria import CRITERIA, SHOWN, Choice, decide
from describe import advice
from features import Selection, Table, refuse_too_many
from fit import FITTING_OPTIONS, fit_each, load
from kmeans import Clustering, Options, score
from pictures import candidates_figure, criteria_figure, plane
from records import log_clustering, log_segments
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import tr
from support.parameters import option
from support.table import bad
from support.texts import on_picture

COUNT = click.IntRange(min=2)
SWEEP_OPTIONS = [
    option("k_min", COUNT, 2, "The fewest segments to try."),
    option("k_max", COUNT, 20, "The most segments to try."),
    option("choose", click.Choice([*CRITERIA, "vote"]), "silhouette", "Which criterion chooses, or a vote."),
]


@click.command(params=[*FITTING_OPTIONS, *SWEEP_OPTIONS])
def sweep(k_min: int, k_max: int, choose: str, **parameters: Any) -> None:
    """Try every number of segments from k_min to k_max and choose one."""
    if k_min > k_max:
        raise bad("k_min", k_min, f"is more than k_max={k_max}.")
    options = Options.of(parameters)
    table = load(Selection.of(parameters), options)
    refuse_too_many(table, k_max, "k_max")
    drawn = plane(table, parameters["axes"])

    with mlflow.start_run() as run:
        describe_run(run, "sweep")
        mlflow.log_input(table.dataset, context="training")
        fitted = []
        for clustering in fit_each(table, list(range(k_min, k_max + 1)), options):
            fitted.append(clustering)
            reached = tr("inertia {inertia:,.1f}", inertia=clustering.metrics["inertia"])
            seconds = tr("fitted in {seconds:.2f} s", seconds=clustering.metrics["fit_seconds"])
            click.echo(f"[{len(fitted)}/{k_max - k_min + 1}] k = {clustering.n_clusters}: {reached}, {seconds}")
        clusterings = {each.n_clusters: each for each in score(table, fitted, options)}
        models = log_children(table, clusterings, options)

        rows = [each.metrics for each in clusterings.values()]
        scores = pd.DataFrame(rows, index=pd.Index(clusterings, name="n_clusters"))
        mlflow.log_text(scores.to_csv(), "criteria.csv")
        choice = decide(scores, choose)
        best = clusterings[choice.k]
        log_choice(choice, table, clusterings, drawn, models[choice.k])
        chosen = tr("{verdict} Chosen by {by}: {k}.", verdict=choice.verdict, by=choose, k=choice.k)
        text = log_segments(table, best, drawn, chosen)
        click.echo(f"\n{scores[SHOWN].to_string(float_format='{:.4f}'.format)}\n\n{text}")
        for line in advice(table, best):
            click.echo(line)
        click.echo(tr("Model: {uri}", uri=f"runs:/{models[choice.k].run_id}/model"))
        say_where_to_look()


def log_children(table: Table, clusterings: dict[int, Clustering], options: Options) -> dict[int, ModelInfo]:
    """Log each clustering as a child of the active run; returns their models by number of segments."""
    models = {}
    for k, clustering in clusterings.items():
        with mlflow.start_run(run_name=f"k = {k}", nested=True):
            mlflow.log_params({"n_clusters": k, **asdict(options)})
            models[k] = log_clustering(table, clustering)
    return models


def log_choice(
    choice: Choice, table: Table, clusterings: dict[int, Clustering], drawn: pd.DataFrame, model: ModelInfo
) -> None:
    """Log to the active run what each criterion says, and the number that was chosen with its metrics.

    clusterings: by number of segments. drawn: the axes of the picture of the candidates. model: of the number chosen.
    """
    name = on_picture(Path(table.source).name)
    title = tr("How many segments? {rows:,} rows of {table}", rows=table.rows, table=name)
    mlflow.log_figure(criteria_figure(choice, title), "criteria.png")
    if len(choice.candidates) > 1:
        candidates = {
            f"{tr('{k} segments', k=k)}\n{', '.join(names)}": clusterings[k].labels
            for k, names in choice.candidates.items()
        }
        mlflow.log_figure(candidates_figure(drawn, candidates, tr("Where the criteria disagree")), "candidates.png")
    by_criterion = {f"k_by_{criterion}": k for criterion, k in choice.by_criterion.items() if k is not None}
    metrics = {**clusterings[choice.k].metrics, "chosen_k": choice.k, **by_criterion}
    mlflow.log_metrics(metrics, dataset=table.dataset, model_id=model.model_id)
    mlflow.set_tags({"chosen_by": choice.by, "chosen_model_uri": f"runs:/{model.run_id}/model"})


if __name__ == "__main__":
    run_command(sweep)
