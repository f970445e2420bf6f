"""The pictures of classifiers on rows that they have not seen, in colours and lines that everybody can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay, confusion_matrix

from evaluation import Result
from features import Split
from support.texts import on_picture

# Okabe and Ito's colours, those darkened that are too pale on white; each line also has dashes of its own.
COLORS = ["#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#7A5200", "#3D96CC", "#767676"]
DASHES: list[Any] = [
    "-",
    (0, (5, 2)),
    "-.",
    (0, (1, 1)),
    (0, (10, 3)),
    (0, (3, 1, 1, 1)),
    (0, (7, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
]
CHANCE: Any = {"linestyle": (0, (1, 4)), "color": "#767676"}
STYLE: Any = {"axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES)}


@matplotlib.rc_context(STYLE)
def evaluation_figure(name: str, result: Result, split: Split) -> Figure:
    """ROC curve, precision-recall curve, confusion matrix and calibration of one classifier on the test rows.

    With more than two classes each has a curve of its own, against all others.
    """
    figure = Figure(figsize=(10, 10), layout="constrained")
    figure.suptitle(f"{name}: {_of_rows(split)}", fontsize=14)
    (roc, pr), (matrix, calibration) = figure.subplots(2, 2)
    for number, position in enumerate(split.counted):
        members, scored = split.truth == position, result.probabilities[:, position].clip(0, 1)
        label = on_picture(split.classes[position])
        _draw_curves(roc, pr, members, scored, label)
        bins = {"n_bins": 10, "strategy": "quantile", "ref_line": False}
        dashes = DASHES[number % len(DASHES)]
        CalibrationDisplay.from_predictions(members, scored, **bins, name=label, ax=calibration, linestyle=dashes)
    _finish_curves(roc, pr)
    calibration.plot([0, 1], [0, 1], **CHANCE)
    calibration.set(title="Calibration", xlabel="Mean predicted probability", ylabel="Share of the class")
    _legend_below(calibration)

    every, names = range(len(split.classes)), [on_picture(label, most=20) for label in split.classes]
    counts = confusion_matrix(split.truth, result.predicted, labels=every)
    shares = counts / counts.sum(axis=1, keepdims=True)
    shown = ConfusionMatrixDisplay(shares, display_labels=names)
    turned = 30 if len(names) > 3 else 0
    shown.plot(cmap="Blues", ax=matrix, colorbar=False, xticks_rotation=turned, im_kw={"vmin": 0, "vmax": 1})
    for text, count, share in zip(shown.text_.ravel(), counts.ravel(), shares.ravel(), strict=True):
        size, color = "medium" if len(names) <= 6 else "xx-small", "white" if share > 0.75 else "black"
        text.set(text=f"{count:,}\n{share:.0%}", fontsize=size, color=color)
    matrix.set(title="Confusion matrix (share of the true class)")
    return figure


@matplotlib.rc_context(STYLE)
def curves_figure(results: dict[str, Result], split: Split) -> Figure:
    """ROC and precision-recall curves of all classifiers (by name) on the same axes.

    With more than two classes each pair of a row and a class counts once: the micro-average.
    """
    figure = Figure(figsize=(13, 9), layout="constrained")
    pooled = "" if split.positive is not None else ", all classes pooled, each against the rest"
    figure.suptitle(_of_rows(split) + pooled)
    roc, pr = figure.subplots(1, 2)
    members = (split.truth[:, None] == split.counted).ravel()
    for name, result in results.items():
        _draw_curves(roc, pr, members, result.probabilities[:, split.counted].ravel(), name)
    _finish_curves(roc, pr)
    return figure


def _draw_curves(roc: Axes, pr: Axes, members: np.ndarray, scored: np.ndarray, name: str) -> None:
    RocCurveDisplay.from_predictions(members, scored, name=name, ax=roc)
    PrecisionRecallDisplay.from_predictions(members, scored, name=name, ax=pr)
    pr.axhline(members.mean(), **CHANCE)


def _finish_curves(roc: Axes, pr: Axes) -> None:
    roc.plot([0, 1], [0, 1], **CHANCE)
    roc.set(title="ROC curve (dotted: chance)", xlabel="False positive rate", ylabel="True positive rate (recall)")
    pr.set(title="Precision-recall curve (dotted: chance)", xlabel="Recall", ylabel="Precision")
    for axes in (roc, pr):
        _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize="small")


def leaderboard_figure(board: pd.DataFrame, split: Split) -> Figure:
    """A leaderboard with its 95 % intervals, one panel a metric, so that near ties are seen to be near.

    A panel has a logarithmic axis where one value would flatten the others.
    """
    figure = Figure(figsize=(11, 1.7 + 0.45 * len(board)), layout="constrained")
    figure.suptitle(f"{_of_rows(split)}, with 95 % intervals", fontsize=14)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, metric in zip(panels, ["roc_auc", "f1", "log_loss"], strict=True):
        for place, (value, low, high) in enumerate(board[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy()):
            color, marker = (COLORS[0], "o") if place else (COLORS[1], "D")
            axes.plot([low, high], [place, place], color=color)
            axes.plot(value, place, color=color, marker=marker)
            axes.annotate(f"{value:.3f}", (value, place), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        better, ends = "lower" if metric == "log_loss" else "higher", [board[metric].min(), board[metric].max()]
        axes.set(title=f"{metric} ({better} is better)", yticks=range(len(board)), yticklabels=board["classifier"])
        if 0 < 3 * ends[0] < ends[1]:
            axes.set(xscale="log")
            axes.set_xticks([], minor=True)
            axes.set_xticks(ends, [f"{end:.2f}" for end in ends])
    panels[0].invert_yaxis()
    return figure


def _of_rows(split: Split) -> str:
    return f"{len(split.y_test):,} test rows of {on_picture(Path(split.source).name)}"
