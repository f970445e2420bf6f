"""How good a classifier is on rows it has not seen: the metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    roc_auc_score,
)


def scores(y: pd.Series, probabilities: np.ndarray, classes: list, positive: object | None) -> dict[str, float]:
    """The metrics of predicted probabilities, under scikit-learn's names.

    y: true classes (rows,).
    probabilities: (rows, classes), in the order of `classes`; the predicted class is the most probable one.
    positive: the positive one of two classes, or None: with more classes each metric is the unweighted mean of the
        one-versus-rest metrics of the classes.

    The rates of the confusion matrix (`recall`, which is the sensitivity; `specificity`, `precision`, `npv`, `fpr`,
    `fdr`) are 0 where nothing was to be counted, as scikit-learn has it.
    """
    # As numbers: each metric would look through texts anew.
    truth, predicted = pd.Index(classes).get_indexer(y), probabilities.argmax(axis=1)
    every = np.arange(len(classes))
    counted = every if positive is None else every[[classes.index(positive)]]
    tn, fp, fn, tp = multilabel_confusion_matrix(truth, predicted, labels=counted).reshape(-1, 4).T
    members, scored = truth[:, None] == counted, probabilities[:, counted]
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "f1": float(f1_score(truth, predicted, labels=counted, average="macro", zero_division=0)),
        "recall": _mean_rate(tp, tp + fn),
        "specificity": _mean_rate(tn, tn + fp),
        "precision": _mean_rate(tp, tp + fp),
        "npv": _mean_rate(tn, tn + fn),
        "fpr": _mean_rate(fp, fp + tn),
        "fdr": _mean_rate(fp, fp + tp),
        "roc_auc": float(roc_auc_score(members, scored, average="macro")),
        "average_precision": float(average_precision_score(members, scored, average="macro")),
        "log_loss": float(log_loss(truth, probabilities, labels=every)),
        "brier_score_loss": float(
            brier_score_loss(
                truth,
                probabilities if positive is None else scored[:, 0],
                labels=every,
                pos_label=None if positive is None else counted[0],
            )
        ),
    }


def _mean_rate(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0).mean())
