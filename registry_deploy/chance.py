"""What chance explains: intervals and exact tests for two models that have answered the same rows.

A metric is taken as the mean of one part for each row, so that the improvement of a candidate is a mean of paired
differences. The parts of accuracy and of a mean error are the hits and the errors. The parts of ROC AUC are DeLong's
placement values (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, rankdata

CHUNK = 5_000_000  # values that are drawn at a time: 40 MB
POWER = 0.8  # how surely a difference of the size observed is seen with the number of rows that `rows_needed` names


@dataclass(frozen=True)
class Improvement:
    """How much better a candidate is than the champion, in the units of the metric, with its interval.

    p_value: chance of at least this improvement where both models are equally good (one-sided).
    """

    value: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.value:+.3g} ({self.low:+.3g} to {self.high:+.3g})"


def auc_parts(member: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """One part for each row (rows,), whose mean is the ROC AUC; nan where one of the classes is absent.

    member: whether a row is of the positive class. scored: its score.
    """
    rows, positive = len(member), int(member.sum())
    negative = rows - positive
    if not positive or not negative:
        return np.full(rows, np.nan)
    among_all = rankdata(scored)  # equal scores share the mean of their ranks
    parts = np.empty(rows)
    parts[member] = (among_all[member] - rankdata(scored[member])) / negative
    parts[~member] = 1 - (among_all[~member] - rankdata(scored[~member])) / positive
    auc = parts[member].mean()
    return auc + (parts - auc) * np.where(member, rows / positive, rows / negative)


def replicates(differences: np.ndarray, n_resamples: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error (n_resamples,) of the differences (rows,) in resamples drawn with replacement."""
    rows, generator = len(differences), np.random.default_rng(random_state)
    means, errors = np.empty((2, n_resamples))
    for some in _chunks(n_resamples, rows):
        drawn = differences[generator.integers(rows, size=(some.stop - some.start, rows))]
        means[some], errors[some] = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / math.sqrt(rows)
    return means, errors


def bootstrap_interval(
    differences: np.ndarray, confidence: float, n_resamples: int, random_state: int
) -> tuple[float, float]:
    """The studentised bootstrap interval of a mean (Efron and Tibshirani, Introduction to the Bootstrap, 1993, 12.5).

    Resamples without any spread, which happen where few rows differ, count as infinitely far away.
    """
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if not error:
        return mean, mean
    means, errors = replicates(differences, n_resamples, random_state)
    away = means - mean
    distance = np.divide(away, errors, out=np.sign(away) * 1e9, where=errors > 0)
    high, low = np.quantile(distance, [(1 - confidence) / 2, (1 + confidence) / 2])
    return mean - float(low) * error, mean - float(high) * error


def sign_flip_p(differences: np.ndarray, n_resamples: int, random_state: int) -> float:
    """Chance of a mean at least as large where each difference could as well have the other sign.

    The randomisation test of R. A. Fisher (The Design of Experiments, 1935, section 21): valid with a handful of rows
    that differ.
    """
    differing = differences[differences != 0]
    generator = np.random.default_rng(random_state)
    observed, reached = differing.sum(), 0
    for some in _chunks(n_resamples, max(1, len(differing))):
        flipped = generator.integers(2, size=(some.stop - some.start, len(differing)), dtype=np.int8).astype(float)
        reached += int((observed - 2 * flipped @ differing >= observed - 1e-12 * abs(observed)).sum())
    return _upper_limit(1 + reached, n_resamples)


def _upper_limit(reached: int, n_resamples: int) -> float:
    """The upper 95 % limit of a p-value that was found by draws: few draws never make it look smaller.

    reached: how often a value as large was found, the observed one included.
    """
    return min(1.0, (reached + 1.645 * math.sqrt(reached - 1)) / (1 + n_resamples))


