"""Train one classifier on a table with a class column and track it: `python train.py knn --n_neighbors 25`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import mlflow

from classifiers import CLASSIFIERS, build
from evaluation import THRESHOLD, fit_and_evaluate
from features import TABLE_OPTIONS, load_split, with_preprocessing
from report import cautions
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr, warn
from support.parameters import option
from support.table import bad
from support.texts import in_markdown
from tracking import log_result


def train_one(name: str, threshold: str, **given: Any) -> None:
    """Train the classifier of a name; given: the values of TABLE_OPTIONS and of the classifier's own options."""
    values = {key: given.pop(key) for key in CLASSIFIERS[name].defaults}
    split = load_split(**given)
    if values.get("n_neighbors", 0) > len(split.X_train):
        raise bad("n_neighbors", values["n_neighbors"], f"is more than the {len(split.X_train)} training rows.")
    with mlflow.start_run() as run:
        describe_run(run, name)
        mlflow.log_param("classifier", name)
        model = with_preprocessing(build(name, values, split.random_state), split.kinds)
        result = fit_and_evaluate(model, split, threshold)
        log_result(name, result, split)
        warnings = cautions({name: result}, split)
        mlflow.set_tag("mlflow.note.content", "\n".join(f"- {in_markdown(text)}" for text in warnings))
        for text in warnings:
            warn(text)
        shown = ("roc_auc", "average_precision", "accuracy", "recall", "precision", "f1")
        click.echo(f"{name}: " + "  ".join(f"{key} {result.metrics[key]:.4f}" for key in shown))
        low, high = result.interval("roc_auc")
        sure = "roc_auc is between {low:.4f} and {high:.4f} with 95 % confidence, as far as these test rows tell."
        click.echo(tr(sure, low=low, high=high))
        click.echo(tr("Model: {uri}", uri=f"runs:/{run.info.run_id}/model"))
        say_where_to_look()


train = click.Group("train")
for name, classifier in CLASSIFIERS.items():
    own = [option(key, kind, default) for key, (kind, default) in classifier.parameters.items()]
    options: list[click.Parameter] = [*TABLE_OPTIONS, LANGUAGE, THRESHOLD, *own]
    train.add_command(click.Command(name, params=options, callback=partial(train_one, name)))

if __name__ == "__main__":
    run_command(train)
