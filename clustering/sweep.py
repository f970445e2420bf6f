"""Try every number of segments in a range, in one process, as child runs of one parent, and choose one by evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
import skops.io  # noqa: F401  # early: it looks its types up in every module that is loaded by then

import cluster
from criteria import CRITERIA, candidates, choices, verdict, vote
from features import check_n_clusters
from fit import SHOWN, load, log_clustering, log_description, score, table_options
from pictures import candidates_figure, criteria_figure, log_picture
from support.entry_point import log_working_tree, run_command, say_where_to_look
from support.table import bad

COUNT = click.IntRange(min=2)


@click.command()
@table_options
@click.option("--k_min", type=COUNT, default=2, help="The fewest segments to try.")
@click.option("--k_max", type=COUNT, default=20, help="The most segments to try.")
@click.option(
    "--choose", type=click.Choice([*CRITERIA, "vote"]), default="silhouette", help="Which criterion chooses, or a vote."
)
def sweep(k_min: int, k_max: int, choose: str, **parameters: Any) -> None:
    """Try every number of segments from k_min to k_max and choose one."""
    if k_min > k_max:
        raise bad("k_min", k_min, f"is more than k_max={k_max}.")
    table, options, drawn = load(parameters)
    check_n_clusters(table, k_max, "k_max")
    ks = list(range(k_min, k_max + 1))

    with mlflow.start_run() as parent:
        if not parent.data.params:  # `mlflow run` has logged them
            mlflow.log_params({"k_min": k_min, "k_max": k_max, "choose": choose, **parameters})
        log_working_tree()
        mlflow.log_input(table.dataset, context="training")
        clusterings = []
        for number, clustering in enumerate(cluster.fit(table, ks, options), start=1):
            clusterings.append(clustering)
            inertia, seconds = clustering.metrics["inertia"], clustering.metrics["fit_seconds"]
            click.echo(
                f"[{number}/{len(ks)}] k = {clustering.n_clusters}: inertia {inertia:,.1f}, fitted in {seconds:.2f} s"
            )
        metrics, sampled, coefficients = score(table, clusterings, parameters["sample_size"], options.random_state)
        models = {}
        for clustering, scored in zip(clusterings, metrics, strict=True):
            k = clustering.n_clusters
            with mlflow.start_run(run_name=f"k = {k}", nested=True):
                mlflow.log_params({"n_clusters": k, **dataclasses.asdict(options)})
                models[k] = log_clustering(table, clustering, scored)

        scores = pd.DataFrame(metrics, index=pd.Index(ks, name="n_clusters"))
        mlflow.log_text(scores.to_csv(), "criteria.csv")
        chosen = choices(scores)
        best_k = vote(chosen, scores) if choose == "vote" else chosen[choose]
        if best_k is None:
            raise bad("choose", choose, f"finds no elbow from k_min={k_min} to k_max={k_max}: choose by another one.")
        best = ks.index(best_k)
        title = f"How many segments? {table.rows:,} rows of {Path(table.source).name}"
        log_picture(criteria_figure(scores, chosen, best_k, title), "criteria.png")
        labelings = {
            f"{k} segments\n{', '.join(names)}": clusterings[ks.index(k)].labels
            for k, names in candidates(chosen).items()
        }
        if len(labelings) > 1:
            log_picture(candidates_figure(drawn, labelings, "Where the criteria disagree"), "candidates.png")
        said = f"{verdict(chosen, scores)} Chosen by {choose}: {best_k}."
        text = log_description(table, clusterings[best], drawn, sampled, coefficients[best], said)
        mlflow.log_metrics(
            {
                **metrics[best],
                "chosen_k": best_k,
                **{f"k_by_{criterion}": k for criterion, k in chosen.items() if k is not None},
            },
            dataset=table.dataset,
            model_id=models[best_k].model_id,
        )
        uri = f"runs:/{models[best_k].run_id}/model"
        mlflow.set_tags({"chosen_by": choose, "chosen_model_uri": uri})
        click.echo()
        click.echo(scores[list(SHOWN)].to_string(float_format="{:.4f}".format))
        click.echo(f"\n{text}\nModel: {uri}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(sweep)
