"""Say who is in each segment: its size, its means in the user's own units, and what sets it apart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import skew

from features import Table
from kmeans import Clustering
from support.language import tr
from support.texts import in_markdown

# A difference between the mean of a segment and that of all rows counts from this many standard deviations on, of which
# half must be left without the most extreme rows.
NOTABLE = 0.3
# The column of the means of all rows stands behind those of the segments.
ALL = -1
# The table of a summary shows no more columns than this.
MOST_MEANS = 8
# A segment with a smaller share of the rows than this is pointed out.
SMALL = 0.01
# A column is skewed from this skewness on; normally distributed values have 0, waiting times 2.
SKEWED = 3


@dataclass(frozen=True)
class Profile:
    """The segments of a table, described.

    means: one row a feature, one column a segment and `all`: the mean of a column of numbers in its own unit, or the
        share (0 to 1) of a category, named `column = category`.
    differences: as `means`, without `all`: how far a segment's mean is from that of all rows, in standard deviations.
    firm: as `differences`, without the most extreme twentieth of the segment's rows, at least two: what is left of a
        difference that a few rows make is little or nothing.
    columns, shares: of each feature the column that it is made of, and whether it is a share.
    sizes: rows of each segment in the whole table.
    words: each segment in a few words, from the columns that were fitted on.
    """

    means: pd.DataFrame
    differences: pd.DataFrame
    firm: pd.DataFrame
    columns: pd.Series
    shares: pd.Series
    sizes: list[int]
    words: list[list[str]]

    @property
    def names(self) -> list[str]:
        """Each segment in a few words: `low tenure, high monthly_charges`."""
        return [", ".join(words) for words in self.words]


def profile(table: Table, clustering: Clustering, columns: list[str]) -> Profile:
    """Describe the segments of a table. columns: by what to describe them, fitted on or not."""
    labels, segments = clustering.labels, range(clustering.n_clusters)
    rows: dict[str, dict[Any, Any]] = {}
    firm: dict[str, list[float]] = {}
    for column in columns:
        for feature, values in _features(table.frame[column]).items():
            mean, deviation = values.mean(), values.std() or np.nan
            rows[feature] = {
                "column": column,
                "share": feature != column or bool(((values == 0) | (values == 1) | values.isna()).all()),
                "deviation": deviation,
                **values.groupby(labels).mean().reindex(segments),
                "all": mean,
            }
            firm[feature] = [_firm_difference(values[labels == segment], mean) / deviation for segment in segments]
    features = pd.DataFrame.from_dict(rows, orient="index")
    means = features[[*segments, "all"]].astype("float64")
    differences = means.drop(columns="all").sub(means["all"], axis=0).div(features["deviation"], axis=0).fillna(0.0)
    firmly = pd.DataFrame.from_dict(firm, orient="index").fillna(0.0)
    fitted = features["column"].isin(table.columns.fitted)
    counts = np.bincount(clustering.labels, minlength=clustering.n_clusters)
    words = [
        _words(differences[fitted][segment], firmly[fitted][segment], int(counts[segment])) for segment in segments
    ]
    shares = features["share"].astype(bool)
    return Profile(means, differences, firmly, features["column"], shares, clustering.sizes, words)


def profile_table(profile: Profile) -> pd.DataFrame:
    """One row a segment and one for all rows: size, share, name, every mean, and what sets the segment apart."""
    total = sum(profile.sizes)
    segments = [*range(len(profile.sizes)), "all"]
    means = {
        f"{'share' if profile.shares[feature] else 'mean'} {feature}": profile.means.loc[feature].to_numpy()
        for feature in profile.means.index
    }
    apart = ["; ".join(what_sets_apart(profile, segment)) for segment in segments[:-1]]
    return pd.DataFrame(
        {
            "segment": segments,
            "name": [*profile.names, ""],
            "size": [*profile.sizes, total],
            "share": [size / total for size in [*profile.sizes, total]],
            **means,
            "apart": [*apart, ""],
        }
    )


def what_sets_apart(profile: Profile, segment: int, most: int = 4) -> list[str]:
    """The features in which a segment differs most from all rows, in words, one a column and the strongest first."""
    differences = profile.differences[segment]
    # That a category is frequent says more than that another one is rare.
    alone = ~profile.columns.duplicated(keep=False)
    notable = (differences.abs() >= NOTABLE) & (profile.firm[segment].abs() >= NOTABLE / 2)
    strength = differences.abs()[notable & (alone | (differences > 0))].sort_values(ascending=False, kind="stable")
    strongest = strength[~profile.columns[strength.index].duplicated()].index[:most]
    return [
        f"{feature} {written(profile, feature, segment)} ({tr('all: {value}', value=written(profile, feature, ALL))})"
        for feature in strongest
    ]


def summary(profile: Profile, heading: str) -> str:
    """The profile as Markdown: a table of sizes and means, and a line for each segment on what sets it apart.

    heading: what stands above it, Markdown.
    """
    # Numbers and categories of two: what takes one column. The profile's CSV holds the rest.
    shown = profile.columns.index[~profile.columns.duplicated(keep=False)][:MOST_MEANS].tolist()
    heads = [in_markdown(name if profile.shares[name] else tr("mean {feature}", feature=name)) for name in shown]
    total = sum(profile.sizes)
    lines = [heading, "", f"| {' | '.join([tr('segment'), tr('rows'), tr('share'), *heads])} |"]
    lines.append(f"|---{'|--:' * (2 + len(shown))}|")
    for segment, size in enumerate(profile.sizes):
        means = [written(profile, name, segment) for name in shown]
        counted = tr("{size:,} | {share:.1%}", size=size, share=size / total)
        lines.append(f"| {segment} | {' | '.join([counted, *means])} |")
    means = [written(profile, name, ALL) for name in shown]
    lines.append(f"| {tr('all')} | {' | '.join([tr('{size:,}', size=total), '', *means])} |")
    lines.append("")
    for segment, name in enumerate(profile.names):
        apart = in_markdown(", ".join(what_sets_apart(profile, segment)) or tr("nothing much"))
        title = tr("Segment {segment}, {name}.", segment=segment, name=in_markdown(name))
        lines.append(f"- **{title}** {tr('What sets it apart: {apart}.', apart=apart)}")
    return "\n".join(lines) + "\n"


def advice(table: Table, clustering: Clustering) -> list[str]:
    """What to look at before the segments are used: very small ones, and columns that a few values dominate."""
    found = []
    smallest = min(clustering.sizes)
    if smallest < SMALL * table.rows:
        small = (
            "Warning: the smallest segment holds {smallest:,} of {rows:,} rows ({share:.2%}): perhaps outliers, not a "
            "segment. Fewer segments, log_columns or drop may help."
        )
        found.append(tr(small, smallest=smallest, rows=table.rows, share=smallest / table.rows))
    skewed = [name for name in table.columns.numeric if name not in table.columns.logged and _skewed(table.frame[name])]
    if skewed:
        large = "Hint: a few large values dominate {columns}: -P log_columns={names} fits on logarithms."
        names = _list([*table.columns.logged, *skewed])
        found.append(tr(large, columns=", ".join(map(repr, skewed)), names=names))
    return found


def written(profile: Profile, feature: str, column: int) -> str:
    """A mean or share as text. column: the number of the segment, or `ALL`."""
    value = profile.means.loc[feature].to_numpy()[column]
    if np.isnan(value):
        return "-"
    if profile.shares[feature]:
        return tr("{share:.0%}", share=value)
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return tr(f"{{value:,.{decimals}f}}", value=value)


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


def _firm_difference(values: pd.Series, mean: float) -> float:
    """How far the mean of a segment is from that of all rows, without the rows that are farthest that way."""
    few = max(2, math.ceil(len(values) / 20))
    present = np.sort(values.dropna())
    if len(present) <= few:
        return 0.0
    return max(present[:-few].mean() - mean, 0.0) or min(present[few:].mean() - mean, 0.0)


def _words(differences: pd.Series, firm: pd.Series, rows: int) -> list[str]:
    """The (at most three) strongest features of a segment in words: `low tenure`, `high monthly_charges`.

    rows: of the segment in the sample, or table, that it is described by.
    """
    if rows <= 2:
        return [tr("too few rows to describe")]
    strongest = differences.abs().sort_values(ascending=False, kind="stable").index[:3]
    words = [
        tr("high {feature}" if differences[feature] > 0 else "low {feature}", feature=feature)
        for feature in differences.index
        if feature in strongest and abs(differences[feature]) >= NOTABLE and abs(firm[feature]) >= NOTABLE / 2
    ]
    return words or [tr("close to the mean")]


def _list(names: list[str]) -> str:
    """Names as a parameter takes them."""
    return f"'{json.dumps(names)}'" if any("," in name for name in names) else ",".join(names)


def _skewed(values: pd.Series) -> bool:
    """Whether a few values are far above the others, and the logarithm brings them closer."""
    numbers = values.dropna().to_numpy(dtype="float64")
    skewness = skew(numbers)
    return bool(numbers.min() >= 0 and skewness >= SKEWED and skew(np.log1p(numbers)) <= skewness / 2)
