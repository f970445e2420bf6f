"""Who meets at the gate: the validation data, and a version that is asked them and evaluated."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import EvaluationMetric, EvaluationResult, Model, ModelSignature, make_metric

import gate
from answers import Answers, Asked, AskedElsewhere
from instances import all_rows, instances
from model_files import download, python_of, reason
from support.datasets import as_dataset
from support.inputs import to_frame
from support.kinds import decide
from support.names import free_names, pick_names
from support.table import OpenedTable, bad, open_table, short_name
from target import DeploymentError


@dataclass(frozen=True)
class Validation:
    """The validation data: rows that no model has been fitted on.

    truth: (rows,), from the column `target`. labels: the classes in the truth, None for a regressor.
    groups: the groups of the slices, by name, whether a row belongs to it (rows,).
    """

    data: str
    target: str
    model_type: str
    table: OpenedTable
    rows: pa.Table
    truth: np.ndarray
    labels: list[Any] | None
    groups: dict[str, np.ndarray]


def read_validation(data: str, target: str, model_type: str, slices: str) -> Validation:
    """Read the validation data.

    Raises click.BadParameter where the target, or a column of slices, is not in it or cannot be used.
    """
    table = open_table(data)
    [target] = pick_names("target", [target], table.names)
    columns = pick_names("slices", slices, table.names)
    kinds = decide(table, names=[target, *columns], asked=[target, *columns])
    frame = to_frame(table, kinds)
    truth, labels = frame[target], None
    if truth.isna().any():
        raise bad("target", target, f"has {truth.isna().sum()} missing values: every row needs the truth.")
    if model_type == "classifier":
        if kinds[target].kind == "number" and (truth % 1 == 0).all():
            truth = truth.astype("int64")
        labels = sorted(set(truth.tolist()))
    elif kinds[target].kind not in ("number", "boolean"):
        raise bad("target", target, "is not numeric: model_type=regressor predicts numbers.")
    groups = {group: member for name in columns for group, member in gate.groups_of(frame[name]).items()}
    values = np.asarray(truth.tolist(), dtype=None if labels else float)
    return Validation(data, target, model_type, table, all_rows(table), values, labels, groups)


class Contestant:
    """A version: downloaded, then asked the validation data (`ask`), then evaluated (`evaluate`).

    role: candidate or champion. folder: where its files go.

    Raises click.ClickException where it cannot be downloaded, click.BadParameter where it has no signature.
    """

    X: pd.DataFrame  # what it is asked
    asked: Asked | AskedElsewhere
    evaluated: EvaluationResult

    def __init__(self, role: str, version: ModelVersion, folder: Path) -> None:
        self.role, self.version = role, version
        self.uri = f"models:/{version.name}/{version.version}"
        try:
            self.path = download(self.uri, folder / role)
        except DeploymentError as error:
            raise click.ClickException(str(error)) from None
        self.model = Model.load(str(self.path))
        if self.model.signature is None or self.model.signature.inputs is None:
            raise bad("model_uri", self.uri, "has no signature: log it with one.")
        self.signature: ModelSignature = self.model.signature

    @property
    def answers(self) -> Answers:
        """What it said to the validation data."""
        return self.asked.answers

    def ask(self, validation: Validation, env_manager: str, stack: ExitStack) -> None:
        """Let it answer the validation data; its process, if it has one, ends with the stack.

        Raises click.BadParameter where it does not work, or its answers cannot be judged.
        """
        self.X = features(validation, self.model, self.signature)
        try:
            if env_manager == "local":
                self.asked = Asked(str(self.path), self.X, validation.labels)
            else:
                python, folder = python_of(self.path, env_manager), self.path.parent
                self.asked = AskedElsewhere(python, self.path, self.X, validation.labels, folder)
                stack.callback(self.asked.close)
        except Exception as error:  # a model may raise anything
            lacks = env_manager == "local" and "No module named" in str(error)
            hint = "; env_manager=uv asks it with its own packages" if lacks else ""
            why = reason(error).rstrip(".")
            raise bad("model_uri", self.uri, f"cannot answer the validation data: {why}{hint}.") from None
        check_answers(self.uri, self.answers, validation.labels)

    def dataset(self, validation: Validation) -> PandasDataset:
        """The validation data with its answers, as MLflow records them: other data or answers have another digest."""
        target = validation.target
        [answer] = free_names(["prediction"], [*self.X, target]).values()
        added = pd.DataFrame({target: validation.truth, answer: self.answers.predictions}, index=self.X.index)
        answered = pd.concat([self.X, added], axis=1)
        name = short_name(validation.data)
        return as_dataset(answered, validation.data, name, targets=target, predictions=answer)

    def evaluate(self, validation: Validation) -> None:
        """Evaluate its answers by MLflow in a child run, tied to the model and to the validation data."""
        # MLflow works these out only from a model that it runs itself.
        metrics = [
            _known_metric(name, metric.value(validation.truth, self.answers), metric.greater_is_better)
            for name, metric in gate.METRICS[validation.model_type].items()
            if metric.needs_probabilities and self.answers.probabilities
        ]
        average = {"average": "macro"} if len(validation.labels or []) > 2 else {}
        with mlflow.start_run(nested=True, run_name=f"{self.role}: version {self.version.version}"):
            self.evaluated = mlflow.models.evaluate(
                data=self.dataset(validation),
                model_type=validation.model_type,
                evaluators=["default"],
                evaluator_config={"default": {"log_model_explainability": False, **average}},
                extra_metrics=metrics,
                model_id=self.model.model_id,
            )
        mlflow.clear_active_model()  # evaluate() sets it, and later runs of this process would be tied to it


def _known_metric(name: str, value: float, greater_is_better: bool) -> EvaluationMetric:
    return make_metric(
        eval_fn=lambda predictions, targets, metrics: value, greater_is_better=greater_is_better, name=name
    )


def features(validation: Validation, model: Model, signature: ModelSignature) -> pd.DataFrame:
    """What a model is asked: the columns that it names, or, of a tensor, all but the target in the table's order."""
    inputs, table = signature.inputs, validation.table
    if not inputs.is_tensor_spec():
        return instances(table, validation.rows, inputs, model.metadata)
    if inputs.has_input_names():
        names = pick_names("data", inputs.input_names(), table.names)
        return to_frame(table, decide(table, names=names, asked=names))
    names = [name for name in table.names if name != validation.target]
    wanted = abs(int(np.prod(inputs.inputs[0].shape[1:])))
    if len(names) != wanted:
        raise bad("data", len(names), f"columns beside the target: the model takes {wanted}.")
    kinds = decide(table, names=names, asked=names)
    for name, found in kinds.items():
        if found.kind not in ("number", "boolean"):
            raise bad("data", name, "is a column of text: the model takes a tensor of numbers.")
    return to_frame(table, kinds)


def check_answers(uri: str, answers: Answers, labels: list[Any] | None) -> None:
    """Raise click.BadParameter where answers cannot be judged: no number, or classes that are not in the truth."""
    numbers = answers.predictions if labels is None else answers.probabilities
    finite = np.isfinite(pd.DataFrame(numbers).apply(pd.to_numeric, errors="coerce").to_numpy(float)).all(axis=1)
    if not finite.all():
        raise bad("model_uri", uri, f"answers no finite number to row {int(np.argmin(finite)) + 1}.")
    known = set(answers.classes or answers.predictions)
    strange = [label for label in labels or [] if label not in known]
    # Where a model names no classes, it may just not have predicted one of them.
    if strange and (answers.classes or len(strange) == len(labels or [])):
        has = ", ".join(sorted(map(str, known))[:5])
        cure = "log it with metadata={'classes': [...]} if these are their numbers"
        raise bad("data", str(strange[0]), f"is a class that {uri} does not know; it has: {has}; {cure}.")
