"""Fit K-Means for every number of segments in a range, as child runs of one parent, and choose one by evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow.models.model import ModelInfo

import engines
from criteria import CRITERIA, Choice, decide
from describe import advice
from evaluation import SHOWN, Scored, score, scores_of
from features import Selection, Table, refuse_too_many
from kmeans import Options
from options import fitting_options
from pictures import Plane, candidates_figure, criteria_figure, plane
from records import begin, log_clustering, log_segments
from support.entry_point import run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.table import bad
from support.texts import on_picture

COUNT = click.IntRange(min=2)


@click.command(params=[LANGUAGE])
@fitting_options
@click.option("--k_min", type=COUNT, default=2, help="The fewest segments to try.")
@click.option("--k_max", type=COUNT, default=20, help="The most segments to try.")
@click.option(
    "--choose", type=click.Choice([*CRITERIA, "vote"]), default="silhouette", help="Which criterion chooses, or a vote."
)
def sweep(k_min: int, k_max: int, choose: str, **parameters: Any) -> None:
    """Try every number of segments from k_min to k_max and choose one."""
    if k_min > k_max:
        raise bad("k_min", k_min, f"is more than k_max={k_max}.")
    ks = list(range(k_min, k_max + 1))
    options = Options.of(parameters)
    table = engines.load(Selection.of(parameters), options)
    refuse_too_many(table, k_max, "k_max")
    drawn = plane(table, parameters["axes"])

    with mlflow.start_run():
        begin("sweep", table, {"k_min": k_min, "k_max": k_max, "choose": choose, **parameters})
        clusterings = []
        for number, clustering in enumerate(engines.fit(table, ks, options), start=1):
            inertia, seconds = clustering.metrics["inertia"], clustering.metrics["fit_seconds"]
            reached = tr("inertia {inertia:,.1f}", inertia=inertia)
            fitted = tr("fitted in {seconds:.2f} s", seconds=seconds)
            click.echo(f"[{number}/{len(ks)}] k = {clustering.n_clusters}: {reached}, {fitted}")
            clusterings.append(clustering)
        scored = score(table, clusterings, options)
        models = log_children(table, scored, options)

        scores = scores_of(scored)
        mlflow.log_text(scores.to_csv(), "criteria.csv")
        choice = decide(scores, choose)
        best = scored[ks.index(choice.k)]
        log_choice(choice, table, scored, drawn, models[choice.k])
        text = log_segments(
            table, best, drawn, tr("{verdict} Chosen by {by}: {k}.", verdict=choice.verdict, by=choose, k=choice.k)
        )
        click.echo(f"\n{scores[list(SHOWN)].to_string(float_format='{:.4f}'.format)}\n\n{text}")
        click.echo(
            "\n".join(
                [*advice(table, best.clustering), tr("Model: {uri}", uri=f"runs:/{models[choice.k].run_id}/model")]
            )
        )
        say_where_to_look()


def log_children(table: Table, scored: list[Scored], options: Options) -> dict[int, ModelInfo]:
    """Log each clustering as a child of the active run; returns their models by number of segments."""
    models = {}
    for each in scored:
        k = each.clustering.n_clusters
        with mlflow.start_run(run_name=f"k = {k}", nested=True):
            mlflow.log_params({"n_clusters": k, **asdict(options)})
            models[k] = log_clustering(table, each)
    return models


def log_choice(choice: Choice, table: Table, scored: list[Scored], drawn: Plane, model: ModelInfo) -> None:
    """Log to the active run what each criterion says, and the number that was chosen with its metrics.

    drawn: the axes of the picture of the candidates.
    model: of the number chosen.
    """
    name = on_picture(Path(table.source).name)
    title = tr("How many segments? {rows:,} rows of {table}", rows=table.rows, table=name)
    mlflow.log_figure(criteria_figure(choice, title), "criteria.png")
    labels = {each.clustering.n_clusters: each.clustering.labels for each in scored}
    if len(choice.candidates) > 1:
        panels = {f"{tr('{k} segments', k=k)}\n{', '.join(names)}": labels[k] for k, names in choice.candidates.items()}
        mlflow.log_figure(candidates_figure(drawn, panels, tr("Where the criteria disagree")), "candidates.png")
    by_criterion = {f"k_by_{criterion}": k for criterion, k in choice.by_criterion.items() if k is not None}
    metrics = next(each.metrics for each in scored if each.clustering.n_clusters == choice.k)
    mlflow.log_metrics(
        {**metrics, "chosen_k": choice.k, **by_criterion}, dataset=table.dataset, model_id=model.model_id
    )
    mlflow.set_tags({"chosen_by": choice.by, "chosen_model_uri": f"runs:/{model.run_id}/model"})


if __name__ == "__main__":
    run_command(sweep)
