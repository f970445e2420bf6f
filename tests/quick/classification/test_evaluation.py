"""Metrics, their intervals, thresholds and warnings, against scikit-learn and textbook formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import module
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from support.bootstrap import METRICS, metrics_when_drawn, resampled_metrics
from support.texts import metric_names

evaluation, report = (module("classification", name) for name in ("evaluation", "report"))
CLASSES = ["24/7/", "A*", "A+"]


@pytest.fixture
def three() -> tuple[np.ndarray, np.ndarray]:
    """True classes of 200 rows and probabilities that tell something of them; one class is rarely found."""
    random = np.random.default_rng(0)
    truth = random.choice(3, size=200, p=[0.6, 0.3, 0.1])
    scores = random.random((200, 3)) + 0.5 * np.eye(3)[truth]
    return truth, scores / scores.sum(axis=1, keepdims=True)


def test_each_of_three_classes_has_a_recall_whatever_its_name(three: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = three
    found = evaluation.scores(truth, probabilities, probabilities.argmax(axis=1), CLASSES, [0, 1, 2])
    of_classes = [value for name, value in found.items() if name.startswith("recall_")]
    assert of_classes == pytest.approx(recall_score(truth, probabilities.argmax(axis=1), average=None))


@pytest.mark.parametrize("counted", [[1], [0, 1, 2]])
def test_the_resample_that_draws_each_row_once_has_the_metrics_themselves(
    counted: list[int], three: tuple[np.ndarray, np.ndarray]
) -> None:
    truth, probabilities = three
    if counted == [1]:
        truth, probabilities = (truth == 0).astype(int), np.column_stack([1 - probabilities[:, 0], probabilities[:, 0]])
        probabilities = probabilities.round(1).clip(0.01, 0.99)  # many rows with one score
    predicted = probabilities.argmax(axis=1)
    found = metrics_when_drawn(np.ones((1, len(truth))), truth, probabilities, predicted, counted)
    members, scored = truth[:, None] == counted, probabilities[:, counted]
    mean = {"labels": counted, "average": "macro"}
    expected = {
        "roc_auc": roc_auc_score(members, scored),
        "average_precision": average_precision_score(members, scored),
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "f1": f1_score(truth, predicted, **mean),
        "recall": recall_score(truth, predicted, **mean),
        "precision": precision_score(truth, predicted, **mean),
        "log_loss": log_loss(truth, probabilities),
        "brier_score_loss": ((scored - members) ** 2).sum(axis=1).mean(),
    }
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)


def test_resamples_are_as_many_as_said_and_the_same_for_every_classifier(three: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = three
    predicted = probabilities.argmax(axis=1)
    one, other = (resampled_metrics(truth, probabilities, predicted, [0, 1, 2], seed=0) for _ in range(2))
    assert {len(values) for values in one.values()} == {500}
    assert all(np.array_equal(one[name], other[name]) for name in METRICS)
    # The standard error of a share is known: the resamples spread as it says.
    share = (predicted == truth).mean()
    assert one["accuracy"].std() == pytest.approx(np.sqrt(share * (1 - share) / len(truth)), rel=0.15)


def test_many_rows_are_resampled_less_often_and_no_more_than_meant() -> None:
    rows, classes = 15_000, 3
    probabilities = np.full((rows, classes), 1 / 3)
    truth = np.arange(rows) % classes
    draws = resampled_metrics(truth, probabilities, truth, [0, 1, 2], seed=0)
    assert {len(values) for values in draws.values()} == {10_000_000 // (rows * classes)}


def result(roc_auc: float, draws: np.ndarray, metric: str = "roc_auc") -> Any:
    nothing = np.empty(0)
    return evaluation.Result(None, None, nothing, nothing, {metric: roc_auc}, {metric: draws})


def test_classifiers_that_differ_alike_in_every_resample_are_told_apart() -> None:
    spread = np.random.default_rng(0).normal(0, 0.05, 500)
    best = result(0.85, 0.85 + spread)
    assert not result(0.84, 0.84 + spread).may_equal(best)  # wide intervals, and yet always worse
    assert result(0.84, 0.84 + spread[::-1]).may_equal(best)
    assert best.may_equal(best)


def churn(tmp_path: Path, rows: int = 400, **columns: list) -> Any:
    """A table with one column that tells a little of who leaves, and others."""
    random = np.random.default_rng(0)
    left = random.random(rows) < 0.25
    table = pd.DataFrame({"spend": left + random.normal(0, 1, rows), "left": np.where(left, "yes", "no")})
    table.assign(**columns).to_csv(tmp_path / "t.csv", index=False)
    features = module("classification", "features")
    return features.load_split(str(tmp_path / "t.csv"), "left", "", "", "", "", 0.25, 0)


def fitted(split: Any, threshold: str = "", name: str = "gaussian_nb") -> Any:
    build = module("classification", "classifiers").build
    model = module("classification", "features").with_preprocessing(build(name, {}, 0), split.kinds)
    return evaluation.fit_and_evaluate(model, split, threshold)


def by_scikit_learn(model: Any, X: pd.DataFrame, y: pd.Series, positive: object) -> dict[str, float]:
    """The metrics of a model on rows, by none of our code. positive: None with more than two classes."""
    probabilities, predicted, classes = model.predict_proba(X), model.predict(X), list(model.classes_)
    counted = classes if positive is None else [positive]
    of_each = [(y == label, predicted == label, probabilities[:, classes.index(label)]) for label in counted]

    def mean(metric: Any, **more: Any) -> float:
        return float(np.mean([metric(truth, said, **more) for truth, said, _ in of_each]))

    def mean_of_others(metric: Any) -> float:
        return float(np.mean([metric(~truth, ~said, zero_division=0) for truth, said, _ in of_each]))

    brier = [brier_score_loss(truth, scored) for truth, _, scored in of_each]
    return {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "f1": mean(f1_score, zero_division=0),
        "recall": mean(recall_score, zero_division=0),
        "precision": mean(precision_score, zero_division=0),
        "specificity": mean_of_others(recall_score),
        "npv": mean_of_others(precision_score),
        "fpr": 1 - mean_of_others(recall_score),
        "fdr": 1 - mean(precision_score, zero_division=1),  # 0 where nobody is suspected
        "roc_auc": float(np.mean([roc_auc_score(truth, scored) for truth, _, scored in of_each])),
        "average_precision": float(np.mean([average_precision_score(truth, scored) for truth, _, scored in of_each])),
        "log_loss": log_loss(y, probabilities, labels=classes),
        "brier_score_loss": float(np.sum(brier)),
    }


PAIRS: list[list] = [["stays", "leaves"], [False, True], [1, 2]]
MANY: list[list] = [["a", "b", "c"], [1, 2, 3], ["24/7/", "A*", "A+", "rare"]]


@pytest.mark.parametrize(
    ("classes", "threshold"),
    [*((pair, threshold) for pair in PAIRS for threshold in ("", "0.3", "f1")), *((many, "") for many in MANY)],
)
def test_metrics_are_those_that_scikit_learn_gives_of_the_model(classes: list, threshold: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.choice(len(classes), size=600, p=[*[0.9 / (len(classes) - 1)] * (len(classes) - 1), 0.1])
    table = pd.DataFrame({"x": (codes + random.normal(0, 1, 600)).round(3), "left": np.array(classes, object)[codes]})
    table.to_csv(tmp_path / "t.csv", index=False)
    split = module("classification", "features").load_split(str(tmp_path / "t.csv"), "left", *[""] * 4, 0.25, 0)
    assert split.classes == sorted(classes)

    result = fitted(split, threshold, "logistic_regression")

    expected = by_scikit_learn(result.model, split.X_test, split.y_test, split.positive)
    assert {name: result.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(result.metrics) - set(expected) - {"fit_seconds", "predict_seconds", "threshold"} == (
        set() if split.positive is not None else set(metric_names(split.classes, "recall_"))
    )


def test_a_threshold_moves_the_decision_and_not_the_probabilities(tmp_path: Path) -> None:
    split = churn(tmp_path)
    usual, low = fitted(split), fitted(split, "0.1")
    positive = split.classes.index("yes")
    assert ((low.predicted == positive) == (low.probabilities[:, positive] >= 0.1)).all()
    assert low.metrics["recall"] > usual.metrics["recall"]
    assert low.metrics["roc_auc"] == usual.metrics["roc_auc"]
    assert low.metrics["threshold"] == 0.1


@pytest.mark.parametrize("wanted", ["f1", "recall>=0.8"])
def test_a_threshold_is_chosen_on_the_training_rows(wanted: str, tmp_path: Path) -> None:
    split = churn(tmp_path)
    chosen = fitted(split, wanted)
    X, y = split.X_train, split.y_train == "yes"
    scored = chosen.model.predict_proba(X)[:, 1]
    if wanted == "f1":
        assert f1_score(y, scored >= chosen.threshold) > f1_score(y, scored >= 0.5)
    else:
        assert recall_score(y, scored >= chosen.threshold) == pytest.approx(0.8, abs=0.05)


def test_a_class_that_is_never_found_is_said_with_a_cure(tmp_path: Path) -> None:
    split = churn(tmp_path)
    usual, never = fitted(split), fitted(split, "0.999")
    wrong = np.where(split.truth == split.classes.index("yes"), 0, 1)  # predicted, and always of the other class
    mistaken = evaluation.Result(None, None, usual.probabilities, wrong, {"roc_auc": 0.5}, {})
    [of_no, of_yes] = report.cautions({"svm": usual, "gaussian_nb": never, "knn": mistaken}, split)
    cure = "its recall is 0. Try class_weight=balanced or threshold=f1."
    assert of_no == f"knn: no row of class 'no' is found, {cure}"
    assert of_yes == f"gaussian_nb, knn: no row of class 'yes' is found, {cure}"


def test_a_column_that_tells_the_answer_is_named_among_columns_that_do_not(tmp_path: Path) -> None:
    left = pd.read_csv(next(iter([churn(tmp_path).source])))["left"]
    assert report.cautions({}, churn(tmp_path)) == []
    for column in (
        [f"code {value}" for value in left],
        [5 if value == "yes" else number % 5 for number, value in enumerate(left)],
    ):
        [warning] = report.cautions({}, churn(tmp_path, closed_on=column))
        assert "column 'closed_on' alone reaches a roc_auc of 1.0000" in warning
        assert "drop" in warning


def test_a_classifier_alone_is_not_called_better_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report.mlflow, "set_tag", lambda *given: None)
    monkeypatch.setattr(report.mlflow, "log_text", lambda *given: None)
    row = {"classifier": "knn", "tied": True, "fit_seconds": 0.1, **dict.fromkeys(report.SHOWN, 0.8)}
    report.log_leaderboard(pd.DataFrame([row]), [])
    assert "better" not in capsys.readouterr().out
    report.log_leaderboard(pd.DataFrame([row, {**row, "classifier": "svm", "tied": False}]), [])
    assert "knn has a better roc_auc than any other" in capsys.readouterr().out
