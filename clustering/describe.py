"""Say who is in each segment: its size, its means in the user's own units, and what sets it apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from features import Table

# A difference between the mean of a segment and that of all rows counts from this many standard deviations on.
NOTABLE = 0.3
# The column of the means of all rows stands behind those of the segments.
ALL = -1
# The picture of a profile shows the features that differ most, no more than this.
MOST_FEATURES = 24
# The table of its summary shows no more columns than this.
MOST_MEANS = 8


@dataclass(frozen=True)
class Profile:
    """The segments of a table, described.

    means: one row a feature, one column a segment and `all`: the mean of a column of numbers in its own unit, or the
        share (0 to 1) of a category, named `column = category`.
    differences: as `means`, without `all`: how far a segment's mean is from that of all rows, in standard deviations.
    columns: the column that each feature is made of.
    shares: whether each feature is a share.
    sizes: rows of each segment in the whole table.
    names: each segment in a few words, from the columns that were fitted on.
    """

    means: pd.DataFrame
    differences: pd.DataFrame
    columns: pd.Series
    shares: pd.Series
    sizes: list[int]
    names: list[str]


def profile(table: Table, labels: np.ndarray, sizes: list[int], columns: list[str]) -> Profile:
    """Describe the segments of a table.

    labels: the segment of each row of `table.frame` (rows,), from 0.
    sizes: rows of each segment in the whole table.
    columns: by what to describe them, fitted on or not.
    """
    rows = {}
    for column in columns:
        for feature, values in _features(table.frame[column]).items():
            rows[feature] = {
                "column": column,
                "share": feature != column or bool(((values == 0) | (values == 1) | values.isna()).all()),
                "deviation": values.std(),
                **values.groupby(labels).mean().reindex(range(len(sizes))),
                "all": values.mean(),
            }
    features = pd.DataFrame.from_dict(rows, orient="index")
    means = features[[*range(len(sizes)), "all"]].astype("float64")
    deviation = features["deviation"].astype("float64").replace(0, np.nan)
    differences = means.drop(columns="all").sub(means["all"], axis=0).div(deviation, axis=0).fillna(0.0)
    fitted = differences[features["column"].isin(table.columns.fitted)]
    names = [_name(of_segment) for of_segment in fitted.to_dict().values()]
    return Profile(means, differences, features["column"], features["share"].astype(bool), sizes, names)


def profile_table(profile: Profile) -> pd.DataFrame:
    """One row a segment and one for all rows: size, share, name, every mean, and what sets the segment apart."""
    total = sum(profile.sizes)
    segments = [*range(len(profile.sizes)), "all"]
    return pd.DataFrame(
        {
            "segment": segments,
            "name": [*profile.names, ""],
            "size": [*profile.sizes, total],
            "share": [size / total for size in [*profile.sizes, total]],
            **{
                f"{'share' if profile.shares[feature] else 'mean'} {feature}": np.asarray(profile.means.loc[feature])
                for feature in profile.means.index
            },
            "apart": [*("; ".join(what_sets_apart(profile, segment)) for segment in segments[:-1]), ""],
        }
    )


def what_sets_apart(profile: Profile, segment: int, most: int = 4) -> list[str]:
    """The features in which a segment differs most from all rows, in words, one a column and the strongest first."""
    differences = profile.differences[segment]
    # That a category is frequent says more than that another one is rare.
    alone = ~profile.columns.duplicated(keep=False)
    strength = differences.abs()[alone | (differences > 0)]
    strength = strength[strength >= NOTABLE].sort_values(ascending=False, kind="stable")
    strongest = strength[~profile.columns[strength.index].duplicated()].index[:most]
    return [
        f"{feature} {_written(profile, feature, segment)} (all: {_written(profile, feature, ALL)})"
        for feature in strongest
    ]


def summary(profile: Profile, heading: str) -> str:
    """The profile as Markdown: a table of sizes and means, and a line for each segment on what sets it apart.

    heading: what stands above it, Markdown.
    """
    # Numbers and categories of two: what takes one column. The profile's CSV holds the rest.
    shown = profile.columns.index[~profile.columns.duplicated(keep=False)][:MOST_MEANS].tolist()
    heads = [name if profile.shares[name] else f"mean {name}" for name in shown]
    total = sum(profile.sizes)
    lines = [
        heading,
        "",
        f"| segment | {' | '.join(['rows', 'share', *heads])} |",
        f"|---{'|--:' * (2 + len(shown))}|",
    ]
    for segment, size in enumerate(profile.sizes):
        means = [_written(profile, name, segment) for name in shown]
        lines.append(f"| {segment} | {' | '.join([f'{size:,}', f'{size / total:.1%}', *means])} |")
    lines.append(f"| all | {' | '.join([f'{total:,}', '', *(_written(profile, name, ALL) for name in shown)])} |")
    lines.append("")
    for segment, name in enumerate(profile.names):
        apart = ", ".join(what_sets_apart(profile, segment)) or "nothing much"
        lines.append(f"- **Segment {segment}, {name}.** What sets it apart: {apart}.")
    return "\n".join(lines) + "\n"


def profile_figure(profile: Profile, title: str) -> Figure:
    """The profile as a picture: means and shares of what differs most, coloured by how far from all rows."""
    strength = profile.differences.abs().max(axis=1)
    kept = strength.sort_values(ascending=False, kind="stable").index[:MOST_FEATURES]
    features = [feature for feature in profile.means.index if feature in kept]
    segments = list(range(len(profile.sizes)))
    total = sum(profile.sizes)

    heads = [
        "\n".join([f"segment {segment}", *name.split(", "), f"{size:,} ({size / total:.0%})"])
        for segment, (name, size) in enumerate(zip(profile.names, profile.sizes, strict=True))
    ]
    title = f"{title}: means, and shares in %"
    # All in inches: to have the margins found takes longer than to draw the picture.
    left, right, bottom = 0.2 + _inches(features, 10), 1.2, 0.2
    top = 0.7 + 0.14 * max(head.count("\n") for head in heads)
    across = (0.15 + _inches([line for head in heads for line in head.split("\n")], 8.3)) * (len(segments) + 1)
    across = max(across, 0.3 + _inches([title], 13) - left - right)
    down = max(0.36 * len(features), 1.4)
    width, height = left + across + right, top + down + bottom
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height)
    figure.suptitle(title, fontsize=13, y=1 - 0.1 / height)
    axes = figure.subplots()
    coloured = np.column_stack([profile.differences.loc[features], np.zeros(len(features))])
    image = axes.imshow(coloured, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
    for row, feature in enumerate(features):
        for column in range(len(segments) + 1):
            dark = abs(coloured[row, column]) > 0.8
            axes.text(
                column,
                row,
                _written(profile, feature, column),
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize="small",
            )
    for row in range(1, len(features)):
        if profile.columns[features[row]] != profile.columns[features[row - 1]]:
            axes.axhline(row - 0.5, color="white", linewidth=2)
    axes.axvline(len(segments) - 0.5, color="black", linewidth=1)
    axes.set_yticks(range(len(features)), features)
    axes.set_xticks(range(len(segments) + 1), [*heads, f"all\n{total:,}"], fontsize="small")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, cax=axes.inset_axes((1 + 0.15 / across, 0.25, 0.15 / across, 0.5)))
    bar.set_label("difference from all rows\n(standard deviations)", fontsize="small")
    return figure


def _inches(lines: list[str], size: float) -> float:
    """The width of the longest of several lines of text of a size in points."""
    font = FontProperties(size=size)
    return max(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines) / 72


def _features(values: pd.Series) -> dict[str, pd.Series]:
    """A column as numbers: itself, or the 0/1 membership of each category (of two categories, only one)."""
    name = str(values.name)
    if pd.api.types.is_numeric_dtype(values):
        return {name: values}
    categories = values.value_counts().index.tolist()
    if len(categories) == 2:
        telling = [category for category in categories if category.lower() in ("yes", "true")]
        categories = telling or categories[1:]  # the rarer one
    present = values.notna()
    return {f"{name} = {category}": (values == category).astype("float64").where(present) for category in categories}


def _name(differences: dict[str, float]) -> str:
    """The (at most three) strongest features of a segment in words: `low tenure, high monthly_charges`."""
    strongest = sorted(differences, key=lambda feature: -abs(differences[feature]))[:3]
    words = [
        f"{'high' if difference > 0 else 'low'} {feature}"
        for feature, difference in differences.items()
        if feature in strongest and abs(difference) >= NOTABLE
    ]
    return ", ".join(words) or "close to the mean"


def _written(profile: Profile, feature: str, column: int) -> str:
    value = np.asarray(profile.means.loc[feature])[column]
    if np.isnan(value):
        return "-"
    if profile.shares[feature]:
        return f"{value:.0%}"
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f}"
