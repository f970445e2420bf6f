"""What people read of the results: warnings, the leaderboard, and the pictures of classifiers on the test rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import matplotlib
import mlflow
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    confusion_matrix,
    roc_auc_score,
)
from sklearn.tree import DecisionTreeClassifier

from evaluation import Result
from features import Split, with_preprocessing
from support.bootstrap import METRICS
from support.cautions import about_split
from support.language import decimal, tr, warn
from support.style import COLORS, DASHES, contrast, in_language
from support.texts import in_markdown, on_picture, shown

SHOWN = [metric for metric in METRICS if metric != "brier_score_loss"]  # in the leaderboard, sorted by the first
TOO_GOOD = 0.995  # a ROC AUC above it usually comes from a column that tells the answer
CHANCE: Any = {"linestyle": (0, (1, 4)), "color": "#767676"}
STYLE: Any = {"axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES)}
BELOW: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 2, "fontsize": "small"}


def leaderboard(results: dict[str, Result], run_ids: dict[str, str]) -> pd.DataFrame:
    """One row a classifier, the best ROC AUC first: each metric with its 95 % interval, and the run.

    `tied` says whether chance in the choice of the test rows may explain the difference to the best.
    """
    best = max(results.values(), key=lambda result: result.metrics["roc_auc"])
    rows = []
    for name, result in results.items():
        row: dict[str, Any] = {"classifier": name, "tied": result.may_equal(best)}
        for metric in SHOWN:
            row[metric] = result.metrics[metric]
            row[f"{metric}_low"], row[f"{metric}_high"] = result.interval(metric)
        rows.append(row | {"fit_seconds": result.metrics["fit_seconds"], "run_id": run_ids[name]})
    return pd.DataFrame(rows).sort_values("roc_auc", ascending=False, ignore_index=True, kind="stable")


def log_leaderboard(board: pd.DataFrame, warnings: list[str]) -> None:
    """Print the leaderboard, what chance may explain and the warnings, and leave them on the page of the run."""
    table = board[["classifier", *SHOWN, "fit_seconds"]].to_string(index=False, float_format="{:.4f}".format)
    best, *others = board.loc[board["tied"], "classifier"]
    chance = "{best} has a better roc_auc than any other: not by chance in the choice of the test rows (95 %)."
    if others:
        chance = "Chance may explain the difference in roc_auc to {best}: {others}."
    sentence = tr(chance, best=best, others=", ".join(others)) + "\n" if len(board) > 1 else ""
    listed = "".join(f"\n- {in_markdown(text)}" for text in warnings)
    mlflow.set_tag("mlflow.note.content", f"```text\n{table}\n```\n\n{sentence}{listed}")
    mlflow.log_text(board.to_csv(index=False), "leaderboard.csv")
    click.echo(f"\n{table}\n{sentence}{tr('The 95 % interval of every metric is in leaderboard.csv.')}")
    for text in warnings:
        warn(text)


def cautions(results: dict[str, Result], split: Split) -> list[str]:
    """What to know before believing in the results of classifiers (by name), and what to do about it."""
    found = about_split(split.train.df, split.test.df, split.y_test)
    cure = tr("Try class_weight=balanced." if split.positive is None else "Try class_weight=balanced or threshold=f1.")
    missed: dict[str, list[str]] = {}  # by the classifiers that find none of them
    for position, label in enumerate(split.classes):
        hits = {name: (result.predicted == position)[split.truth == position] for name, result in results.items()}
        if names := ", ".join(name for name, rows in hits.items() if not rows.any()):
            missed.setdefault(names, []).append(shown(label))
    for names, labels in missed.items():
        text = "{names}: no row of class {label} is found, its recall is 0."
        listed = ", ".join(labels[:10]) + ", ..." * (len(labels) > 10)
        found.append(f"{tr(text, names=names, label=listed)} {cure}")
    telling = _columns_that_tell(split)
    tells = (
        "column {name} alone reaches a roc_auc of {reached:.4f}. Is it known when you predict? "
        "If not, leave it out by drop."
    )
    found += [tr(tells, name=repr(name), reached=reached) for name, reached in telling.items()]
    good = [name for name, result in results.items() if result.metrics["roc_auc"] > TOO_GOOD]
    if good and not telling:
        rare = (
            "{names}: a roc_auc above {limit} is rarely real. Are there columns that are only known afterwards, or "
            "made from the target? Leave them out by drop."
        )
        found.append(tr(rare, names=", ".join(good), limit=TOO_GOOD))
    return found


def _columns_that_tell(split: Split) -> dict[str, float]:
    """The columns that alone, in a tree fitted on 2,000 training rows at most, are too good on the test rows."""
    reached = {}
    for name, kind in split.kinds.items():
        tree = with_preprocessing(DecisionTreeClassifier(min_samples_leaf=5, random_state=0), {name: kind})
        tree.fit(split.X_train[[name]].iloc[:2000], split.y_train.iloc[:2000])
        probabilities = pd.DataFrame(tree.predict_proba(split.X_test[[name]]), columns=tree.classes_)
        known = probabilities.reindex(columns=split.classes, fill_value=0).to_numpy()[:, split.counted]
        reached[name] = float(roc_auc_score(split.truth[:, None] == split.counted, known))
    return {name: value for name, value in reached.items() if value > TOO_GOOD}


def leaderboard_figure(board: pd.DataFrame, split: Split) -> Figure:
    """A leaderboard with its 95 % intervals, one panel a metric, so that near ties are seen to be near.

    A panel has a logarithmic axis where one value would flatten the others.
    """
    figure = Figure(figsize=(11, 1.7 + 0.45 * len(board)), layout="constrained")
    figure.suptitle(_of_rows(split, "{rows:,} test rows of {table}, with 95 % intervals"), fontsize=14)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, metric in zip(panels, ["roc_auc", "f1", "log_loss"], strict=True):
        for place, (value, low, high) in enumerate(board[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy()):
            color, marker = (COLORS[0], "o") if place else (COLORS[1], "D")
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], color=color, marker=marker)
            said = tr("{value:.3f}", value=value)
            axes.annotate(said, (value, place), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        title = "{metric} (lower is better)" if metric == "log_loss" else "{metric} (higher is better)"
        axes.set(title=tr(title, metric=metric), yticks=range(len(board)), yticklabels=board["classifier"])
        ends = [board[metric].min(), board[metric].max()]
        if 0 < 3 * ends[0] < ends[1]:
            axes.set(xscale="log")
            axes.set_xticks([], minor=True)
            axes.set_xticks(ends, [tr("{end:.2f}", end=end) for end in ends])
    panels[0].set_ylim(len(board) - 0.4, -0.6)  # the best on top, and room for its value
    return in_language(figure)


@matplotlib.rc_context(STYLE)
def curves_figure(results: dict[str, Result], split: Split) -> Figure:
    """ROC and precision-recall curves of all classifiers (by name) on the same axes.

    With more than two classes each pair of a row and a class counts once: the micro-average.
    """
    figure = Figure(figsize=(13, 7.8), layout="constrained")
    pooled = "{rows:,} test rows of {table}, all classes pooled, each against the rest"
    figure.suptitle(_of_rows(split) if split.positive is not None else _of_rows(split, pooled))
    members = (split.truth[:, None] == split.counted).ravel()
    roc, pr = figure.subplots(1, 2)
    curves = {name: result.probabilities[:, split.counted].ravel() for name, result in results.items()}
    _draw_curves(roc, pr, [(name, members, scored) for name, scored in curves.items()])
    return in_language(figure)


@matplotlib.rc_context(STYLE)
def evaluation_figure(name: str, result: Result, split: Split) -> Figure:
    """ROC curve, precision-recall curve, confusion matrix and calibration of one classifier on the test rows.

    With more than two classes each has a curve of its own, against all others.
    """
    figure = Figure(figsize=(10, 10), layout="constrained")
    figure.suptitle(f"{name}, {_of_rows(split)}", fontsize=14)
    (roc, pr), (matrix, calibration) = figure.subplots(2, 2)
    curves = [
        (on_picture(split.classes[position]), split.truth == position, result.probabilities[:, position].clip(0, 1))
        for position in split.counted
    ]
    _draw_curves(roc, pr, curves)
    for (label, members, scored), dashes in zip(curves, DASHES * len(curves), strict=False):
        look = {"ref_line": False, "name": label, "linestyle": dashes, "ax": calibration}
        CalibrationDisplay.from_predictions(members, scored, n_bins=10, strategy="quantile", **look)
    calibration.plot([0, 1], [0, 1], **CHANCE)
    calibration.set(xlabel=tr("Mean predicted probability"), ylabel=tr("Share of the class"), title=tr("Calibration"))
    calibration.legend(**BELOW)

    names = [on_picture(label, most=20) for label in split.classes]
    counts = confusion_matrix(split.truth, result.predicted, labels=range(len(names)))
    drawn = ConfusionMatrixDisplay(counts / counts.sum(axis=1, keepdims=True), display_labels=names)
    turned, size = 30 if len(names) > 3 else 0, "medium" if len(names) <= 6 else "xx-small"
    drawn.plot(cmap="Blues", ax=matrix, colorbar=False, xticks_rotation=turned, im_kw={"vmin": 0, "vmax": 1})
    for text, count, share in zip(drawn.text_.flat, counts.flat, drawn.confusion_matrix.flat, strict=True):
        color = max("black", "white", key=partial(contrast, drawn.im_.cmap(share)))
        text.set(text=tr("{count:,}\n{share:.0%}", count=count, share=share), fontsize=size, color=color)
    title = tr("Confusion matrix (share of the true class)")
    matrix.set(xlabel=tr("Predicted class"), ylabel=tr("True class"), title=title)
    return in_language(figure)


def _draw_curves(roc: Axes, pr: Axes, curves: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Draw curves: the name of each, whether each row is a member of the class, and its probability (rows,)."""
    for name, members, scored in curves:
        RocCurveDisplay.from_predictions(members, scored, name=name, ax=roc)
        PrecisionRecallDisplay.from_predictions(members, scored, name=name, ax=pr)
        pr.axhline(members.mean(), **CHANCE)
    roc.plot([0, 1], [0, 1], **CHANCE)
    title = tr("ROC curve (dotted: chance)")
    roc.set(xlabel=tr("False positive rate"), ylabel=tr("True positive rate (recall)"), title=title, aspect="auto")
    title = tr("Precision-recall curve (dotted: chance)")
    pr.set(xlabel=tr("Recall"), ylabel=tr("Precision"), title=title, aspect="auto")
    for text in [*roc.legend(**BELOW).texts, *pr.legend(**BELOW).texts]:
        label, area, score = text.get_text().rpartition(" = ")  # as scikit-learn writes it: ann (AUC = 0.84)
        text.set_text(label + area + decimal(score))


def _of_rows(split: Split, text: str = "{rows:,} test rows of {table}") -> str:
    return tr(text, rows=len(split.y_test), table=on_picture(Path(split.source).name))
