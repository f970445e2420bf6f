"""The pictures of a clustering: the criteria against k, the segments on two axes, their profile, the silhouettes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from criteria import Choice
from describe import Profile, written
from features import Table
from kmeans import Clustering
from support.language import tr
from support.names import pick_names
from support.style import COLORS, MARKERS, contrast, in_language
from support.table import bad
from support.texts import on_picture

# What each criterion measures, and which way is better.
PANELS = {
    "silhouette": ("silhouette", "silhouette coefficient (higher is better)"),
    "davies_bouldin": ("davies_bouldin", "Davies-Bouldin index (lower is better)"),
    "calinski_harabasz": ("calinski_harabasz", "Calinski-Harabasz index (higher is better)"),
    "elbow": ("inertia", "inertia (the elbow, by Kneedle)"),
}
MOST_POINTS = 5_000  # on a scatter; more hide each other
MOST_FEATURES = 24  # in the picture of a profile: those that differ most


def plane(table: Table, axes: str) -> pd.DataFrame:
    """Two axes to draw segments on, under their titles, with the position of each row of the table (rows, 2).

    They are the two columns named, or the only two that were fitted on, or else the first two principal components.
    Raises click.BadParameter where `axes` are not two columns of numbers.
    """
    columns = table.columns
    names = pick_names("axes", axes, table.frame.columns)
    numbers = table.frame.select_dtypes("number").columns.tolist()
    if names and (len(names) != 2 or not set(names) <= set(numbers)):
        raise bad("axes", axes, f"must be two of the columns of numbers: {', '.join(numbers)}.")
    if not names and len(columns.numeric) == 2 and not columns.categorical:
        names = columns.numeric
    if names:
        return table.frame[names].astype("float64").set_axis([on_picture(name) for name in names], axis=1)
    if table.Z.shape[1] < 2:
        jitter = np.random.default_rng(0).random(len(table.Z))
        titles = [tr("{column}, scaled", column=on_picture(columns.fitted[0])), tr("(spread at random)")]
        return pd.DataFrame(np.column_stack([table.Z[:, 0], jitter]), columns=titles)
    pca = PCA(n_components=2, svd_solver="covariance_eigh").fit(table.Z)
    first, second = pca.explained_variance_ratio_
    one, other = "first principal component ({share:.0%} of variance)", "second ({share:.0%})"
    return pd.DataFrame(pca.transform(table.Z), columns=[tr(one, share=first), tr(other, share=second)])


def criteria_figure(choice: Choice, title: str) -> Figure:
    """The four criteria against k, one panel each: its own choice marked, and the k that was chosen."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(title, fontsize=14)
    for axes, (criterion, (column, label)) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        values = choice.scores[column]
        axes.axvline(choice.k, color=COLORS[1], linestyle="--", zorder=0, label=tr("chosen: k = {k}", k=choice.k))
        axes.plot(values.index, values, color=COLORS[0], marker="o", markersize=4)
        best = choice.by_criterion[criterion]
        if best is None:
            axes.plot([], [], " ", label=tr("no elbow"))
        else:
            short = tr("{value:,.0f}" if values[best] >= 100 else "{value:.3f}", value=values[best])
            said = tr("best: k = {k} ({value})", k=best, value=short)
            axes.plot(best, values[best], "o", ms=12, mew=2, mfc="none", c=COLORS[2], label=said)
        axes.set(xlabel="k", title=tr(label))
        axes.set_xticks(values.index[:: 1 + len(values) // 12])
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small")
    return in_language(figure)


def scatter_figure(plane: pd.DataFrame, labels: np.ndarray, names: list[str], title: str) -> Figure:
    """The segments on two axes, with the mean of each.

    labels: the segment of each row (rows,).
    names: each segment in a few words.
    """
    figure = Figure(figsize=(10, 6.5 + 0.1 * len(names)), layout="constrained")
    axes = figure.subplots()
    _draw_segments(axes, plane, labels, size=12)
    handles = [
        Line2D([], [], **_look(segment), linestyle="none", label=tr("{segment}: {name}", segment=segment, name=name))
        for segment, name in enumerate(on_picture(each, 100) for each in names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if len(names) <= 6 else 2, fontsize="small")
    axes.set(xlabel=plane.columns[0], ylabel=plane.columns[1], title=title)
    return in_language(figure)


def candidates_figure(plane: pd.DataFrame, labelings: dict[str, np.ndarray], title: str) -> Figure:
    """Several clusterings side by side on the same two axes: title of each and the segment of each row (rows,)."""
    figure = Figure(figsize=(1 + 5 * len(labelings), 5.5), layout="constrained")
    figure.suptitle(title, fontsize=13)
    panels = figure.subplots(1, len(labelings), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, labels) in zip(panels, labelings.items(), strict=True):
        _draw_segments(axes, plane, labels, size=6)
        axes.set(xlabel=plane.columns[0], title=name)
    panels[0].set(ylabel=plane.columns[1])
    return in_language(figure)


def silhouette_figure(clustering: Clustering, title: str) -> Figure:
    """The silhouette coefficient of every row, sorted within its segment: a blade for each segment."""
    values, labels = clustering.silhouettes.to_numpy(), clustering.labels[clustering.silhouettes.index]
    n_clusters = clustering.n_clusters
    figure = Figure(figsize=(8, 3 + 0.6 * n_clusters), layout="constrained")
    axes = figure.subplots()
    start, gap, middles = 0, max(1, len(values) // 60), []
    for segment in range(n_clusters):
        blade = np.sort(values[labels == segment])
        axes.fill_betweenx(np.arange(start, start + len(blade)), 0, blade, color=_look(segment)["color"], linewidth=0)
        mean = blade.mean() if len(blade) else np.nan
        said = tr("mean {mean:.2f}", mean=mean)
        axes.text(1.01, start + len(blade) / 2, said, va="center", transform=axes.get_yaxis_transform())
        middles.append(start + len(blade) / 2)
        start += len(blade) + gap
    axes.axvline(values.mean(), color="white", linewidth=3)  # a dark blade would hide the dashes
    axes.axvline(values.mean(), color="black", linestyle="--")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(middles, [tr("segment {segment}", segment=segment) for segment in range(n_clusters)])
    axes.set(xlabel=tr("silhouette coefficient (below 0: closer to another segment)"), ylim=(start, -gap))
    axes.set_title(tr("{title}: mean silhouette {mean:.3f}", title=title, mean=values.mean()))
    return in_language(figure)


def profile_figure(profile: Profile, title: str) -> Figure:
    """The profile as a picture: means and shares of what differs most, coloured by how far from all rows."""
    strength = profile.differences.abs().max(axis=1)
    kept = strength.sort_values(ascending=False, kind="stable").index[:MOST_FEATURES]
    features = [feature for feature in profile.means.index if feature in kept]
    coloured = np.column_stack([profile.differences.loc[features], np.zeros(len(features))])
    total, segments = sum(profile.sizes), len(profile.sizes)
    heads = [
        "\n".join([tr("segment {segment}", segment=segment), *(on_picture(word, 24) for word in words)])
        + "\n"
        + tr("{size:,} ({share:.0%})", size=size, share=size / total)
        for segment, (words, size) in enumerate(zip(profile.words, profile.sizes, strict=True))
    ]
    figure = Figure(figsize=(max(9, 4 + 2.1 * segments), 2.4 + 0.36 * len(features)), layout="constrained")
    figure.suptitle(tr("{title}: means, and shares in %", title=title), fontsize=13)
    axes = figure.subplots()
    image = axes.imshow(coloured, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
    for (row, column), difference in np.ndenumerate(coloured):
        colour = max("black", "white", key=partial(contrast, image.cmap(image.norm(difference))))
        text = written(profile, features[row], column)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    for row in range(1, len(features)):
        if profile.columns[features[row]] != profile.columns[features[row - 1]]:
            axes.axhline(row - 0.5, color="white", linewidth=2)
    axes.axvline(segments - 0.5, color="black", linewidth=1)
    axes.set_yticks(range(len(features)), [on_picture(feature) for feature in features])
    axes.set_xticks(range(segments + 1), [*heads, tr("all") + "\n" + tr("{size:,}", size=total)], fontsize="small")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, shrink=0.5, label=tr("difference from all rows\n(standard deviations)"))
    return in_language(figure)


def _draw_segments(axes: Axes, plane: pd.DataFrame, labels: np.ndarray, size: float) -> None:
    present = plane.notna().all(axis=1).to_numpy()
    points, labels = plane.to_numpy()[present], labels[present]
    drawn = np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]
    size *= 1 if len(points) > 1000 else 3
    for segment in np.unique(labels):
        x, y = points[drawn[labels[drawn] == segment]].T
        axes.scatter(x, y, s=size, alpha=0.5, linewidths=0, **_look(segment))
    for segment in np.unique(labels):
        x, y = points[labels == segment].mean(axis=0)
        box = {"boxstyle": "circle", "facecolor": "white", "edgecolor": _look(segment)["color"], "linewidth": 2}
        axes.text(x, y, str(segment), ha="center", va="center", fontweight="bold", bbox=box)


def _look(segment: int) -> dict[str, Any]:
    """The colour and the marker of a segment; no two of the first 72 have both the same."""
    return {"color": COLORS[segment % len(COLORS)], "marker": MARKERS[segment % len(MARKERS)]}
