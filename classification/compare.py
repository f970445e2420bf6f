"""Train several classifiers in one process, as child runs of one parent, and rank them on the same test rows."""

from __future__ import annotations

from typing import Any

import click
import mlflow
import pandas as pd

from classifiers import CLASSIFIERS, COUNT, WEIGHT, build
from evaluation import THRESHOLD, Result, cautions, fit_and_evaluate
from features import TABLE_OPTIONS, load_split, warn
from pictures import curves_figure, leaderboard_figure
from support.bootstrap import METRICS
from support.entry_point import log_working_tree, name_run, run_command, say_where_to_look
from support.parameters import Or, option
from support.table import bad
from support.texts import in_markdown
from tracking import log_datasets, log_result, record_of

# What the leaderboard shows; it is sorted by the first.
SHOWN = [metric for metric in METRICS if metric != "brier_score_loss"]
OPTIONS = [
    *TABLE_OPTIONS,
    THRESHOLD,
    option("models", default=",".join(CLASSIFIERS), help="Classifiers to train, comma-separated."),
    option("max_depth", Or(COUNT, "an integer of 1 or more", "none", ""), help="Of the tree models."),
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
        name_run("compare")
        if not parent.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        record = record_of(split)
        log_datasets(record)
        results, run_ids = {}, {}
        for number, (name, values) in enumerate(chosen.items(), start=1):
            with mlflow.start_run(run_name=name, nested=True) as child:
                mlflow.log_params({"classifier": name, **values})
                result = fit_and_evaluate(build(name, values, split.random_state), split, threshold)
                log_result(name, result, split, record)
            results[name], run_ids[name] = result, child.info.run_id
            say(f"[{number}/{len(chosen)}] {name:<22}", result)

        board, warnings = leaderboard(results, run_ids), cautions(results, split)
        best = str(board["classifier"][0])
        best_uri = f"runs:/{run_ids[best]}/model"
        mlflow.log_metric("best_roc_auc", results[best].metrics["roc_auc"], dataset=record.test)
        mlflow.set_tags({"best_classifier": best, "best_model_uri": best_uri})
        mlflow.set_tag("mlflow.note.content", as_markdown(board, warnings))
        mlflow.log_text(board.to_csv(index=False), "leaderboard.csv")
        mlflow.log_figure(leaderboard_figure(board, split), "leaderboard.png")
        mlflow.log_figure(curves_figure({name: results[name] for name in board["classifier"]}, split), "curves.png")
        say_leaderboard(board, warnings)
        click.echo(f"\nBest model: {best}, {best_uri}")
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


def say(start: str, result: Result) -> None:
    """Print one line on a classifier."""
    low, high = result.interval("roc_auc")
    reached = f"roc_auc {result.metrics['roc_auc']:.4f} [{low:.4f}, {high:.4f}]"
    click.echo(f"{start} {reached}  fitted in {result.metrics['fit_seconds']:.2f} s")


def leaderboard(results: dict[str, Result], run_ids: dict[str, str]) -> pd.DataFrame:
    """One row a classifier, the best ROC AUC first: each metric with its 95 % interval, and the run.

    `tied` says whether chance in the choice of the test rows may explain the difference to the best.
    """
    best = max(results.values(), key=lambda result: result.metrics["roc_auc"])
    rows = []
    for name, result in results.items():
        row: dict[str, Any] = {"classifier": name, "tied": result.may_equal(best)}
        for metric in SHOWN:
            row[metric] = result.metrics[metric]
            row[f"{metric}_low"], row[f"{metric}_high"] = result.interval(metric)
        rows.append(row | {"fit_seconds": result.metrics["fit_seconds"], "run_id": run_ids[name]})
    return pd.DataFrame(rows).sort_values("roc_auc", ascending=False, ignore_index=True, kind="stable")


def on_chance(board: pd.DataFrame) -> str:
    """The sentence on the classifiers that are as good as the best, for all that these test rows tell."""
    best, *others = board.loc[board["tied"], "classifier"]
    if not others:
        return f"{best} has a better roc_auc than any other: not by chance in the choice of the test rows (95 %)."
    return f"Chance may explain the difference in roc_auc to {best}: {', '.join(others)}."


def as_markdown(board: pd.DataFrame, warnings: list[str]) -> str:
    """The leaderboard with its intervals and the warnings, for the page of the run."""
    lines = [f"| classifier | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 1) + "|"]
    for row in board.to_dict("records"):
        cells = [f"{row[metric]:.4f} ({row[f'{metric}_low']:.4f} to {row[f'{metric}_high']:.4f})" for metric in SHOWN]
        lines.append(f"| {row['classifier']} | {' | '.join(cells)} |")
    said = [f"- {in_markdown(text)}" for text in warnings]
    return "\n".join([*lines, "", f"In brackets: 95 % intervals. {on_chance(board)}", "", *said])


def say_leaderboard(board: pd.DataFrame, warnings: list[str]) -> None:
    """Print the leaderboard, what chance may explain, and the warnings."""
    shown = board[["classifier", *SHOWN, "fit_seconds"]]
    click.echo("\n" + shown.to_string(index=False, float_format="{:.4f}".format))
    click.echo(f"{on_chance(board)}\nThe 95 % interval of every metric is in leaderboard.csv.")
    for text in warnings:
        warn(text)


if __name__ == "__main__":
    run_command(compare)
