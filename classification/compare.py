"""Train several classifiers in one process, as child runs of one parent, and rank them on the same test rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import skops.io  # noqa: F401  # early: it looks its types up in every module that is loaded by then
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator

from classifiers import CLASSIFIERS
from features import Split, load_split
from pictures import frame_precision_recall, frame_roc, log_picture, show_precision_recall, show_roc
from support.entry_point import log_working_tree, run_command, say_where_to_look
from support.table import bad
from train import Result, describe, fit_and_log, log_datasets, parameters, prepare, table_options

# What the leaderboard shows; it is sorted by the first.
SHOWN = [
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "recall",
    "precision",
    "log_loss",
    "fit_seconds",
]


def build(name: str, max_depth: str) -> BaseEstimator:
    """A classifier with the defaults of its entry point, the tree models bounded by `max_depth`."""
    command = CLASSIFIERS[name]
    bounded = any(option.name == "max_depth" for option in command.params)
    return command.main(["--max_depth", max_depth] if bounded else [], standalone_mode=False)


def leaderboard(results: list[Result]) -> pd.DataFrame:
    """One row a classifier, the best ROC AUC first, with its run."""
    rows = [
        {"classifier": result.name, **{key: result.metrics[key] for key in SHOWN}, "run_id": result.run_id}
        for result in results
    ]
    return pd.DataFrame(rows).sort_values("roc_auc", ascending=False, ignore_index=True)


def as_markdown(board: pd.DataFrame) -> str:
    """The leaderboard as a Markdown table, for the page of the run."""
    header = f"| {' | '.join(board.columns)} |\n|{'---|' * len(board.columns)}"
    rows = [
        " | ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row) for row in board.values
    ]
    return "\n".join([header, *(f"| {row} |" for row in rows)])


def leaderboard_figure(board: pd.DataFrame, title: str) -> Figure:
    """The leaderboard as bars, one panel a metric, so that near ties are seen to be near."""
    width, height = 11, 1.5 + 0.45 * len(board)
    figure = Figure(figsize=(width, height))  # its margins in inches: the names of the classifiers are known
    figure.subplots_adjust(
        left=1.6 / width, right=1 - 0.15 / width, bottom=0.35 / height, top=1 - 0.8 / height, wspace=0.12
    )
    figure.suptitle(title, fontsize=14)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, metric in zip(panels, ["roc_auc", "f1", "log_loss"], strict=True):
        bars = axes.barh(board["classifier"], board[metric], color=["#1f77b4", *["#9ecae1"] * (len(board) - 1)])
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize="small")
        axes.set(title=f"{metric} ({'lower' if metric == 'log_loss' else 'higher'} is better)")
        axes.set_xlim(0, board[metric].max() * 1.2)
    panels[0].invert_yaxis()
    return figure


def curves_figure(results: list[Result], split: Split) -> Figure:
    """ROC and precision-recall curves of all classifiers on the same axes."""
    figure = Figure(figsize=(13, 6))
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.09, top=0.9 if split.positive is not None else 0.85)
    if split.positive is None:
        figure.suptitle("All classes pooled, each against the rest (micro-average)")
    roc, pr = figure.subplots(1, 2)
    frame_roc(roc)
    frame_precision_recall(pr)
    truth = np.asarray(split.y_test)
    counted = [split.positive] if split.positive is not None else split.classes
    # With more than two classes every (row, class) pair counts once: the micro-average.
    members = np.concatenate([truth == label for label in counted])
    for result in sorted(results, key=lambda result: -result.metrics["roc_auc"]):
        scored = np.concatenate([result.probabilities[:, split.classes.index(label)] for label in counted])
        show_roc(roc.plot([], [])[0], members, scored, result.name)
        show_precision_recall(pr.plot([], [], drawstyle="steps-post")[0], members, scored, result.name)
    roc.legend(loc="lower right", fontsize="small")
    pr.legend(loc="lower left", fontsize="small")
    return figure


@click.command()
@table_options
@click.option("--models", default=",".join(CLASSIFIERS), help="Classifiers to train, comma-separated.")
@click.option("--max_depth", default="5", help="Bound of the tree models; none for no bound.")
def compare(models: str, max_depth: str, random_state: int, **table: Any) -> None:
    """Train the named classifiers on one split and rank them."""
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    for name in names:
        if name not in CLASSIFIERS:
            raise bad("models", name, f"is not a classifier; choose from: {', '.join(CLASSIFIERS)}.")
    if not names:
        raise bad("models", models, f"names no classifier; choose from: {', '.join(CLASSIFIERS)}.")
    classifiers = {name: build(name, max_depth) for name in names}
    split = load_split(random_state=random_state, **table)
    for classifier in classifiers.values():
        prepare(classifier, split, random_state)
    description = describe(split)

    with mlflow.start_run() as parent:
        if not parent.data.params:  # `mlflow run` has logged them
            mlflow.log_params({**table, "models": models, "max_depth": max_depth, "random_state": random_state})
        log_working_tree()
        log_datasets(description)
        results = []
        for number, (name, classifier) in enumerate(classifiers.items(), start=1):
            with mlflow.start_run(run_name=name, nested=True):
                mlflow.log_params(parameters(name, classifier))
                result = fit_and_log(name, classifier, split, description)
            results.append(result)
            figures = f"roc_auc {result.metrics['roc_auc']:.4f}  fitted in {result.metrics['fit_seconds']:.2f} s"
            click.echo(f"[{number}/{len(names)}] {name:<19} {figures}")

        board = leaderboard(results)
        best = next(result for result in results if result.run_id == board["run_id"][0])
        mlflow.log_text(board.to_csv(index=False), "leaderboard.csv")
        title = f"{len(split.y_test):,} test rows of {Path(split.source).name}"
        log_picture(leaderboard_figure(board, title), "leaderboard.png")
        log_picture(curves_figure(results, split), "curves.png")
        mlflow.log_metric("best_roc_auc", best.metrics["roc_auc"], dataset=description.test)
        shown = board.drop(columns=["run_id", "fit_seconds"])
        mlflow.set_tags({"best_classifier": best.name, "best_model_uri": best.model_uri})
        mlflow.set_tag("mlflow.note.content", as_markdown(shown))
        click.echo()
        click.echo(shown.to_string(index=False, float_format="{:.4f}".format))
        click.echo(f"\nBest model: {best.name}, {best.model_uri}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(compare)
