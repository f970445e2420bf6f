"""Train several classifiers in one process, as child runs of one parent, and rank them on the same test rows."""

from __future__ import annotations

from typing import Any

import click
import mlflow

from classifiers import CLASSIFIERS, COUNT, WEIGHT, build
from evaluation import THRESHOLD, fit_and_evaluate
from features import TABLE_OPTIONS, load_split, with_preprocessing
from report import cautions, curves_figure, leaderboard, leaderboard_figure, log_leaderboard
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.parameters import Or, option
from support.table import bad
from tracking import log_result

OPTIONS = [
    *TABLE_OPTIONS,
    LANGUAGE,
    THRESHOLD,
    option("models", default=",".join(CLASSIFIERS), help="Classifiers to train, comma-separated."),
    option("max_depth", Or(COUNT, "an integer of 1 or more", "none", ""), help="Of each classifier that has it."),
    option("class_weight", *WEIGHT["class_weight"], help="Or balanced."),
]


@click.command(params=OPTIONS)
def compare(models: str, threshold: str, max_depth: Any, class_weight: str | None, **table: Any) -> None:
    """Train the named classifiers on one split of a table and rank them."""
    chosen = choose(models, {"max_depth": max_depth, "class_weight": class_weight})
    split = load_split(**table)
    if "knn" in chosen and (asked := chosen["knn"]["n_neighbors"]) > (rows := len(split.X_train)):
        raise bad("models", "knn", f"asks for {asked} neighbours, and there are {rows} training rows: leave it out.")

    with mlflow.start_run() as parent:
        describe_run(parent, "compare")
        mlflow.log_inputs(datasets=[split.train, split.test], contexts=["training", "test"], tags_list=[None, None])
        results, run_ids = {}, {}
        for number, (name, values) in enumerate(chosen.items(), start=1):
            with mlflow.start_run(run_name=name, nested=True) as child:
                mlflow.log_params({"classifier": name, **values})
                model = with_preprocessing(build(name, values, split.random_state), split.kinds)
                result = fit_and_evaluate(model, split, threshold)
                log_result(name, result, split)
            results[name], run_ids[name] = result, child.info.run_id
            low, high = result.interval("roc_auc")
            reached = f"roc_auc {result.metrics['roc_auc']:.4f} [{low:.4f}, {high:.4f}]"
            fitted = tr("fitted in {seconds:.2f} s", seconds=result.metrics["fit_seconds"])
            click.echo(f"[{number}/{len(chosen)}] {name:<22} {reached}  {fitted}")

        board = leaderboard(results, run_ids)
        log_leaderboard(board, cautions(results, split))
        mlflow.log_figure(leaderboard_figure(board, split), "leaderboard.png")
        mlflow.log_figure(curves_figure({name: results[name] for name in board["classifier"]}, split), "curves.png")
        best = str(board["classifier"][0])
        best_uri = f"runs:/{run_ids[best]}/model"
        mlflow.log_metric("best_roc_auc", board["roc_auc"][0], dataset=split.test)
        mlflow.set_tags({"best_classifier": best, "best_model_uri": best_uri})
        click.echo("\n" + tr("Best model: {name}, {uri}", name=best, uri=best_uri))
        say_where_to_look()


def choose(models: str, shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of each classifier in a comma-separated list: its defaults, or what is given for all that have it.

    shared: what is given; "" for each one's default. Raises click.BadParameter where there is no name, or a wrong one.
    """
    chosen = {}
    for name in [name.strip() for name in models.split(",") if name.strip()] or [models]:
        if name not in CLASSIFIERS:
            raise bad("models", name, f"is not a classifier; choose from: {', '.join(CLASSIFIERS)}.")
        defaults = CLASSIFIERS[name].defaults
        chosen[name] = defaults | {key: value for key, value in shared.items() if key in defaults and value != ""}
    return chosen


if __name__ == "__main__":
    run_command(compare)
