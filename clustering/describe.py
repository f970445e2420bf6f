"""Say who is in each segment: its size, its means in the user's own units, and what sets it apart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import skew

from features import Table
from kmeans import Clustering
from support.language import tr
from support.texts import in_markdown

NOTABLE = 0.3  # standard deviations between two means, of which half must be left without the most extreme rows
ALL = -1  # the column of the means of all rows stands behind those of the segments
MOST_MEANS = 8  # columns in the table of a summary
SMALL = 0.01  # a segment with a smaller share of the rows is pointed out
SKEWED = 3  # skewness of a column that a few values dominate; normally distributed values have 0, waiting times 2


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
    labels, segments = clustering.labels, list(range(clustering.n_clusters))
    features, made_of = dict[str, pd.Series](), dict[str, str]()
    for column in columns:
        parts = _features(table.frame[column])
        features |= parts
        made_of |= dict.fromkeys(parts, column)
    X, source = pd.DataFrame(features), pd.Series(made_of)
    shares = (source != source.index) | (X.isin([0, 1]) | X.isna()).all()
    means = X.groupby(labels).mean().reindex(segments).T.assign(all=X.mean())
    deviation = X.std().replace(0, np.nan)
    differences = means[segments].sub(means["all"], axis=0).div(deviation, axis=0).fillna(0.0)
    without = [X[labels == segment].sub(means["all"]).apply(_firm_difference) for segment in segments]
    firm = pd.DataFrame(dict(enumerate(without))).div(deviation, axis=0).fillna(0.0)
    fitted, counts = source.isin(table.columns.fitted), np.bincount(labels, minlength=len(segments))
    words = [_words(differences[fitted][each], firm[fitted][each], int(counts[each])) for each in segments]
    return Profile(means, differences, firm, source, shares, clustering.sizes, words)


def profile_table(profile: Profile) -> pd.DataFrame:
    """One row a segment and one for all rows: size, share, name, every mean, and what sets the segment apart."""
    sizes, segments = [*profile.sizes, sum(profile.sizes)], range(len(profile.sizes))
    heads = [f"{'share' if profile.shares[feature] else 'mean'} {feature}" for feature in profile.means.index]
    table = pd.DataFrame({"segment": [*segments, "all"], "name": [*profile.names, ""], "size": sizes})
    table["share"] = table["size"] / sizes[-1]
    means = profile.means.T.set_axis(heads, axis=1).reset_index(drop=True)
    apart = [*("; ".join(what_sets_apart(profile, segment)) for segment in segments), ""]
    return pd.concat([table, means], axis=1).assign(apart=apart)


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
    rows = [[tr("segment"), tr("rows"), tr("share"), *heads]]
    for segment, size in [*enumerate(profile.sizes), (ALL, total)]:
        share = "" if segment == ALL else tr("{share:.1%}", share=size / total)
        means = [written(profile, name, segment) for name in shown]
        rows.append([tr("all") if segment == ALL else str(segment), tr("{size:,}", size=size), share, *means])
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    lines = [heading, "", head, f"|---{'|--:' * (2 + len(shown))}|", *body, ""]
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


def _firm_difference(differences: pd.Series) -> float:
    """The mean difference of a segment's rows from the mean of all, without the rows that are farthest that way."""
    few = max(2, math.ceil(len(differences) / 20))
    present = np.sort(differences.dropna())
    if len(present) <= few:
        return 0.0
    return max(present[:-few].mean(), 0.0) or min(present[few:].mean(), 0.0)


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
