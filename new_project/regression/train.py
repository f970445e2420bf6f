"""Train a regressor on the table of this project and record it: `mlflow run . -P max_iter=200`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import matplotlib.pyplot as plt
import mlflow
import pandas as pd
import skops.io
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.models import infer_signature
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from features import TABLE_OPTIONS, with_preprocessing
from support.cautions import about_split
from support.datasets import as_dataset
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.inputs import read_table
from support.kinds import Kind, to_metadata
from support.language import LANGUAGE, tr, warn
from support.parameters import option
from support.requirements import OF_A_PIPELINE, pinned
from support.style import COLORS, in_language
from support.table import bad, short_name
from support.texts import on_picture

OPTIONS = [
    *[each for each in TABLE_OPTIONS if each.name != "positive"],
    LANGUAGE,
    option("learning_rate", FiniteRange(min=0, min_open=True), 0.05, "How far a tree corrects those before it."),
    option("max_iter", click.IntRange(min=1), 100, "Trees."),
    option("max_leaf_nodes", click.IntRange(min=2), 31, "Of a tree."),
]


@click.command(params=OPTIONS)
def train(learning_rate: float, max_iter: int, max_leaf_nodes: int, random_state: int, **table: Any) -> None:
    """Read, split, fit, evaluate, log, say."""
    split = load_split(random_state=random_state, **table)
    regressor = HistGradientBoostingRegressor(
        learning_rate=learning_rate, max_iter=max_iter, max_leaf_nodes=max_leaf_nodes, random_state=random_state
    )
    with mlflow.start_run() as run:
        describe_run(run, "train")
        model = with_preprocessing(regressor, split.kinds).fit(split.X_train, split.y_train)
        predicted = model.predict(split.X_test)
        metrics = scores(split.y_test, predicted)
        log_result(model, metrics, predicted, split)

        always = DummyRegressor().fit(split.X_train, split.y_train).predict(split.X_test)
        beside = scores(split.y_test, always)["mean_absolute_error"]
        click.echo("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        mean = "For comparison: always answering the mean has a mean_absolute_error of {error:.4g}."
        click.echo(tr(mean, error=beside))
        click.echo(tr("Model: {uri}", uri=f"runs:/{run.info.run_id}/model"))
        say_where_to_look()


@dataclass(frozen=True)
class Split:
    """A table divided for training and testing: features as raw columns, the target as float64.

    kinds: what each column of X is. train, test: its rows as MLflow datasets, with source and digest.
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    kinds: dict[str, Kind]
    train: PandasDataset
    test: PandasDataset


def load_split(
    data: str, target: str, drop: str, kinds: str, missing_values: str, test_size: float, random_state: int
) -> Split:
    """Read a table, decide what its columns are, say what is learnt, and split it.

    The parameters are those of OPTIONS. Raises click.BadParameter where the table or the target does not allow it.
    """
    frame, learnt = read_table(data, target, drop, kinds, missing_values)
    *_, target = learnt  # its full name
    if learnt.pop(target).kind != "number":
        raise bad("target", target, "does not hold numbers.")
    y = frame[target]
    if y.isna().any():
        raise bad("target", target, f"has {int(y.isna().sum())} missing values: every row needs a number.")
    if len(y) < 4 or not 2 <= round(test_size * len(y)) <= len(y) - 2:
        raise bad("data", data, f"has {len(y)} rows: test_size={test_size} needs more.")
    train, test = train_test_split(frame, test_size=test_size, random_state=random_state)
    read = "{rows:,} rows, {columns} columns to learn from; {tested:,} of the rows are kept for the test."
    click.echo(tr(read, rows=len(y), columns=len(learnt), tested=len(test)))
    for text in about_split(train, test):
        warn(text)
    return Split(
        X_train=train[list(learnt)],
        X_test=test[list(learnt)],
        y_train=train[target],
        y_test=test[target],
        kinds=learnt,
        train=as_dataset(train, data, f"{short_name(data)}_train", targets=target),
        test=as_dataset(test, data, f"{short_name(data)}_test", targets=target),
    )


def scores(y: pd.Series, predicted: Any) -> dict[str, float]:
    """The metrics of predicted numbers (rows,), under scikit-learn's names."""
    return {
        "r2": float(r2_score(y, predicted)),
        "mean_absolute_error": float(mean_absolute_error(y, predicted)),
        "root_mean_squared_error": float(root_mean_squared_error(y, predicted)),
    }


def log_result(model: Pipeline, metrics: dict[str, float], predicted: Any, split: Split) -> None:
    """Log a fitted regressor to the active run: datasets, model, metrics tied to both, a picture."""
    target = str(split.y_train.name)
    mlflow.log_inputs(datasets=[split.train, split.test], contexts=["training", "test"], tags_list=[None, None])
    info = mlflow.sklearn.log_model(
        model,
        name="model",
        input_example=split.X_train.head(5),
        signature=infer_signature(split.X_train, predicted),
        metadata={"target": target, "kinds": to_metadata(split.kinds)},
        serialization_format="skops",  # no pickle
        skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(model)),
        pip_requirements=pinned(*OF_A_PIPELINE),
    )
    mlflow.log_metrics(metrics, dataset=split.test, model_id=info.model_id)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    axes.scatter(split.y_test, predicted, s=8, alpha=0.5, color=COLORS[0])
    axes.axline((float(split.y_test.mean()),) * 2, slope=1, color="black", linewidth=1)
    axes.set(xlabel=tr("{target}: true", target=on_picture(target)), ylabel=tr("predicted"))
    axes.set_title(tr("r2 {r2:.3f} on the test rows", r2=metrics["r2"]))
    mlflow.log_figure(in_language(figure), "evaluation.png")


if __name__ == "__main__":
    run_command(train)
