"""How two samples of one column differ: a test that fits its kind, the size of the difference, and all tests together.

Sources: Kolmogorov-Smirnov, Hodges (1958); chi-squared, its rule for few expected rows, Cochran (1954); Fisher's exact
test (1935); the population stability index, Siddiqi, Credit Risk Scorecards (2006); the correction for many columns,
Benjamini and Hochberg (1995).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, false_discovery_control, fisher_exact, ks_2samp

FEW_VALUES = 10  # numbers with no more different values than this are compared as categories
FEW_ROWS = 20  # with fewer values on a side, a column is not compared
EXPECTED = 5.0  # rows that chi-squared expects at least in a cell; rarer categories are merged
BINS = 10  # of the population stability index of numbers: tenths of the reference

DRIFT, NONE, UNDECIDED = "drift", "none", "undecided"


@dataclass(frozen=True)
class Compared:
    """What one test found.

    column: with the word missing or unseen behind it where the test is of that rate.
    reference, window: what is shown of each side: a mean, a rate, or the share of the category that changed most.
    p_value: NaN where there are too few rows. adjusted: after the correction for all tests.
    psi: the population stability index, NaN where it does not apply. It is a size, and has no p-value.
    values: of the window, that were compared.
    """

    column: str
    test: str
    reference: str
    window: str
    p_value: float
    psi: float = np.nan
    values: int = 0
    adjusted: float = np.nan
    verdict: str = UNDECIDED


def compare(name: str, kind: str, reference: pd.Series, window: pd.Series) -> list[Compared]:
    """Compare a column by the tests that fit its kind.

    kind: number, category or boolean, as the model was given the column.
    reference, window: its values on each side (rows,), missing ones as NaN or None.

    Returns the test of its values and, where there are any, those of its missing and its unseen values.
    """
    found = []
    if reference.isna().any() or window.isna().any():
        found.append(_rate(f"{name} missing", reference.isna(), window.isna()))
    old, new = reference.dropna(), window.dropna()
    as_numbers = kind == "number" and old.nunique() > FEW_VALUES
    if not as_numbers:
        old, new = old.map(plain), new.map(plain)
        if (strange := ~new.isin(old.unique())).any():
            single = old.map(old.value_counts()) == 1  # unseen in all other rows: with many values, some always are
            found.append(_rate(f"{name} unseen", single, strange))
    if min(len(old), len(new)) < FEW_ROWS:
        return [Compared(name, "none", f"{len(old):,} values", f"{len(new):,} values", np.nan), *found]
    return [_numbers(name, old, new) if as_numbers else _categories(name, old, new), *found]


def plain(label: object) -> str:
    """A category or class as text that is the same in CSV, JSON and Parquet: 1.0 is 1, True is true."""
    text = str(label).strip()
    return text.lower() if text.lower() in ("true", "false") else text.removesuffix(".0")


def _numbers(name: str, old: pd.Series, new: pd.Series) -> Compared:
    """Kolmogorov-Smirnov; the means are shown."""
    one, other = old.to_numpy(dtype=float), new.to_numpy(dtype=float)
    p_value = float(ks_2samp(one, other, method="asymp").pvalue)
    edges = np.unique(np.quantile(one, np.linspace(0, 1, BINS + 1)[1:-1]))
    binned = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in (one, other)]
    with np.errstate(over="ignore"):
        means = [f"mean {each.mean():.4g}" for each in (one, other)]
    return Compared(name, "Kolmogorov-Smirnov", means[0], means[1], p_value, stability_index(*binned), len(new))


def _categories(name: str, old: pd.Series, new: pd.Series) -> Compared:
    """Chi-squared over categories, those with few expected rows merged; two categories with few rows: Fisher."""
    counts = pd.DataFrame({"old": old.value_counts(), "new": new.value_counts()}).fillna(0)
    table = merged(counts.to_numpy().T)
    p_value, test = 1.0, "chi-squared"
    if table.shape[1] == 2 and _smallest_expected(table) < EXPECTED:
        p_value, test = float(fisher_exact(table).pvalue), "Fisher"
    elif table.shape[1] > 1:
        p_value = float(chi2_contingency(table, correction=False).pvalue)
    shares = counts / counts.sum()
    moved = str((shares["new"] - shares["old"]).abs().idxmax())
    told = [f"{moved} {shares[side][moved]:.1%}" for side in ("old", "new")]
    size = stability_index(counts["old"].to_numpy(), counts["new"].to_numpy())
    return Compared(name, test, told[0], told[1], p_value, size, len(new))


def _rate(name: str, old: pd.Series, new: pd.Series) -> Compared:
    """Fisher's exact test of a rate. old, new: whether it holds (rows,)."""
    table = [[int(each.sum()), int((~each).sum())] for each in (old.astype(bool), new.astype(bool))]
    told = [f"{each.mean() if len(each) else 0:.1%}" for each in (old, new)]
    return Compared(name, "Fisher", told[0], told[1], float(fisher_exact(table).pvalue), values=len(new))


def merged(table: np.ndarray) -> np.ndarray:
    """A table of counts (2, categories) whose rarest columns are added up until each expects EXPECTED rows."""
    table = table[:, np.argsort(table.sum(axis=0))]
    while table.shape[1] > 2 and _smallest_expected(table) < EXPECTED:
        table = np.concatenate([table[:, :2].sum(axis=1, keepdims=True), table[:, 2:]], axis=1)
        table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    return table


def _smallest_expected(table: np.ndarray) -> float:
    return float((table.sum(axis=0).min() * table.sum(axis=1).min()) / table.sum())


def stability_index(old: np.ndarray, new: np.ndarray) -> float:
    """The population stability index of two counts of the same bins (bins,); half a row is added to each bin."""
    one, other = ((each + 0.5) / (each + 0.5).sum() for each in (old, new))
    return float(((other - one) * np.log(other / one)).sum())


def judge(found: Iterable[Compared], alpha: float, min_rows: int = 0) -> list[Compared]:
    """Correct for the number of tests, and give each its verdict; the surest difference first.

    alpha: of windows in which nothing has changed, the share in which any test may say otherwise.
    min_rows: values without which "no drift" is never said.
    """
    all_ = list(found)
    decided = [each for each in all_ if np.isfinite(each.p_value)]
    adjusted = false_discovery_control([each.p_value for each in decided]) if decided else []
    judged = []
    for each, value in zip(decided, adjusted, strict=True):
        verdict = DRIFT if value <= alpha else NONE if each.values >= min_rows else UNDECIDED
        judged.append(replace(each, adjusted=float(value), verdict=verdict))
    return sorted(judged, key=lambda each: each.p_value) + [each for each in all_ if not np.isfinite(each.p_value)]


def verdict_of(judged: Iterable[Compared]) -> str:
    """Drift where any test says so; otherwise none, or undecided where no test had values enough to tell."""
    verdicts = {each.verdict for each in judged}
    return next((verdict for verdict in (DRIFT, NONE) if verdict in verdicts), UNDECIDED)
