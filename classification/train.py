"""Train one classifier on a table with a class column and track it: `python train.py knn --n_neighbors 25`."""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import skops.io  # early: it looks its types up in every module that is loaded by then
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ParamSchema, ParamSpec
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import InvalidParameterError

from classifiers import CLASSIFIERS
from evaluation import scores
from features import Split, load_split, with_preprocessing
from pictures import EvaluationPicture
from support.entry_point import FiniteRange, log_working_tree, run_command, say_where_to_look
from support.table import bad, dataset_source, short_name


@dataclass(frozen=True)
class Result:
    """What a trained and tracked classifier leaves behind. `probabilities`: (test rows, classes)."""

    name: str
    run_id: str
    model_uri: str
    metrics: dict[str, float]
    probabilities: np.ndarray


def table_options(command: Any) -> Any:
    """The options that say which table to learn from and how to split it."""
    for option in reversed(
        [
            click.option("--data", default="data/churn.csv", help="Path or URL of a CSV or Parquet file."),
            click.option("--target", default="churn", help="The column that holds the classes."),
            click.option(
                "--positive", default="", help="The positive one of two classes; default: yes, true, 1, else the rarer."
            ),
            click.option("--drop", default="", help="Columns to ignore, comma-separated."),
            click.option("--test_size", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.25),
            click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0),
        ]
    ):
        command = option(command)
    return command


def parameters(name: str, classifier: BaseEstimator) -> dict[str, Any]:
    """The parameters of a classifier that its entry point offers, with their values."""
    offered = {option.name for option in CLASSIFIERS[name].params}
    values = {key.rpartition("__")[2]: value for key, value in classifier.get_params().items()}
    return {key: value for key, value in values.items() if key in offered}


@dataclass(frozen=True)
class Description:
    """What is alike in the record of every model of a split; it is made once, because it takes a while."""

    train: Any
    test: Any
    signature: ModelSignature
    metadata: dict[str, Any]
    picture: EvaluationPicture


def describe(split: Split) -> Description:
    """Describe a split: its rows as MLflow datasets, with source and digest; what its models take, give and know."""
    name, source = short_name(split.source), dataset_source(split.source)
    train = split.X_train.assign(**{split.target: split.y_train})
    test = split.X_test.assign(**{split.target: split.y_test})
    known = {name: sorted(split.X_train[name].dropna().unique().tolist()) for name in split.columns.categorical}
    datasets = {
        part: from_pandas(rows, source=source, targets=split.target, name=f"{name}_{part}")
        for part, rows in (("train", train), ("test", test))
    }
    for dataset in datasets.values():
        dataset.schema = from_pandas(_of_every_kind(dataset.df), source=source).schema
    return Description(
        **datasets,
        signature=infer_signature(_of_every_kind(split.X_train), np.asarray(split.y_train[:1])),
        metadata={"target": split.target, "classes": split.classes, "categories": known},
        picture=EvaluationPicture(split.classes, split.positive),
    )


def _of_every_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """A few rows with the types of all, of each column a value and, if there is one, a missing value.

    MLflow looks at every text in turn to find a column's type: minutes for a million rows, which tell no more.
    """
    missing = frame.isna().to_numpy()
    rows = {*missing.argmin(axis=0), *missing.argmax(axis=0)}  # the first row of each
    return frame.iloc[sorted(rows)]


def log_datasets(description: Description) -> None:
    """Log the training and the test rows as inputs of the active run."""
    both = [description.train, description.test]
    mlflow.log_inputs(datasets=both, contexts=["training", "test"], tags_list=[None, None])


def prepare(classifier: BaseEstimator, split: Split, random_state: int) -> None:
    """Seed a classifier, and refuse it by click.BadParameter where it asks for more rows than there are."""
    if "random_state" in classifier.get_params():
        classifier.set_params(random_state=random_state)
    if getattr(classifier, "n_neighbors", 0) > len(split.X_train):
        raise bad("n_neighbors", classifier.n_neighbors, f"is more than the {len(split.X_train)} training rows.")


