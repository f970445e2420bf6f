"""Any model can be asked: whatever the form of its answers, and wherever it keeps its probabilities."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from examples import module
from mlflow.models import infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec

answers: Any = module("registry_deploy", "answers")
contestant: Any = module("registry_deploy", "contestant")
X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 30, "b": [1.0, 0.0] * 60})
y = (X["a"] > 1).astype(int).to_numpy()


class Loaded:
    """What mlflow.pyfunc.load_model gives, as far as it is asked: a model that gives one fixed output."""

    def __init__(self, output: Any, classes: list[Any] | None = None, flavors: tuple[str, ...] = ()) -> None:
        self.output = output
        metadata = {"classes": classes} if classes else None
        self.metadata = SimpleNamespace(metadata=metadata, flavors=flavors, get_params_schema=lambda: None)

    def predict(self, _: Any) -> Any:
        return self.output


SURE = np.array([[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    "output",
    [
        [1.5, 2.5],
        np.array([[1.5], [2.5]]),
        pd.Series([1.5, 2.5]),
        pd.DataFrame({"anything": [1.5, 2.5]}),
        pd.DataFrame({"prediction": [1.5, 2.5], "error": [9.0, 9.0]}),
        {"output": np.array([[1.5], [2.5]])},
        [np.array([1.5]), np.array([2.5])],
        pd.DataFrame({"cells": [[1.5], [2.5]]}),
    ],
)
def test_the_number_of_a_regressor_whatever_holds_it(output: Any) -> None:
    assert answers.answers_of(Loaded(output), X[:2], 2, None).predictions == [1.5, 2.5]


@pytest.mark.parametrize("output", [SURE, pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}), [1.0], {"a": [1], "b": [2]}])
def test_answers_that_are_not_one_a_row_are_refused(output: Any) -> None:
    with pytest.raises(ValueError, match="the gate reads one"):
        answers.answers_of(Loaded(output), X[:2], 2, None)


@pytest.mark.parametrize(
    ("loaded", "labels", "predicted", "classes"),
    [
        (Loaded(SURE), [0, 1], [0, 1], [0, 1]),
        (Loaded(SURE, ["no", "yes"]), ["no", "yes"], ["no", "yes"], ["no", "yes"]),
        (Loaded(pd.DataFrame(SURE, columns=["no", "yes"])), ["no", "yes"], ["no", "yes"], ["no", "yes"]),
        (Loaded(pd.DataFrame(SURE, columns=["0", "1"]).assign(prediction=[0, 1])), [0, 1], [0, 1], [0, 1]),
        (Loaded(pd.DataFrame({"p": SURE.tolist()})), [0, 1], [0, 1], [0, 1]),
        (Loaded(np.array([0.1, 0.8])), [0, 1], [0, 1], [0, 1]),
        (Loaded(np.array([[0.1], [0.8]]), ["no", "yes"], ("keras",)), ["no", "yes"], ["no", "yes"], ["no", "yes"]),
    ],
)
def test_probabilities_of_a_classifier_that_answers_with_them(
    loaded: Any, labels: list[Any], predicted: list[Any], classes: list[Any]
) -> None:
    found = answers.answers_of(loaded, X[:2], 2, labels)
    assert (found.predictions, found.classes) == (predicted, classes)
    assert np.allclose(np.asarray(found.probabilities)[:, 1], [0.1, 0.8])


def test_probabilities_go_by_the_names_of_their_columns() -> None:
    """Metadata may name the classes in another order than the columns of the answer."""
    named = pd.DataFrame(SURE[:, ::-1], columns=["yes", "no"])
    for output in (named, named.assign(prediction=["no", "yes"])):
        for own in ([], ["no", "yes"], [0, 1]):  # the classes of a model behind it, with an order of their own
            loaded = Loaded(output, None if own else ["no", "yes"])
            loaded.get_raw_model = lambda own=own: SimpleNamespace(classes_=own)
            found = answers.answers_of(loaded, X[:2], 2, ["no", "yes"])
            assert (found.predictions, found.classes) == (["no", "yes"], ["yes", "no"])


def test_labels_without_probabilities() -> None:
    for output in (["no", "yes"], np.array([0, 1]), np.array([0.0, 1.0])):
        found = answers.answers_of(Loaded(output), X[:2], 2, list(output))
        assert (found.predictions, found.probabilities) == (list(output), [])


def test_classes_are_those_of_the_truth_however_a_model_writes_them() -> None:
    for first, labels in (("0", [0, 1]), ("False", [False, True])):
        written = [first, str(labels[1])]
        assert answers.answers_of(Loaded(written), X[:2], 2, labels).predictions == labels
        table = pd.DataFrame(SURE, columns=written).assign(prediction=written)
        found = answers.answers_of(Loaded(table), X[:2], 2, labels)
        assert (found.predictions, found.classes) == (labels, labels)


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        ([[1.0, float("nan")], [], []], None, "answers no finite number to row 2."),
        ([[1.0, 2.0, "high"], [], []], None, "answers no finite number to row 3."),
        ([[0, 1], [0, 1], [[0.5, 0.5], [float("nan"), 0.5]]], [0, 1], "answers no finite number to row 2."),
        ([["a", "b"], [], []], [0, 1], "'0' is a class that models:/m/1 does not know; it has: a, b; log it with"),
        ([[0, 0], [0, 1], [[1, 0], [1, 0]]], [0, 1, 2], "'2' is a class that models:/m/1 does not know"),
        ([[0, 0], [], []], [0, 1], ""),
    ],
)
def test_answers_that_cannot_be_judged_are_refused(given: list[Any], labels: list[Any] | None, message: str) -> None:
    if not message:
        contestant.check_answers("models:/m/1", answers.Answers(*given), labels)
        return
    with pytest.raises(click.BadParameter) as caught:
        contestant.check_answers("models:/m/1", answers.Answers(*given), labels)
    assert message in caught.value.message


def test_models_of_xgboost_and_lightgbm_give_their_probabilities(tmp_path: Path) -> None:
    boosted = xgboost.XGBClassifier(n_estimators=3).fit(X, y)
    light = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=1, verbose=-1).fit(X, y)
    saved: dict[str, tuple[Any, Any, np.ndarray]] = {
        "xgboost": (mlflow.xgboost, boosted, boosted.predict_proba(X)[:, 1]),
        "booster": (mlflow.xgboost, boosted.get_booster(), boosted.predict_proba(X)[:, 1]),
        "lightgbm": (mlflow.lightgbm, light, np.asarray(light.predict_proba(X))[:, 1]),
    }
    for name, (flavor, model, expected) in saved.items():
        signature = infer_signature(X, np.zeros(2) if name == "booster" else y)
        flavor.save_model(model, tmp_path / name, signature=signature, pip_requirements=["mlflow"])
        asked = answers.Asked(str(tmp_path / name), X, [0, 1])
        assert asked.answers.classes == [0, 1], name
        assert np.allclose(np.asarray(asked.answers.probabilities)[:, 1], expected, atol=1e-6), name
        assert asked.answers.predictions == (expected > 0.5).astype(int).tolist()
        assert asked.milliseconds(5) > 0


def test_a_model_that_learned_the_numbers_of_classes_answers_by_their_names(tmp_path: Path) -> None:
    """XGBoost learns 0 and 1 only: the classes are in the metadata, as the message of a refusal says."""
    boosted = xgboost.XGBClassifier(n_estimators=3).fit(X, y)
    named: list[list[Any]] = [["no", "yes"], [1, 2]]
    for place, classes in enumerate(named):
        path = tmp_path / str(place)
        signature = infer_signature(X, y)
        mlflow.xgboost.save_model(
            boosted, path, signature=signature, metadata={"classes": classes}, pip_requirements=["mlflow"]
        )
        for rows, numbers in ((X, y), (X[y == 1], y[y == 1])):
            found = answers.Asked(str(path), rows, classes).answers
            assert (found.classes, found.predictions) == (classes, [classes[number] for number in numbers])
    cases: list[tuple[list[Any], list[Any], list[Any]]] = [
        ([0, 1], ["no", "yes"], ["no", "yes"]),
        (["no", "yes"], ["no", "yes"], ["no", "yes"]),
        ([1, 0], [0, 1], [1, 0]),
        ([2, 1], [1, 2], [2, 1]),
    ]
    for output, labels, predicted in cases:
        assert answers.answers_of(Loaded(output, labels), X[:2], 2, labels).predictions == predicted


def test_rows_become_what_the_signature_asks_for() -> None:
    assert answers.as_input(X, Schema([ColSpec("double", "a")])) is X
    tensor = answers.as_input(X, Schema([TensorSpec(np.dtype("float32"), (-1, 2))]))
    assert (tensor.shape, tensor.dtype) == ((120, 2), np.float32)
    named = Schema([TensorSpec(np.dtype("float64"), (-1,), "a"), TensorSpec(np.dtype("float32"), (-1, 1), "b")])
    arrays = answers.as_input(X, named)
    assert {name: (each.shape, str(each.dtype)) for name, each in arrays.items()} == {
        "a": ((120,), "float64"),
        "b": ((120, 1), "float32"),
    }
