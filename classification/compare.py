"""Train several classifiers in one process, as child runs of one parent, and rank them on the same test rows."""

from __future__ import annotations

from typing import Any

import click
import mlflow
import pandas as pd

from classifiers import CLASS_WEIGHT, CLASSIFIERS, COUNT, build
from evaluation import THRESHOLD, Result, cautions, fit_and_evaluate
from features import TABLE_OPTIONS, load_split, warn
from pictures import curves_figure, leaderboard_figure
from support.bootstrap import METRICS
from support.entry_point import (
    log_working_tree,
    name_run,
    run_command,
    say_where_to_look,
)
from support.parameters import Or, option
from support.table import bad
from support.texts import in_markdown
from tracking import log_datasets, log_picture, log_result, record_of

# What the leaderboard shows; it is sorted by the first.
SHOWN = [metric for metric in METRICS if metric != "brier_score_loss"]
MODELS = option("models", default=",".join(CLASSIFIERS), help="Classifiers to train, comma-separated.")
MAX_DEPTH = option("max_depth", Or(COUNT, "an integer of 1 or more", "none", ""), help="Of the tree models.")


@click.command(params=[*TABLE_OPTIONS, MODELS, MAX_DEPTH, CLASS_WEIGHT, THRESHOLD])
def compare(models: str, threshold: str, random_state: int, **given: Any) -> None:
    """Train the named classifiers on one split of a table and rank them."""
    shared = {key: given.pop(key) for key in ("max_depth", "class_weight")}
    values = {name: values_of(name, shared) for name in names_of(models)}
    split = load_split(random_state=random_state, **given)
    refuse_neighbours(values, len(split.X_train))

    with mlflow.start_run() as parent:
        name_run("compare")
        if not parent.data.params:  # `mlflow run` has logged them
            more = {"models": models, "threshold": threshold, "random_state": random_state}
            mlflow.log_params({**given, **shared, **more})
        log_working_tree()
        record = record_of(split)
        log_datasets(record)
        results, run_ids = {}, {}
        for number, name in enumerate(values, start=1):
            with mlflow.start_run(run_name=name, nested=True) as child:
                mlflow.log_params({"classifier": name, **values[name]})
                result = fit_and_evaluate(build(name, values[name], random_state), split, threshold)
                log_result(name, result, split, record)
            results[name], run_ids[name] = result, child.info.run_id
            say(f"[{number}/{len(values)}] {name:<22}", result)

        board, warnings = leaderboard(results, run_ids), cautions(results, split)
        best = str(board["classifier"][0])
        best_uri = f"runs:/{run_ids[best]}/model"
        mlflow.log_text(board.to_csv(index=False), "leaderboard.csv")
        log_picture(leaderboard_figure(board, split), "leaderboard.png")
        log_picture(curves_figure({name: results[name] for name in board["classifier"]}, split), "curves.png")
        mlflow.log_metric("best_roc_auc", results[best].metrics["roc_auc"], dataset=record.test)
        mlflow.set_tags({"best_classifier": best, "best_model_uri": best_uri})
        mlflow.set_tag("mlflow.note.content", as_markdown(board, warnings))
        say_leaderboard(board, warnings)
        click.echo(f"\nBest model: {best}, {best_uri}")
        say_where_to_look()


def names_of(models: str) -> list[str]:
    """The classifiers in a comma-separated list. Raises click.BadParameter where there is none, or another name."""
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    for name in names or [models]:
        if name not in CLASSIFIERS:
            raise bad("models", name, f"is not a classifier; choose from: {', '.join(CLASSIFIERS)}.")
    return names


def values_of(name: str, shared: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a classifier: its defaults, and what is given for all that have it."""
    defaults = CLASSIFIERS[name].defaults
    return defaults | {key: value for key, value in shared.items() if key in defaults and value != ""}


def refuse_neighbours(values: dict[str, dict[str, Any]], rows: int) -> None:
    """Refuse by click.BadParameter nearest neighbours where there are fewer training rows."""
    for name, parameters in values.items():
        if parameters.get("n_neighbors", 0) > rows:
            right = (
                f"asks for {parameters['n_neighbors']} neighbours, and there are {rows} training rows: leave it out."
            )
            raise bad("models", name, right)


def say(start: str, result: Result) -> None:
    """Print one line on a classifier."""
    low, high = result.interval("roc_auc")
    interval = f"[{low:.4f}, {high:.4f}]"
    click.echo(
        f"{start} roc_auc {result.metrics['roc_auc']:.4f} {interval}  fitted in {result.metrics['fit_seconds']:.2f} s"
    )


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
    click.echo(on_chance(board))
    click.echo("The 95 % interval of every metric is in leaderboard.csv.")
    for text in warnings:
        warn(text)


if __name__ == "__main__":
    run_command(compare)
