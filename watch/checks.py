"""Rows that must not be learnt from: what looks like broken data and not like a changed world, week by week."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import chi2, chi2_contingency, ncx2

from measures import FEW_VALUES, plain
from reference import Reference, Served
from truth import Answered

SCALE = 3.0  # times larger or smaller than in training: another unit
UNSEEN = 0.05  # share of rows with a category that training never had, a renamed one, or with a number far off
FAR = 0.5  # of the range of training, beyond either end of it: far off
GONE = 20  # rows of a category that were expected where there is none
MISSING = 0.5  # how much more of a column is missing, as a share of all rows
FEW_ROWS = 50  # of a week: fewer are looked at with the whole window only
FEW_LABELS = 100  # the same, of labelled rows
FEW_OF_CLASS = 20  # labelled rows of each class, for the same
ONE_VALUE = 0.4  # how many more rows, as a share, have one and the same number: a default, a stuck sensor, a limit
SURE = 1e-4  # chance that rows as in training hide the link between two columns: a weaker link is not looked at


def weeks_of(times: pd.Series, few: int) -> Iterator[tuple[str, np.ndarray]]:
    """The window, its halves, and each week with at least so many rows: a name and which rows belong to it (rows,)."""
    yield "the window", np.ones(len(times), dtype=bool)
    first = (times < times.min() + (times.max() - times.min()) / 2).to_numpy()
    if min(first.sum(), (~first).sum()) >= few:
        yield "the first half of the window", first
        yield "the second half of the window", ~first
    weeks = times.dt.tz_localize(None).dt.to_period("W").dt.start_time
    for week, count in weeks.value_counts().sort_index().items():
        if count >= few:
            yield f"the week from {week:%Y-%m-%d}", (weeks == week).to_numpy()


def broken_features(served: Served, reference: Reference, X: pd.DataFrame, times: pd.Series) -> list[str]:
    """What is wrong with features, in one sentence a column.

    X: as the model takes them (rows, columns). times: when they were asked (rows,).
    """
    found: dict[str, str] = {}
    for when, member in weeks_of(times, FEW_ROWS):
        for name in filter(served.kind, served.columns):
            if name not in found and (why := _broken(served.kind(name), reference.X[name], X.loc[member, name])):
                found[name] = f"column {name!r} in {when}: {why}"
    return list(found.values()) or broken_links(served, reference, X, times)


def broken_links(served: Served, reference: Reference, X: pd.DataFrame, times: pd.Series) -> list[str]:
    """Columns that have nothing to do any more with the one that they went along with in training: moved by a row, say.

    Numbers in quarters, the ten commonest categories. Chi-squared of independence, where its power (Cohen, Statistical
    Power Analysis, 1988) is such that a link as in training shows in all but SURE of such windows.
    """
    compared = filter(served.kind, served.columns)
    codes = {name: _coded(served.kind(name), reference.X[name], X[name]) for name in compared}
    found: dict[str, str] = {}
    for name, (old, new) in codes.items():
        links = {other: _dependence(old, codes[other][0])[0] / len(old) for other in codes if other != name}
        partner = max(links, key=lambda other: links[other], default=name)
        for when, member in weeks_of(times, FEW_ROWS) if links else ():
            value, freedom = _dependence(new[member], codes[partner][1][member])
            bound = chi2.ppf(0.95, freedom) if freedom else -1.0
            if value + freedom <= bound and ncx2.cdf(bound, freedom, links[partner] * member.sum()) < SURE:
                told = f"it has nothing to do with {partner!r} any more, and went along with it in training"
                found.setdefault(name, f"column {name!r} in {when}: {told}")
    return list(found.values())


def _coded(kind: str, old: pd.Series, new: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a column as small whole numbers (rows,): quarters of training, or ranks of its categories."""
    if kind == "number" and old.nunique() > FEW_VALUES:
        edges = np.unique(np.nanquantile(old.to_numpy(dtype=float), [0.25, 0.5, 0.75]))
        sides = [np.where(each.isna(), 4, np.searchsorted(edges, each.to_numpy(dtype=float))) for each in (old, new)]
    else:
        ranks = {value: min(place, 9) for place, value in enumerate(old.value_counts().index)}
        sides = [each.map(ranks).fillna(10).to_numpy(dtype=int) for each in (old, new)]
    return sides[0], sides[1]