def fit_and_log(name: str, classifier: BaseEstimator, split: Split, description: Description) -> Result:
    """Fit a classifier on the training part, score it on the test part, and log it all to the active run.

    name: the classifier's entry point.
    description: what `describe` made of the split.

    Raises click.UsageError where scikit-learn refuses the parameters.
    """
    run = mlflow.active_run()
    assert run is not None
    log_datasets(description)

    pipeline = with_preprocessing(classifier, split.columns)
    started = time.perf_counter()
    try:
        pipeline.fit(split.X_train, split.y_train)
    except InvalidParameterError as error:
        raise click.UsageError(str(error)) from None
    fitted = time.perf_counter()
    probabilities = pipeline.predict_proba(split.X_test)
    predicted = time.perf_counter()

    model_uri, model_id = _log_model(pipeline, split, description)
    metrics = scores(split.y_test, probabilities, split.classes, split.positive)
    metrics |= {"fit_seconds": fitted - started, "predict_seconds": predicted - fitted}
    mlflow.log_metrics(metrics, dataset=description.test, model_id=model_id)
    if hasattr(classifier, "history_"):
        _log_epochs(run.info.run_id, classifier.history_)
    title = f"{name}: {len(split.y_test):,} test rows of {Path(split.source).name}"
    description.picture.log(split.y_test, probabilities, title)
    mlflow.set_tags({"classifier": name, "positive": str(split.positive)})
    return Result(name, run.info.run_id, model_uri, metrics, probabilities)


def _log_model(pipeline: Pipeline, split: Split, description: Description) -> tuple[str, str]:
    """Log the pipeline as `model`; returns its `runs:/` URI and the id of the logged model."""
    alike: dict[str, Any] = {
        "name": "model",
        "input_example": split.X_train.head(5),
        "metadata": description.metadata,
    }
    if hasattr(pipeline[-1], "network_"):
        with tempfile.TemporaryDirectory() as folder:
            skops.io.dump(pipeline[:-1], f"{folder}/preprocessing.skops")
            pipeline[-1].network_.save(f"{folder}/network.keras")
            info = mlflow.pyfunc.log_model(
                python_model=str(Path(__file__).with_name("ann_model.py")),
                artifacts={
                    "preprocessing": f"{folder}/preprocessing.skops",
                    "network": f"{folder}/network.keras",
                },
                model_config={"classes": split.classes},
                signature=ModelSignature(
                    description.signature.inputs,
                    description.signature.outputs,
                    ParamSchema([ParamSpec("predict_method", "string", "predict")]),
                ),
                pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy", "keras", "tensorflow"),
                **alike,
            )
    else:
        info = mlflow.sklearn.log_model(
            pipeline,
            signature=description.signature,
            serialization_format="skops",  # on Databricks the default is a pickle
            skops_trusted_types=_types(pipeline),
            pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy"),
            **alike,
        )
    return f"runs:/{info.run_id}/model", info.model_id


def _types(pipeline: Pipeline) -> list[str]:
    """The types in a pipeline that skops asks about: as it was fitted here, scikit-learn's and numpy's own.

    The trees of a forest are alike: one is looked through, because to write them all takes half a second.
    """
    last = copy.copy(pipeline[-1])
    if hasattr(last, "estimators_"):
        last.estimators_ = last.estimators_[:1]
    looked_through = Pipeline([*pipeline.steps[:-1], ("last", last)])
    return skops.io.get_untrusted_types(data=skops.io.dumps(looked_through))


def _pins(*packages: str) -> list[str]:
    pins = []
    for package in packages:
        try:
            pins.append(f"{package}=={version(package)}")
        except PackageNotFoundError:  # TensorFlow for Linux comes as tensorflow-cpu
            pins.append(f"{package}-cpu=={version(f'{package}-cpu')}")
    return pins


def _log_epochs(run_id: str, history: dict[str, list[float]]) -> None:
    """Log the curves of a training in one call, as train_loss, train_accuracy, val_loss and val_accuracy."""
    now = int(time.time() * 1000)
    points = [
        Metric(key if key.startswith("val_") else f"train_{key}", value, now, epoch)
        for key, values in history.items()
        for epoch, value in enumerate(values, start=1)
    ]
    for start in range(0, len(points), 1000):  # the most that a call takes
        mlflow.MlflowClient().log_batch(run_id, metrics=points[start : start + 1000])


@click.group(commands=CLASSIFIERS)
@table_options
def train(**_: Any) -> None:
    """Train one classifier and track it."""


@train.result_callback()
@click.pass_context
def _train(
    context: click.Context,
    classifier: BaseEstimator,
    data: str,
    target: str,
    positive: str,
    drop: str,
    test_size: float,
    random_state: int,
) -> None:
    name = str(context.invoked_subcommand)
    split = load_split(data, target, positive, drop, test_size, random_state)
    prepare(classifier, split, random_state)
    with mlflow.start_run() as run:
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params({**context.params, **parameters(name, classifier)})
        log_working_tree()
        result = fit_and_log(name, classifier, split, describe(split))
        shown = ("roc_auc", "average_precision", "accuracy", "recall", "precision", "f1")
        click.echo(f"{name}: " + "  ".join(f"{key} {result.metrics[key]:.4f}" for key in shown))
        click.echo(f"Model: {result.model_uri}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(train)
