"""What MLflow records of a split and of a fitted classifier."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import skops.io
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.entities import Metric
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo
from mlflow.types import ParamSchema, ParamSpec
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from evaluation import Result
from features import Split
from pictures import evaluation_figure
from support.kinds import to_metadata
from support.table import dataset_source, short_name

MOST_KNOWN = 1000  # categories of a column that are stored with a model, so that `predict` points out others


@dataclass(frozen=True)
class Record:
    """What the records of all classifiers of a split have in common.

    train, test: the rows as MLflow datasets, with source and digest.
    signature: the columns that a model takes, and what it gives.
    metadata: what `predict` must know of a model.
    """

    train: PandasDataset
    test: PandasDataset
    signature: ModelSignature
    metadata: dict[str, Any]


def record_of(split: Split) -> Record:
    """Describe a split, once for all its classifiers, because it takes a while."""
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer")
    name, source = short_name(split.source), dataset_source(split.source)
    datasets = {}
    for part, X, y in (("train", split.X_train, split.y_train), ("test", split.X_test, split.y_test)):
        rows = X.assign(**{split.target: y})
        dataset = from_pandas(rows, source=source, targets=split.target, name=f"{name}_{part}")
        dataset.schema = from_pandas(_of_every_kind(rows), source=source).schema
        datasets[part] = dataset
    categories = {
        name: split.X_train[name].dropna().unique() for name, kind in split.kinds.items() if kind.kind == "category"
    }
    known = {name: sorted(values) for name, values in categories.items() if len(values) <= MOST_KNOWN}
    return Record(
        **datasets,
        signature=infer_signature(_of_every_kind(split.X_train), np.asarray(split.y_train[:1])),
        metadata={
            "target": split.target,
            "classes": split.classes,
            "categories": known,
            "kinds": to_metadata(split.kinds),
        },
    )


def _of_every_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """A few rows with the types of all, of each column a value and, if there is one, a missing value.

    MLflow looks at every text in turn to find a column's type: minutes for a million rows, which tell no more.
    """
    missing = frame.isna().to_numpy()
    rows = {*missing.argmin(axis=0), *missing.argmax(axis=0)}  # the first row of each
    return frame.iloc[sorted(rows)]


def log_datasets(record: Record) -> None:
    """Log the training and the test rows as inputs of the active run."""
    mlflow.log_inputs(datasets=[record.train, record.test], contexts=["training", "test"], tags_list=[None, None])


def log_result(name: str, result: Result, split: Split, record: Record) -> None:
    """Log a fitted classifier to the active run: datasets, model, metrics tied to both, picture."""
    log_datasets(record)
    info = _log_model(result, split, record)
    mlflow.log_metrics(result.metrics, dataset=record.test, model_id=info.model_id)
    if hasattr(result.model[-1], "history_"):
        _log_epochs(info.run_id, result.model[-1].history_)
    log_picture(evaluation_figure(name, result, split), "evaluation.png")
    mlflow.set_tags({"classifier": name, "positive": str(split.positive)})


def log_picture(figure: Figure, artifact_file: str) -> None:
    """Log a figure to the active run, packed lightly: 6 % larger, in half the time."""
    mlflow.log_figure(figure, artifact_file, save_kwargs={"pil_kwargs": {"compress_level": 2}})


def _log_model(result: Result, split: Split, record: Record) -> ModelInfo:
    """Log the Pipeline as `model`, in a form that is no pickle; with a threshold, it predicts by it everywhere."""
    decision = {} if result.threshold is None else {"positive": split.positive, "threshold": result.threshold}
    alike: dict[str, Any] = {
        "name": "model",
        "input_example": split.X_train.head(5),
        "metadata": record.metadata | decision,
    }
    pipeline = result.model
    if hasattr(pipeline[-1], "network_"):
        return _log_network(
            pipeline, {"classes": split.classes} | ({"decision": decision} if decision else {}), record, alike
        )
    if decision:
        fitted = FrozenEstimator(pipeline[-1])
        decides = FixedThresholdClassifier(
            fitted, threshold=result.threshold, pos_label=split.positive, response_method="predict_proba"
        )
        X, y = pipeline[:-1].transform(split.X_train.head()), split.y_train.head()
        pipeline = Pipeline([*pipeline.steps[:-1], ("classifier", decides.fit(X, y))])
    return mlflow.sklearn.log_model(
        pipeline,
        signature=record.signature,
        serialization_format="skops",  # on Databricks the default is a pickle
        skops_trusted_types=_types(pipeline),
        pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy"),
        **alike,
    )


def _log_network(pipeline: Pipeline, config: dict[str, Any], record: Record, alike: dict[str, Any]) -> ModelInfo:
    """Log a Pipeline that ends in a neural network as two files, which `ann.py` reads where it is loaded."""
    methods = ParamSchema([ParamSpec("predict_method", "string", "predict")])
    with tempfile.TemporaryDirectory() as folder:
        files = {"preprocessing": f"{folder}/preprocessing.skops", "network": f"{folder}/network.keras"}
        skops.io.dump(pipeline[:-1], files["preprocessing"])
        pipeline[-1].network_.save(files["network"])
        return mlflow.pyfunc.log_model(
            python_model=str(Path(__file__).with_name("ann.py")),
            artifacts=files,
            model_config=config,
            signature=ModelSignature(record.signature.inputs, record.signature.outputs, methods),
            pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy", "keras", "tensorflow"),
            **alike,
        )


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
    """Log the curves of a training in few calls, as train_loss, train_accuracy, val_loss and val_accuracy."""
    now = int(time.time() * 1000)
    points = [
        Metric(key if key.startswith("val_") else f"train_{key}", value, now, epoch)
        for key, values in history.items()
        for epoch, value in enumerate(values, start=1)
    ]
    for start in range(0, len(points), 1000):  # the most that a call takes
        mlflow.MlflowClient().log_batch(run_id, metrics=points[start : start + 1000])
