"""What MLflow records of a fitted classifier: its datasets, its model, its metrics and its picture."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import skops.io
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo
from mlflow.types import ParamSchema, ParamSpec, Schema

from evaluation import Result
from features import Split
from report import evaluation_figure
from support.kinds import to_metadata
from support.requirements import OF_A_PIPELINE, pinned

CONFIG = ("classes", "positive", "threshold")  # what ann.py needs of the metadata
MOST_KNOWN = 1000  # categories of a column that are stored with a model, so that `predict` points out others


def log_result(name: str, result: Result, split: Split) -> None:
    """Log a fitted classifier to the active run: datasets, model, metrics tied to both, picture."""
    mlflow.log_inputs(datasets=[split.train, split.test], contexts=["training", "test"], tags_list=[None, None])
    decision = {} if result.threshold is None else {"positive": split.positive, "threshold": result.threshold}
    about = {"name": "model", "input_example": split.X_train.head(5), "metadata": metadata_of(split) | decision}
    if hasattr(result.classifier, "network_"):
        info = _log_network(result, signature_of(split), about)
    else:
        info = mlflow.sklearn.log_model(
            result.model,
            signature=signature_of(split),
            serialization_format="skops",  # on Databricks the default is a pickle
            # What skops asks about: as it was fitted here, scikit-learn's and numpy's own.
            skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(result.model)),
            pip_requirements=pinned(*OF_A_PIPELINE),
            **about,
        )
    mlflow.log_metrics(result.metrics, dataset=split.test, model_id=info.model_id)
    mlflow.log_figure(evaluation_figure(name, result, split), "evaluation.png")
    mlflow.set_tags({"classifier": name, "positive": str(split.positive)})


def _log_network(result: Result, signature: ModelSignature, about: dict[str, Any]) -> ModelInfo:
    """Log a neural network with its preprocessing as two files, which `ann.py` reads where it is loaded."""
    history = result.classifier.history_
    names = [key if key.startswith("val_") else f"train_{key}" for key in history]
    for epoch, losses in enumerate(zip(*history.values(), strict=True), start=1):
        mlflow.log_metrics(dict(zip(names, losses, strict=True)), step=epoch)
    tensorflow = "tensorflow-cpu" if any(distributions(name="tensorflow-cpu")) else "tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        files = {"preprocessing": f"{folder}/preprocessing.skops", "network": f"{folder}/network.keras"}
        skops.io.dump(result.model[:-1], files["preprocessing"])
        result.classifier.network_.save(files["network"])
        methods = ParamSchema([ParamSpec("predict_method", "string", "predict")])
        return mlflow.pyfunc.log_model(
            python_model=str(Path(__file__).with_name("ann.py")),
            artifacts=files,
            model_config={key: about["metadata"][key] for key in CONFIG if key in about["metadata"]},
            signature=ModelSignature(signature.inputs, signature.outputs, methods),
            pip_requirements=pinned(*OF_A_PIPELINE, "keras", tensorflow),
            **about,
        )


@cache  # for all classifiers of a split
def signature_of(split: Split) -> ModelSignature:
    """The columns that a model takes, and what it gives."""
    schema: Any = split.train.schema
    columns = [column for column in schema.inputs if column.name != split.target]
    return ModelSignature(Schema(columns), infer_signature(np.asarray(split.y_train[:1])).inputs)


@cache
def metadata_of(split: Split) -> dict[str, Any]:
    """What `predict` must know of a model: its classes, how its columns are written, and the categories it has seen."""
    of_texts = [name for name, kind in split.kinds.items() if kind.kind == "category"]
    seen = {name: sorted(split.X_train[name].dropna().unique()) for name in of_texts}
    return {
        "target": split.target,
        "classes": split.classes,
        "categories": {name: values for name, values in seen.items() if len(values) <= MOST_KNOWN},
        "kinds": to_metadata(split.kinds),
    }
