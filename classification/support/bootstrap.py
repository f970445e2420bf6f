# Copied by `make vendor` from support/bootstrap.py of the collection: edit that, or this in your own copy.
"""How much a classifier's metrics depend on which rows it was tested on: their values on resamples of these rows."""

from __future__ import annotations

import numpy as np

METRICS = ["roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "recall", "precision", "log_loss"]
METRICS += ["brier_score_loss"]


def resampled_metrics(
    truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, counted: list[int], seed: int
) -> dict[str, np.ndarray]:
    """Each of METRICS on resamples of the rows (resamples,): 500, fewer (at least 200) where there are many rows.

    truth, predicted: the position of a class for each row (rows,).
    probabilities: (rows, classes).
    counted: the positions of the classes that metrics speak of: one, the positive, or all, of which they are the mean.
    seed: of the resamples. With the same seed and rows they are the same, so that classifiers can be compared by them.
    """
    rows, classes = probabilities.shape
    random = np.random.default_rng(seed)
    left = int(np.clip(10_000_000 / (rows * classes), 200, 500))
    parts = []
    while left > 0:
        some = min(left, max(1, 5_000_000 // rows))  # a bounded number at a time, for the sake of memory
        indices = random.integers(rows, size=(some, rows)) + rows * np.arange(some)[:, None]
        drawn = np.bincount(indices.ravel(), minlength=some * rows).reshape(some, rows).astype("float64")
        parts.append(metrics_when_drawn(drawn, truth, probabilities, predicted, counted))
        left -= some
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def metrics_when_drawn(
    drawn: np.ndarray, truth: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, counted: list[int]
) -> dict[str, np.ndarray]:
    """Each of METRICS (resamples,), from how often each resample draws each row (resamples, rows)."""
    every = np.arange(probabilities.shape[1])
    is_class, is_predicted = truth[:, None] == every, predicted[:, None] == every
    true, said, right = (drawn @ part.astype("float64") for part in (is_class, is_predicted, is_class & is_predicted))
    recall, precision, f1 = _rates(right, true), _rates(right, said), _rates(2 * right, true + said)
    ranked = [_ranking_when_drawn(drawn, is_class[:, one], probabilities[:, one]) for one in counted]
    own = np.clip(probabilities[np.arange(len(truth)), truth], np.finfo(probabilities.dtype).eps, None)
    return {
        "roc_auc": np.mean([auc for auc, _ in ranked], axis=0),
        "average_precision": np.mean([average for _, average in ranked], axis=0),
        "accuracy": right.sum(axis=1) / len(truth),
        "balanced_accuracy": recall.sum(axis=1) / (true > 0).sum(axis=1),
        "f1": f1[:, counted].mean(axis=1),
        "recall": recall[:, counted].mean(axis=1),
        "precision": precision[:, counted].mean(axis=1),
        "log_loss": drawn @ -np.log(own) / len(truth),
        "brier_score_loss": drawn @ ((probabilities - is_class)[:, counted] ** 2).sum(axis=1) / len(truth),
    }


def _ranking_when_drawn(drawn: np.ndarray, member: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC and average precision (resamples,) of one class; nan where a resample has no row in or out of it."""
    order = np.argsort(-scored, kind="stable")
    last = np.flatnonzero(np.diff(scored[order], append=np.nan))  # of the rows with one score
    above = np.cumsum(drawn[:, order], axis=1)[:, last]
    hits = np.cumsum(drawn[:, order] * member[order], axis=1)[:, last]
    new_hits, new_misses = np.diff(hits, prepend=0), np.diff(above - hits, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (new_misses * (hits - new_hits / 2)).sum(axis=1) / (hits[:, -1] * (above - hits)[:, -1])
        return auc, (new_hits * _rates(hits, above)).sum(axis=1) / hits[:, -1]


def _rates(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
