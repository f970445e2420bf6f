"""How good a classifier is on rows it has not seen: the metrics, and the picture that goes with them."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
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
    truth = np.asarray(y)
    predicted = np.asarray(classes, dtype=truth.dtype)[probabilities.argmax(axis=1)]
    counted = [positive] if positive is not None else classes
    tn, fp, fn, tp = multilabel_confusion_matrix(truth, predicted, labels=counted).reshape(-1, 4).T
    members = np.column_stack([truth == label for label in counted])
    scored = np.column_stack([probabilities[:, classes.index(label)] for label in counted])
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
        "log_loss": float(log_loss(truth, probabilities, labels=classes)),
        "brier_score_loss": float(
            brier_score_loss(
                truth,
                scored[:, 0] if positive is not None else probabilities,
                labels=classes,
                pos_label=positive,
            )
        ),
    }


def log_picture(figure: Figure, artifact_file: str) -> None:
    """Log a figure to the active run as `mlflow.log_figure` does, but drawn once: saving one draws it twice."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    mlflow.log_image(np.asarray(canvas.buffer_rgba())[:, :, :3], artifact_file)


def evaluation_figure(
    y: pd.Series, probabilities: np.ndarray, classes: list, positive: object | None, title: str
) -> Figure:
    """ROC curve, precision-recall curve, confusion matrix and calibration in one picture; arguments as in `scores`."""
    # To find room for names of any length takes a third of the drawing: short ones are known to fit.
    short = len(classes) <= 3 and all(len(str(label)) <= 5 for label in classes)
    figure = Figure(figsize=(10, 9), layout=None if short else "constrained")
    figure.suptitle(title, fontsize=14)
    (roc, pr), (matrix, calibration) = figure.subplots(2, 2)
    if short:
        figure.subplots_adjust(left=0.08, right=0.97, bottom=0.06, top=0.9, wspace=0.25, hspace=0.27)
    truth = np.asarray(y)
    for label in [positive] if positive is not None else classes:
        draw_roc(roc, truth == label, probabilities[:, classes.index(label)], str(label))
        draw_precision_recall(pr, truth == label, probabilities[:, classes.index(label)], str(label))
        observed, forecast = calibration_curve(
            truth == label, probabilities[:, classes.index(label)].clip(0, 1), n_bins=10, strategy="quantile"
        )
        calibration.plot(forecast, observed, marker="o", label=str(label))
    finish_roc(roc)
    finish_precision_recall(pr)
    calibration.plot([0, 1], [0, 1], linestyle=":", color="grey")
    calibration.set(xlabel="mean predicted probability", ylabel="observed share", title="Calibration")
    calibration.legend(loc="upper left", fontsize="small")
    _draw_matrix(matrix, truth, np.asarray(classes, dtype=truth.dtype)[probabilities.argmax(axis=1)], classes)
    return figure


def draw_roc(axes: Axes, truth: np.ndarray, scored: np.ndarray, label: str) -> None:
    """Add a ROC curve; truth (rows,) is boolean, `scored` the probability of True."""
    fpr, tpr, _ = roc_curve(truth, scored)
    axes.plot(fpr, tpr, label=f"{label}  AUC {roc_auc_score(truth, scored):.3f}")


def finish_roc(axes: Axes) -> None:
    """Add the diagonal, names and legend to ROC curves."""
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC curve")
    axes.legend(loc="lower right", fontsize="small")


def draw_precision_recall(axes: Axes, truth: np.ndarray, scored: np.ndarray, label: str) -> None:
    """Add a precision-recall curve; truth (rows,) is boolean, `scored` the probability of True."""
    precision, recall, _ = precision_recall_curve(truth, scored)
    average = average_precision_score(truth, scored)
    axes.plot(recall, precision, drawstyle="steps-post", label=f"{label}  average precision {average:.3f}")


def finish_precision_recall(axes: Axes) -> None:
    """Add names and legend to precision-recall curves."""
    axes.set(xlabel="recall", ylabel="precision", title="Precision-recall curve", ylim=(0, 1.03))
    axes.legend(loc="lower left", fontsize="small")


def _draw_matrix(axes: Axes, truth: np.ndarray, predicted: np.ndarray, classes: list) -> None:
    counts = confusion_matrix(truth, predicted, labels=classes)
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
            fontsize="medium" if len(classes) <= 6 else "xx-small",
        )
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix (share of the true class)")
    axes.set_xticks(range(len(classes)), map(str, classes), rotation=30 if len(classes) > 3 else 0)
    axes.set_yticks(range(len(classes)), map(str, classes))


def _mean_rate(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0).mean())
