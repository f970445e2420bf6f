"""The pictures of classifiers on rows they have not seen, drawn no more often than they must be."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

LIGHTLY = {"compress_level": 2}  # how a PNG is packed: 6 % larger than by Pillow's default, in half the time
WITH_MARGIN = (-0.05, 1.05)  # limits of an axis for shares


def log_picture(figure: Figure, artifact_file: str) -> None:
    """Log a figure to the active run in PNG, packed lightly."""
    mlflow.log_figure(figure, artifact_file, save_kwargs={"pil_kwargs": LIGHTLY})


class EvaluationPicture:
    """ROC curve, precision-recall curve, confusion matrix and calibration of one classifier after another.

    What all have alike (axes, ticks, names) is drawn once, and kept as the background of each: that is three quarters
    of the drawing. Matplotlib's documentation calls it blitting.

    classes, positive: as in `scores`.
    """

    def __init__(self, classes: list, positive: object | None) -> None:
        self.classes = classes
        self.counted = [positive] if positive is not None else classes
        # To find room for names of any length takes a third of the drawing: short ones are known to fit.
        short = len(classes) <= 3 and all(len(str(label)) <= 5 for label in classes)
        layout = None if short else ConstrainedLayoutEngine(rect=(0, 0, 1, 0.95))  # the title stands above
        self.figure = Figure(figsize=(10, 9), layout=layout)
        (self.roc, self.pr), (self.matrix, self.calibration) = self.figure.subplots(2, 2)
        if short:
            self.figure.subplots_adjust(left=0.08, right=0.97, bottom=0.06, top=0.9, wspace=0.25, hspace=0.27)
        frame_roc(self.roc)
        frame_precision_recall(self.pr)
        self.calibration.plot([0, 1], [0, 1], linestyle=":", color="grey")
        self.calibration.set(xlabel="mean predicted probability", ylabel="observed share", title="Calibration")
        self.calibration.set(xlim=WITH_MARGIN, ylim=WITH_MARGIN)
        names = list(map(str, classes))
        self.matrix.set(xlabel="predicted", ylabel="true", title="Confusion matrix (share of the true class)")
        self.shares = self.matrix.imshow(np.zeros((len(names), len(names))), cmap="Blues", vmin=0, vmax=1)
        self.matrix.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
        self.matrix.set_yticks(range(len(names)), names)

        self.canvas = FigureCanvasAgg(self.figure)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)
        self.curves = [
            (
                self.roc.plot([], [])[0],
                self.pr.plot([], [], drawstyle="steps-post")[0],
                self.calibration.plot([], [], marker="o")[0],
            )
            for _ in self.counted
        ]
        size = "medium" if len(names) <= 6 else "xx-small"
        self.cells = {
            (row, column): self.matrix.text(column, row, "", ha="center", va="center", fontsize=size)
            for row, column in np.ndindex(len(names), len(names))
        }

    def log(self, y: pd.Series, probabilities: np.ndarray, title: str) -> None:
        """Log the picture of predicted probabilities (rows, classes) to the active run, as `evaluation.png`."""
        truth = np.asarray(y)
        for label, (roc, pr, calibration) in zip(self.counted, self.curves, strict=True):
            members, scored = truth == label, probabilities[:, self.classes.index(label)]
            show_roc(roc, members, scored, str(label))
            show_precision_recall(pr, members, scored, str(label))
            observed, forecast = calibration_curve(members, scored.clip(0, 1), n_bins=10, strategy="quantile")
            calibration.set(xdata=forecast, ydata=observed, label=str(label))
        predicted = np.asarray(self.classes, dtype=truth.dtype)[probabilities.argmax(axis=1)]
        counts = confusion_matrix(truth, predicted, labels=self.classes)
        shares = counts / counts.sum(axis=1, keepdims=True)
        self.shares.set_data(shares)
        for cell, text in self.cells.items():
            text.set_text(f"{counts[cell]:,}\n{shares[cell]:.0%}")
            text.set_color("white" if shares[cell] > 0.5 else "black")

        legends = [
            self.roc.legend(loc="lower right", fontsize="small"),
            self.pr.legend(loc="lower left", fontsize="small"),
            self.calibration.legend(loc="upper left", fontsize="small"),
        ]
        lines = [line for curves in self.curves for line in curves]
        inside = [self.shares, *self.cells.values(), *self.matrix.spines.values(), *lines, *legends]
        self.canvas.restore_region(self.background)
        for artist in [self.figure.suptitle(title, fontsize=14), *inside]:
            self.figure.draw_artist(artist)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "evaluation.png")
            imsave(path, np.asarray(self.canvas.buffer_rgba()), pil_kwargs=LIGHTLY)
            mlflow.log_artifact(str(path))


def frame_roc(axes: Axes) -> None:
    """Prepare axes for ROC curves: names, limits and the diagonal."""
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC curve")
    axes.set(xlim=WITH_MARGIN, ylim=WITH_MARGIN)


def show_roc(curve: Line2D, truth: np.ndarray, scored: np.ndarray, name: str) -> None:
    """Make a line a ROC curve; truth (rows,) is boolean, `scored` the probability of True."""
    fpr, tpr, _ = roc_curve(truth, scored)
    curve.set(xdata=fpr, ydata=tpr, label=f"{name}  AUC {roc_auc_score(truth, scored):.3f}")


def frame_precision_recall(axes: Axes) -> None:
    """Prepare axes for precision-recall curves: names and limits."""
    axes.set(xlabel="recall", ylabel="precision", title="Precision-recall curve", xlim=WITH_MARGIN, ylim=(0, 1.03))


def show_precision_recall(curve: Line2D, truth: np.ndarray, scored: np.ndarray, name: str) -> None:
    """Make a line a precision-recall curve; truth (rows,) is boolean, `scored` the probability of True."""
    precision, recall, _ = precision_recall_curve(truth, scored)
    average = average_precision_score(truth, scored)
    curve.set(xdata=recall, ydata=precision, label=f"{name}  average precision {average:.3f}")
