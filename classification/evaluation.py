"""Fit a classifier and measure how good it is on rows that it has not seen: metrics and their intervals."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline

from features import Split
from support.bootstrap import resampled_metrics
from support.parameters import Threshold, option
from support.table import bad
from support.texts import metric_names, shown

FOLDS = 5  # of the training rows, on which a threshold is chosen
MEANT = "Predict the positive class from this probability on: a number, f1 or recall>=0.8 (by training folds)."
THRESHOLD = option("threshold", Threshold(), help=MEANT)


@dataclass(frozen=True)
class Result:
    """A fitted classifier, and what it reaches on the test rows.

    model: the Pipeline, from raw columns to classes.
    threshold: the probability from which on it predicts the positive class; None: the most probable class.
    probabilities: (test rows, classes); predicted: for each test row the position of a class in `split.classes`.
    metrics: see `scores`, and the seconds that it took; draws: those on resamples of the test rows, the same for all.
    """

    model: Pipeline
    threshold: float | None
    probabilities: np.ndarray
    predicted: np.ndarray
    metrics: dict[str, float]
    draws: dict[str, np.ndarray]

    @property
    def classifier(self) -> BaseEstimator:
        """What was fitted behind the preprocessing, without the threshold."""
        return getattr(self.model[-1], "estimator_", self.model[-1])

    def interval(self, metric: str) -> tuple[float, float]:
        """The bounds between which the metric lies with 95 % confidence, were other test rows drawn."""
        low, high = np.nanpercentile(self.draws[metric], [2.5, 97.5])
        return float(low), float(high)

    def may_equal(self, other: Result, metric: str = "roc_auc") -> bool:
        """Whether chance, in which test rows were drawn, explains the difference to another classifier."""
        low, high = np.nanpercentile(self.draws[metric] - other.draws[metric], [2.5, 97.5])
        return bool(low <= 0 <= high)


def fit_and_evaluate(model: Pipeline, split: Split, threshold: str) -> Result:
    """Fit a classifier with its preprocessing on the training rows, and score it on the test rows.

    threshold: as the option of that name; the fitted model predicts by it.
    """
    chosen = _choose_threshold(model, split, threshold)
    if chosen is not None:
        by = {"threshold": chosen, "pos_label": split.positive, "response_method": "predict_proba"}
        model.set_params(classifier=FixedThresholdClassifier(model[-1], **by))
    started = time.perf_counter()
    model.fit(split.X_train, split.y_train)
    fitted = time.perf_counter()
    probabilities = model.predict_proba(split.X_test)
    seconds = {"fit_seconds": fitted - started, "predict_seconds": time.perf_counter() - fitted}

    predicted = decide(probabilities, split.classes, split.positive, chosen)
    metrics = scores(split.truth, probabilities, predicted, split.classes, split.counted) | seconds
    if chosen is not None:
        metrics["threshold"] = chosen
    draws = resampled_metrics(split.truth, probabilities, predicted, split.counted, split.random_state)
    return Result(model, chosen, probabilities, predicted, metrics, draws)


def _choose_threshold(model: Pipeline, split: Split, wanted: str) -> float | None:
    """The number that is meant; `f1` and `recall>=...` are looked up on rows of the training part held out in turn."""
    if not wanted:
        return None
    if split.positive is None:
        raise bad("threshold", wanted, f"needs a target with two classes; this one has {len(split.classes)}.")
    if wanted != "f1" and not wanted.startswith("recall"):
        return float(wanted)
    counts = split.y_train.value_counts()
    if counts.min() < FOLDS:
        there = f"there are {counts.min()} of class {shown(counts.idxmin())}."
        raise bad("threshold", wanted, f"needs {FOLDS} training rows of each class; {there}")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=split.random_state)
    held_out = cross_val_predict(model, split.X_train, split.y_train, cv=folds, method="predict_proba")
    scored = held_out[:, split.classes.index(split.positive)]
    precision, recall, thresholds = precision_recall_curve(split.y_train == split.positive, scored)
    precision, recall = precision[:-1], recall[:-1]  # the last point of the curve has no threshold
    if wanted == "f1":
        return float(thresholds[np.argmax(precision * recall / np.maximum(precision + recall, 1e-12))])
    return float(thresholds[recall >= float(wanted.removeprefix("recall>="))].max())


def decide(probabilities: np.ndarray, classes: list, positive: object | None, threshold: float | None) -> np.ndarray:
    """The position of the predicted class of each row (rows,): the most probable one.

    threshold: if there is one, the positive class is predicted wherever its probability reaches it, and only there.
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    at = classes.index(positive)
    return np.where(probabilities[:, at] >= threshold, at, 1 - at)


def scores(
    truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, classes: list, counted: list[int]
) -> dict[str, float]:
    """The metrics of a classifier, under scikit-learn's names; rates are 0 where nothing was to be counted.

    truth, predicted: the position of a class for each row (rows,). probabilities: (rows, classes).
    counted: the positions of the classes that metrics speak of: one, the positive, or all; then each metric is the
        unweighted mean of their one-versus-rest metrics, and each class has a `recall_<class>` of its own.
    """
    members, scored = truth[:, None] == counted, probabilities[:, counted]
    tn, fp, fn, tp = multilabel_confusion_matrix(truth, predicted, labels=counted).reshape(-1, 4).T
    rates = {"f1": (2 * tp, fp + fn), "recall": (tp, fn), "specificity": (tn, fp), "precision": (tp, fp)}
    rates |= {"npv": (tn, fn), "fpr": (fp, tn), "fdr": (fp, tp)}
    found = {name: part / np.maximum(part + others, 1) for name, (part, others) in rates.items()}
    each = dict(zip(metric_names(classes, "recall_"), found["recall"], strict=True)) if len(counted) > 1 else {}
    means = {
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        **{name: values.mean() for name, values in found.items()},
        "roc_auc": roc_auc_score(members, scored, average="macro"),
        "average_precision": average_precision_score(members, scored, average="macro"),
        "log_loss": log_loss(truth, probabilities, labels=range(len(classes))),
        "brier_score_loss": ((scored - members) ** 2).sum(axis=1).mean(),
    }
    return {name: float(value) for name, value in (means | each).items()}
