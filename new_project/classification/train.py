"""Train a classifier on the table of this project and record it: `mlflow run . -P max_iter=200`."""

from __future__ import annotations

from typing import Any

import click
import mlflow
from sklearn.ensemble import HistGradientBoostingClassifier

from evaluation import fit_and_evaluate
from features import TABLE_OPTIONS, load_split, with_preprocessing
from report import cautions
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr, warn
from support.parameters import option
from tracking import log_result

OPTIONS = [
    *TABLE_OPTIONS,
    LANGUAGE,
    option("learning_rate", FiniteRange(min=0, min_open=True), 0.05, "How far a tree corrects those before it."),
    option("max_iter", click.IntRange(min=1), 100, "Trees."),
    option("max_leaf_nodes", click.IntRange(min=2), 31, "Of a tree."),
]


@click.command(params=OPTIONS)
def train(learning_rate: float, max_iter: int, max_leaf_nodes: int, random_state: int, **table: Any) -> None:
    """Read, split, fit, evaluate, log, say."""
    split = load_split(random_state=random_state, **table)
    classifier = HistGradientBoostingClassifier(
        learning_rate=learning_rate, max_iter=max_iter, max_leaf_nodes=max_leaf_nodes, random_state=random_state
    )
    with mlflow.start_run() as run:
        describe_run(run, "train")
        result = fit_and_evaluate(with_preprocessing(classifier, split.kinds), split, threshold="")
        log_result("hist_gradient_boosting", result, split)

        for text in cautions({"hist_gradient_boosting": result}, split):
            warn(text)
        low, high = result.interval("roc_auc")
        shown = ("roc_auc", "accuracy", "recall", "precision", "f1")
        click.echo("  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown))
        sure = "roc_auc is between {low:.4f} and {high:.4f} with 95 % confidence, as far as these test rows tell."
        click.echo(tr(sure, low=low, high=high))
        click.echo(tr("Model: {uri}", uri=f"runs:/{run.info.run_id}/model"))
        say_where_to_look()


if __name__ == "__main__":
    run_command(train)
