"""The pictures of a clustering: the criteria against k, the segments on two axes, the silhouettes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlflow
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from features import Table

# What each criterion measures, and which way is better.
PANELS = {
    "silhouette": ("silhouette", "silhouette coefficient (higher is better)"),
    "davies_bouldin": ("davies_bouldin", "Davies-Bouldin index (lower is better)"),
    "calinski_harabasz": ("calinski_harabasz", "Calinski-Harabasz index (higher is better)"),
    "elbow": ("inertia", "inertia (the elbow, by Kneedle)"),
}
# More points than this on a scatter hide each other.
MOST_POINTS = 5_000


def log_picture(figure: Figure, artifact_file: str) -> None:
    """Log a figure to the active run in PNG, packed lightly: 6 % larger, in half the time."""
    mlflow.log_figure(figure, artifact_file, save_kwargs={"pil_kwargs": {"compress_level": 2}})


@dataclass(frozen=True)
class Plane:
    """Two axes to draw segments on. points: (rows, 2), the position of each row of the table."""

    points: np.ndarray
    labels: tuple[str, str]


def plane(table: Table, axes: list[str]) -> Plane:
    """The two columns named, or the only two that were fitted on, or else the first two principal components."""
    columns = table.columns
    if not axes and len(columns.numeric) == 2 and not columns.categorical:
        axes = columns.numeric
    if axes:
        return Plane(table.frame[axes].to_numpy(dtype="float64"), (axes[0], axes[1]))
    if table.Z.shape[1] < 2:
        only = columns.fitted[0]
        jitter = np.random.default_rng(0).random(len(table.Z))
        return Plane(np.column_stack([table.Z[:, 0], jitter]), (f"{only}, scaled", "(spread at random)"))
    pca = PCA(n_components=2, svd_solver="covariance_eigh").fit(table.Z)
    first, second = pca.explained_variance_ratio_
    names = (f"first principal component ({first:.0%} of variance)", f"second ({second:.0%})")
    return Plane(pca.transform(table.Z), names)


def criteria_figure(scores: pd.DataFrame, chosen: dict[str, int | None], k: int, title: str) -> Figure:
    """The four criteria against k, one panel each: its own choice marked, and the k that was chosen.

    scores: columns silhouette, davies_bouldin, calinski_harabasz and inertia; index the numbers of segments.
    chosen: what each criterion chooses.
    """
    figure = Figure(figsize=(11, 7.5))
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.07, top=0.88, wspace=0.2, hspace=0.3)
    figure.suptitle(title, fontsize=14)
    for axes, (criterion, (column, label)) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        values = scores[column]
        axes.axvline(k, color="tab:orange", linestyle="--", zorder=0, label=f"chosen: k = {k}")
        axes.plot(values.index, values, color="tab:blue", marker="o", markersize=4)
        best = chosen[criterion]
        if best is None:
            axes.plot([], [], " ", label="no elbow")
        else:
            axes.plot(
                best,
                values[best],
                marker="o",
                markersize=12,
                fillstyle="none",
                markeredgewidth=2,
                color="tab:red",
                linestyle="none",
                label=f"its choice: k = {best} ({_short(values[best])})",
            )
        axes.set(xlabel="k", title=label)
        axes.set_xticks(values.index[:: 1 + len(values) // 12])
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small")
    return figure


def scatter_figure(plane: Plane, labels: np.ndarray, names: list[str], title: str) -> Figure:
    """The segments on two axes, with the mean of each.

    labels: the segment of each row (rows,).
    names: each segment in a few words.
    """
    columns = 1 if len(names) <= 6 else 2
    below = 0.75 + 0.18 * math.ceil(len(names) / columns)  # inches: the label of the axis, and the lines of names
    width, height = 10, 5.5 + below
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0.85 / width, right=1 - 0.15 / width, bottom=below / height, top=1 - 0.4 / height)
    axes = figure.subplots()
    _draw_segments(axes, plane, labels, len(names), size=12)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=colour, label=f"{segment}: {name}")
        for segment, (colour, name) in enumerate(zip(_colours(len(names)), names, strict=True))
    ]
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize="small")
    axes.set(xlabel=plane.labels[0], ylabel=plane.labels[1], title=title)
    return figure


def candidates_figure(plane: Plane, labelings: dict[str, np.ndarray], title: str) -> Figure:
    """Several clusterings side by side on the same two axes: title of each and the segment of each row (rows,)."""
    width = 1 + 5 * len(labelings)
    figure = Figure(figsize=(width, 5.5))  # its margins in inches:
    figure.subplots_adjust(left=0.9 / width, right=1 - 0.15 / width, bottom=0.1, top=0.83, wspace=0.05)
    figure.suptitle(title, fontsize=13)
    panels = figure.subplots(1, len(labelings), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, labels) in zip(panels, labelings.items(), strict=True):
        _draw_segments(axes, plane, labels, int(labels.max()) + 1, size=6)
        axes.set(xlabel=plane.labels[0], title=name)
    panels[0].set(ylabel=plane.labels[1])
    return figure


def silhouette_figure(values: np.ndarray, labels: np.ndarray, n_clusters: int, title: str) -> Figure:
    """The silhouette coefficient of every row, sorted within its segment: a blade for each segment.

    values: coefficients (rows,).
    labels: the segment of each row (rows,).
    """
    width, height = 8, 3 + 0.6 * n_clusters
    figure = Figure(figsize=(width, height))  # its margins in inches, as all that stands beside the axes is short:
    figure.subplots_adjust(left=1 / width, right=1 - 1 / width, bottom=0.6 / height, top=1 - 0.4 / height)
    axes = figure.subplots()
    start, gap = 0, max(1, len(values) // 60)
    middles = []
    for segment, colour in enumerate(_colours(n_clusters)):
        blade = np.sort(values[labels == segment])
        axes.fill_betweenx(np.arange(start, start + len(blade)), 0, blade, color=colour, linewidth=0)
        mean = blade.mean() if len(blade) else np.nan
        axes.text(1.01, start + len(blade) / 2, f"mean {mean:.2f}", va="center", transform=axes.get_yaxis_transform())
        middles.append(start + len(blade) / 2)
        start += len(blade) + gap
    axes.axvline(values.mean(), color="black", linestyle="--")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(middles, [f"segment {segment}" for segment in range(n_clusters)])
    axes.set(xlabel="silhouette coefficient (below 0: closer to another segment)", ylim=(start, -gap))
    axes.set_title(f"{title}: mean silhouette {values.mean():.3f}")
    return figure


def _draw_segments(axes: Axes, plane: Plane, labels: np.ndarray, n_clusters: int, size: float) -> None:
    present = ~np.isnan(plane.points).any(axis=1)
    points, labels = plane.points[present], labels[present]
    drawn = np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]  # also: no segment lies above another
    size *= 1 if len(points) > 1000 else 3
    colours = np.array(_colours(n_clusters))
    axes.scatter(points[drawn, 0], points[drawn, 1], s=size, c=colours[labels[drawn]], alpha=0.5, linewidths=0)
    for segment in np.unique(labels):
        x, y = points[labels == segment].mean(axis=0)
        axes.text(
            x,
            y,
            str(segment),
            ha="center",
            va="center",
            fontweight="bold",
            bbox={"boxstyle": "circle", "facecolor": "white", "edgecolor": colours[segment], "linewidth": 2},
        )


def _colours(n_clusters: int) -> list[tuple[float, float, float, float]]:
    return [colormaps["tab10" if n_clusters <= 10 else "tab20"](segment % 20) for segment in range(n_clusters)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"