def _chunks(draws: int, rows: int) -> Iterator[slice]:
    """Which draws to make at a time."""
    step = max(1, CHUNK // rows)
    for start in range(0, draws, step):
        yield slice(start, min(start + step, draws))


def mcnemar_p(better: int, worse: int) -> float:
    """Chance of at least `better` of the `better + worse` rows on which only one of two models is right.

    The exact test of McNemar (Psychometrika 12, 1947), one-sided.
    """
    return float(binomtest(better, better + worse, alternative="greater").pvalue) if better + worse else 1.0


def tango_interval(better: int, worse: int, rows: int, confidence: float) -> tuple[float, float]:
    """The score interval of the difference of two accuracies on the same rows (Tango, Statistics in Medicine 17, 1998).

    better: rows on which only the candidate is right. worse: rows on which only the champion is right.
    """
    z, observed = norm.ppf((1 + confidence) / 2), (better - worse) / rows

    def distance(difference: float) -> float:
        a = 2 * rows
        b = -better - worse + (2 * rows - better + worse) * difference
        c = -worse * difference * (1 - difference)
        wrong = (math.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        spread = rows * (2 * wrong + difference * (1 - difference))
        return (better - worse - rows * difference) / math.sqrt(spread) if spread > 0 else 0.0

    def crossing(low: float, high: float, wanted: float) -> float:
        for _ in range(60):  # by halves, because the distance jumps at the ends
            middle = (low + high) / 2
            low, high = (middle, high) if distance(middle) > wanted else (low, middle)
        return low

    return crossing(-1, observed, z), crossing(observed, 1, -z)


def rows_needed(differences: np.ndarray, bound: float, confidence: float) -> int | None:
    """How many rows it would take to tell the improvement seen from `bound`; None where no number of rows would.

    For a paired comparison of two means with power 0.8: ((z of the confidence + z of the power) x deviation / distance
    from the bound), squared.
    """
    distance = abs(float(differences.mean()) - bound)
    factor = norm.ppf((1 + confidence) / 2) + norm.ppf(POWER)
    # Rows that all agree still leave room for one that does not: as if half a row differed.
    deviation = max(float(differences.std()), math.sqrt(0.5) / len(differences))
    return math.ceil((factor * deviation / distance) ** 2) if distance > 1e-12 else None


def losses_p(members: list[np.ndarray], losses: list[np.ndarray], n_resamples: int, random_state: int) -> list[float]:
    """For each of several groups of rows, the chance that any of them loses as surely, where none really loses.

    members: whether a row belongs to the group (rows,). losses: of its rows, how much worse the candidate is.

    The minP method of Westfall and Young (Resampling-Based Multiple Testing, 1993), by the same flipped signs for all
    groups: it costs less than Bonferroni or Holm, most of all where few rows of a group differ.
    """
    differing = np.zeros(len(members[0]) if members else 0, dtype=bool)  # the others do not change a sum
    for member, loss in zip(members, losses, strict=True):
        differing[np.flatnonzero(member)[loss != 0]] = True
    lost = [(member[differing], loss[differing[member]]) for member, loss in zip(members, losses, strict=True)]
    generator, rows = np.random.default_rng(random_state), int(differing.sum())
    sums = np.empty((1 + n_resamples, len(members)))  # as observed, then as drawn
    sums[0] = [loss.sum() for loss in losses]
    for some in _chunks(n_resamples, max(1, rows)):
        signs = 2.0 * generator.integers(2, size=(some.stop - some.start, rows), dtype=np.int8) - 1
        for place, (member, loss) in enumerate(lost):
            sums[1 + some.start : 1 + some.stop, place] = signs[:, member] @ loss
    rounded = np.round(sums / np.maximum(np.abs(sums).max(axis=0), 1e-300), 9)  # sums that are equal but for rounding
    p_values = rankdata(-rounded, method="max", axis=0) / (1 + n_resamples)
    smallest = p_values.min(axis=1, initial=1)
    return [_upper_limit(int((smallest <= p_value).sum()), n_resamples) for p_value in p_values[0]]
