"""The rules of the gate, against scikit-learn's own figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, roc_auc_score, root_mean_squared_error

EXAMPLE = Path(__file__).parents[2] / "registry_deploy"
sys.path.insert(0, str(EXAMPLE))

from answers import Answers  # noqa: E402
from gate import METRICS, bootstrap_improvement, incompatibility, parse_thresholds, point  # noqa: E402

sys.path.remove(str(EXAMPLE))  # another example may have modules of the same names

GENERATOR = np.random.default_rng(0)
ROWS = 300


def classified(classes: int, noise: float, truth: np.ndarray) -> Answers:
    """Answers of a classifier, in probabilities with ties."""
    raw = np.eye(classes)[truth] + GENERATOR.random((len(truth), classes)) * noise
    probabilities = np.round(raw, 1) + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Answers(probabilities.argmax(axis=1).tolist(), list(range(classes)), probabilities.tolist(), 1.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_are_those_of_scikit_learn_for_every_weighting(classes: int) -> None:
    truth = GENERATOR.integers(classes, size=ROWS)
    answers = classified(classes, 3, truth)
    weights = GENERATOR.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=4).astype(float)
    probabilities = np.asarray(answers.probabilities)
    members = np.eye(classes)[truth]
    for row, weight in enumerate(weights):
        aucs = [
            roc_auc_score(members[:, label], probabilities[:, label], sample_weight=weight)
            for label in (range(classes) if classes > 2 else [1])
        ]
        expected = {
            "roc_auc": np.mean(aucs),
            "log_loss": log_loss(truth, probabilities, sample_weight=weight),
            "accuracy_score": accuracy_score(truth, answers.predictions, sample_weight=weight),
        }
        for name, metric in METRICS["classifier"].items():
            assert metric.score(truth, answers, weights)[row] == pytest.approx(expected[name], abs=1e-12), name


def test_metrics_of_a_regressor() -> None:
    truth = GENERATOR.normal(size=ROWS)
    answers = Answers((truth + GENERATOR.normal(size=ROWS)).tolist(), [], [], 1.0)
    offered = METRICS["regressor"]
    absolute = mean_absolute_error(truth, answers.predictions)
    squared = root_mean_squared_error(truth, answers.predictions)
    assert point(truth, answers, offered["mean_absolute_error"]) == pytest.approx(absolute)
    assert point(truth, answers, offered["root_mean_squared_error"]) == pytest.approx(squared)
    assert point(truth, answers, offered["mean_squared_error"]) == pytest.approx(squared**2)


@pytest.mark.parametrize("name", list(METRICS["classifier"]))
def test_improvement_is_positive_when_the_candidate_is_better_whatever_the_metric(name: str) -> None:
    truth = GENERATOR.integers(2, size=ROWS)
    good, weak = classified(2, 1.2, truth), classified(2, 6, truth)
    metric = METRICS["classifier"][name]
    improvement = bootstrap_improvement(truth, good, weak, metric, 500, 0)
    assert np.quantile(improvement, 0.025) > 0
    assert np.array_equal(improvement, bootstrap_improvement(truth, good, weak, metric, 500, 0))
    assert np.allclose(improvement, -bootstrap_improvement(truth, weak, good, metric, 500, 0))


def test_the_interval_has_the_width_that_theory_gives() -> None:
    """Two models that differ by a coin on 10 % of the rows: the difference in accuracy has a known standard error."""
    truth = np.zeros(2000, dtype=int)
    right, wrong = np.zeros(2000, dtype=int), np.zeros(2000, dtype=int)
    wrong[:120] = 1
    right[120:200] = 1
    one, other = Answers(right.tolist(), [], [], 1.0), Answers(wrong.tolist(), [], [], 1.0)
    improvement = bootstrap_improvement(truth, one, other, METRICS["classifier"]["accuracy_score"], 4000, 0)
    difference = (right == truth).astype(float) - (wrong == truth)
    assert improvement.mean() == pytest.approx(0.02, abs=5e-4)
    assert improvement.std() == pytest.approx(difference.std() / np.sqrt(2000), rel=0.05)


def test_thresholds_are_read() -> None:
    thresholds = parse_thresholds("roc_auc>=0.8, log_loss <= 5e-1,")
    assert {name: (each.threshold, each.greater_is_better) for name, each in thresholds.items()} == {
        "roc_auc": (0.8, True),
        "log_loss": (0.5, False),
    }
    assert parse_thresholds("") == {}
    for text in ("roc_auc", "roc_auc=0.8", "roc_auc>=high", "0.8<=roc_auc", "roc_auc>=0.8.1"):
        with pytest.raises(ValueError, match="is no threshold"):
            parse_thresholds(text)


def signature(*columns: ColSpec, output: str = "string", params: tuple[str, ...] = ()) -> ModelSignature:
    declared = [ParamSpec(name, "string", "") for name in params]
    inputs, outputs = Schema(list(columns)), Schema([ColSpec(output)])
    return ModelSignature(inputs, outputs, ParamSchema(declared)) if params else ModelSignature(inputs, outputs)


X, Z = ColSpec("double", "x"), ColSpec("double", "z")


@pytest.mark.parametrize(
    ("candidate", "champion", "reason"),
    [
        (signature(X, Z), signature(X, Z), ""),
        (signature(X), signature(X, Z), ""),
        (signature(X, ColSpec("double", "new", required=False)), signature(X), ""),
        (signature(X, params=("method",)), signature(X), ""),
        (signature(X, Z), signature(X), "needs column 'z'"),
        (signature(ColSpec("long", "x")), signature(X), "column 'x' is long, not double"),
        (signature(X), signature(ColSpec("double", "x", required=False)), "column 'x' is no longer optional"),
        (signature(X, output="double"), signature(X), "answers double (required), not string (required)"),
        (signature(X), signature(X, params=("method",)), "takes no parameter 'method'"),
    ],
)
def test_a_candidate_must_take_what_the_champion_takes(
    candidate: ModelSignature, champion: ModelSignature, reason: str
) -> None:
    assert incompatibility(candidate, champion) == reason
