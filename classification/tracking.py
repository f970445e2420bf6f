"""What MLflow records of a split and of a fitted classifier."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import skops.io
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo
from mlflow.types import ParamSchema, ParamSpec
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
    signature: the columns that a model takes, and what it gives. metadata: what `predict` must know of a model.
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
    of_texts = [name for name, kind in split.kinds.items() if kind.kind == "category"]
    found = {name: split.X_train[name].dropna().unique() for name in of_texts}
    metadata = {
        "target": split.target,
        "classes": split.classes,
        "categories": {name: sorted(values) for name, values in found.items() if len(values) <= MOST_KNOWN},
        "kinds": to_metadata(split.kinds),
    }
    signature = infer_signature(_of_every_kind(split.X_train), np.asarray(split.y_train[:1]))
    return Record(**datasets, signature=signature, metadata=metadata)


def _of_every_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """A few rows with the types of all, of each column a value and, if there is one, a missing value.

    MLflow looks at every text in turn to find a column's type: minutes for a million rows, which tell no more.
    """
    missing = frame.isna().to_numpy()
    return frame.iloc[sorted({*missing.argmin(axis=0), *missing.argmax(axis=0)})]  # the first row of each


def log_datasets(record: Record) -> None:
    """Log the training and the test rows as inputs of the active run."""
    mlflow.log_inputs(datasets=[record.train, record.test], contexts=["training", "test"], tags_list=[None, None])


def log_result(name: str, result: Result, split: Split, record: Record) -> None:
    """Log a fitted classifier to the active run: datasets, model, metrics tied to both, picture."""
    log_datasets(record)
    decision = {} if result.threshold is None else {"positive": split.positive, "threshold": result.threshold}
    shared = {"name": "model", "input_example": split.X_train.head(5), "metadata": record.metadata | decision}
    network = getattr(result.model[-1], "estimator_", result.model[-1])  # within the threshold, where there is one
    if hasattr(network, "network_"):
        config = {"classes": split.classes, **({"decision": decision} if decision else {})}
        info = _log_network(result.model[:-1], network, config, record, shared)
    else:
        info = mlflow.sklearn.log_model(
            result.model,
            signature=record.signature,
            serialization_format="skops",  # on Databricks the default is a pickle
            # What skops asks about: as it was fitted here, scikit-learn's and numpy's own.
            skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(result.model)),
            pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy"),
            **shared,
        )
    mlflow.log_metrics(result.metrics, dataset=record.test, model_id=info.model_id)
    mlflow.log_figure(evaluation_figure(name, result, split), "evaluation.png")
    mlflow.set_tags({"classifier": name, "positive": str(split.positive)})


def _log_network(
    preprocessing: Pipeline, network: Any, config: dict[str, Any], record: Record, shared: dict[str, Any]
) -> ModelInfo:
    """Log a neural network with its preprocessing as two files, which `ann.py` reads where it is loaded."""
    for epoch, losses in enumerate(zip(*network.history_.values(), strict=True), start=1):
        names = [key if key.startswith("val_") else f"train_{key}" for key in network.history_]
        mlflow.log_metrics(dict(zip(names, losses, strict=True)), step=epoch)
    methods = ParamSchema([ParamSpec("predict_method", "string", "predict")])
    with tempfile.TemporaryDirectory() as folder:
        files = {"preprocessing": f"{folder}/preprocessing.skops", "network": f"{folder}/network.keras"}
        skops.io.dump(preprocessing, files["preprocessing"])
        network.network_.save(files["network"])
        return mlflow.pyfunc.log_model(
            python_model=str(Path(__file__).with_name("ann.py")),
            artifacts=files,
            model_config=config,
            signature=ModelSignature(record.signature.inputs, record.signature.outputs, methods),
            pip_requirements=_pins("mlflow", "scikit-learn", "skops", "pandas", "numpy", "keras", "tensorflow"),
            **shared,
        )


def _pins(*packages: str) -> list[str]:
    pins = []
    for package in packages:
        try:
            pins.append(f"{package}=={version(package)}")
        except PackageNotFoundError:  # TensorFlow for Linux comes as tensorflow-cpu
            pins.append(f"{package}-cpu=={version(f'{package}-cpu')}")
    return pins
