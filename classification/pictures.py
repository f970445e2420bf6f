"""The pictures of classifiers on rows that they have not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    confusion_matrix,
)

from evaluation import Result
from features import Split
from support.texts import on_picture


def evaluation_figure(name: str, result: Result, split: Split) -> Figure:
    """ROC curve, precision-recall curve, confusion matrix and calibration of one classifier on the test rows.

    With more than two classes each has a curve of its own, against all others.
    """
    figure = Figure(figsize=(10, 9), layout="constrained")
    figure.suptitle(f"{name}: {_of_rows(split)}", fontsize=14)
    (roc, pr), (matrix, calibration) = figure.subplots(2, 2)
    for position in split.counted:
        members, scored = split.truth == position, result.probabilities[:, position].clip(0, 1)
        label = on_picture(split.classes[position])
        RocCurveDisplay.from_predictions(members, scored, name=label, ax=roc)
        PrecisionRecallDisplay.from_predictions(members, scored, name=label, ax=pr)
        bins = {"n_bins": 10, "strategy": "quantile", "ref_line": False}
        CalibrationDisplay.from_predictions(members, scored, **bins, name=label, ax=calibration)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")

    every, names = range(len(split.classes)), [on_picture(label, most=20) for label in split.classes]
    counts = confusion_matrix(split.truth, result.predicted, labels=every)
    shares = counts / counts.sum(axis=1, keepdims=True)
    shown = ConfusionMatrixDisplay(shares, display_labels=names)
    shown.plot(cmap="Blues", ax=matrix, colorbar=False, xticks_rotation=30 if len(names) > 3 else 0)
    for text, count, share in zip(shown.text_.ravel(), counts.ravel(), shares.ravel(), strict=True):
        text.set(text=f"{count:,}\n{share:.0%}", fontsize="medium" if len(names) <= 6 else "xx-small")

    roc.set(title="ROC curve", xlabel="False positive rate", ylabel="True positive rate (recall)")
    pr.set(title="Precision-recall curve", xlabel="Recall", ylabel="Precision")
    calibration.set(title="Calibration", xlabel="Mean predicted probability", ylabel="Share of the class")
    matrix.set(title="Confusion matrix (share of the true class)")
    return figure


def curves_figure(results: dict[str, Result], split: Split) -> Figure:
    """ROC and precision-recall curves of all classifiers (by name) on the same axes.

    With more than two classes each pair of a row and a class counts once: the micro-average.
    """
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    pooled = "" if split.positive is not None else ", all classes pooled, each against the rest"
    figure.suptitle(_of_rows(split) + pooled)
    roc, pr = figure.subplots(1, 2)
    members = (split.truth[:, None] == split.counted).ravel()
    for name, result in results.items():
        scored = result.probabilities[:, split.counted].ravel()
        RocCurveDisplay.from_predictions(members, scored, name=name, ax=roc)
        PrecisionRecallDisplay.from_predictions(members, scored, name=name, ax=pr)
    roc.plot([0, 1], [0, 1], linestyle=":", color="grey")
    roc.set(title="ROC curve", xlabel="False positive rate", ylabel="True positive rate (recall)")
    pr.set(title="Precision-recall curve", xlabel="Recall", ylabel="Precision")
    return figure


def leaderboard_figure(board: pd.DataFrame, split: Split) -> Figure:
    """A leaderboard as bars with their 95 % intervals, one panel a metric, so that near ties are seen to be near."""
    figure = Figure(figsize=(11, 1.5 + 0.45 * len(board)), layout="constrained")
    figure.suptitle(f"{_of_rows(split)}, with 95 % intervals", fontsize=14)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, metric in zip(panels, ["roc_auc", "f1", "log_loss"], strict=True):
        values = board[metric]
        around = np.abs(board[[f"{metric}_low", f"{metric}_high"]].to_numpy().T - values.to_numpy())
        colors = ["#1f77b4", *["#9ecae1"] * (len(board) - 1)]
        bars = axes.barh(board["classifier"], values, xerr=around, color=colors, ecolor="grey")
        axes.bar_label(bars, fmt="%.3f", label_type="center", fontsize="small")
        axes.set(title=f"{metric} ({'lower' if metric == 'log_loss' else 'higher'} is better)")
    panels[0].invert_yaxis()
    return figure


def _of_rows(split: Split) -> str:
    return f"{len(split.y_test):,} test rows of {on_picture(split.name)}"