def _dependence(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """By how much the chi-squared of two columns is above what it is without a link, and its degrees of freedom."""
    table = np.bincount(one * 11 + other, minlength=121).reshape(11, 11)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return (float(chi2_contingency(table, correction=False).statistic) - freedom if freedom else 0.0), freedom


def _broken(kind: str, old: pd.Series, new: pd.Series) -> str:
    """What is wrong with a column; empty where nothing is."""
    more = new.isna().mean() - old.isna().mean()
    if more > MISSING:
        return f"{new.isna().mean():.0%} are missing, {old.isna().mean():.0%} in training"
    old, new = old.dropna(), new.dropna()
    if old.empty or new.empty:
        return ""
    if kind == "number" and old.nunique() > FEW_VALUES:
        value, share = new.mode()[0], (new == new.mode()[0]).mean()
        if share - (old == value).mean() > ONE_VALUE:
            return f"{share:.0%} of its values are {value:.4g}, {(old == value).mean():.0%} in training"
        ratio = _size(new) / _size(old)
        if not 1 / SCALE < ratio < SCALE:
            return f"its values are {ratio:.3g} times as large as in training, as in another unit"
        low, high = old.min(), old.max()
        far = ((new < low - FAR * (high - low)) | (new > high + FAR * (high - low))).mean()
        return f"{far:.0%} are far from those of training, {low:.4g} to {high:.4g}" if far > UNSEEN else ""
    shares = old.value_counts(normalize=True)
    strange = new[~new.isin(shares.index)].value_counts()
    if strange.sum() / len(new) > UNSEEN + (old.value_counts() == 1).sum() / len(old):  # as many are always new
        return f"{plain(strange.index[0])!r} in {strange.iloc[0] / len(new):.0%} of the rows, and never in training"
    gone = shares[(shares * len(new) >= GONE) & ~shares.index.isin(new.unique())]
    return f"{plain(gone.index[0])!r} has disappeared, {gone.iloc[0]:.0%} in training" if len(gone) else ""


def _size(values: pd.Series) -> float:
    """The middle of the magnitudes that are not zero: a change of unit multiplies it."""
    sizes = values.abs()[values != 0]
    return float(sizes.median()) if len(sizes) else 1e-300


def broken_labels(given: Answered, times: pd.Series, known: np.ndarray) -> list[str]:
    """Labels that lack a class, or have nothing to do with the answers of the champion: what shuffled ones look like.

    given: the labelled rows. times: when they were asked (rows,). known: shares of the classes in training (classes,).
    """
    for when, member in weeks_of(times, FEW_ROWS):
        part = given.of(member)
        counts = np.bincount(part.truth, minlength=len(part.classes))
        for label, share, count in zip(part.classes, known, counts, strict=True):
            if not count and share * len(part.truth) >= GONE:
                return [f"labels in {when}: none is {label!r}, {share:.0%} in training"]
        if len(part.truth) < FEW_LABELS or counts.min() < FEW_OF_CLASS:
            continue
        metrics = part.metrics()
        name, chance = ("roc_auc", 0.5) if "roc_auc" in metrics else ("balanced_accuracy", 1 / len(part.classes))
        value, low, high = metrics[name]
        if low <= chance:
            found = f"{name} {value:.3f} [{low:.3f}, {high:.3f}], and chance has {chance:.3g}"
            return [f"labels in {when}: the champion is no better than chance on them ({found})"]
    return []
