"""How often the gate of registry_deploy is mistaken: `python benchmarks/gate.py [PAIRS]` (default 500, two minutes).

Pairs of models whose true quality is known answer the same simulated rows. Of models that are equally good, how many
candidates are promoted with margin=0 (at most 2.5 %)? How many are refused for one of ten groups (at most 5 %)? And how
often is a candidate caught that loses 0.05 in a tenth of the rows (at least 90 %)? Each rate with its 95 % interval
(Clopper and Pearson, Biometrika 26, 1934).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

COLLECTION = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(COLLECTION), str(COLLECTION / "tests")]

from examples import module  # noqa: E402

gate: Any = module("registry_deploy", "gate")
Pair = tuple[np.ndarray, Any, Any]  # the truth (rows,), the answers of the candidate and of the champion


def equal_pair(name: str, rows: int, differing: float, generator: np.random.Generator) -> Pair:
    """Two models that are equally good on a metric, and differ on a share of the rows."""
    truth = generator.integers(2, size=rows)
    changed = generator.random(rows) < differing
    if name == "accuracy_score":
        wrong, side = generator.random(rows) < 0.2, generator.random(rows) < 0.5
        answers = [np.where(wrong ^ (changed & each), 1 - truth, truth) for each in (side, ~side)]
        return truth, labels(answers[0]), labels(answers[1])
    shared = generator.normal(truth, 1)
    scored = [shared + changed * generator.normal(size=rows) for _ in range(2)]
    if name == "mean_absolute_error":
        return truth.astype(float), labels(scored[0]), labels(scored[1])
    chances = [1 / (1 + np.exp(1 - 2 * each)) for each in scored]
    first, second = (gate.Answers([0] * rows, [0, 1], np.c_[1 - each, each].tolist()) for each in chances)
    return truth, first, second


def hurt_pair(rows: int, loss: float, generator: np.random.Generator) -> Pair:
    """A candidate whose accuracy is lower by `loss` in the first tenth of the rows, and equal elsewhere."""
    truth, candidate, champion = equal_pair("accuracy_score", rows, 0.02, generator)
    right = np.asarray(candidate.predictions) == truth
    lost = right & (np.arange(rows) < rows // 10) & (generator.random(rows) < loss / right.mean())
    return truth, labels(np.where(lost, 1 - truth, candidate.predictions)), champion


def labels(values: np.ndarray) -> Any:
    """Answers without probabilities."""
    return gate.Answers(values.tolist(), [], [])


def compared(name: str, pair: Pair, n_resamples: int = 1000) -> Any:
    """What the gate makes of a pair."""
    return gate.Comparison(name, *pair, n_resamples=n_resamples)


def promoted(models: Any) -> bool:
    """Whether the candidate is promoted with margin=0."""
    return bool(gate.compared_row(models, 0)[0].verdict == "pass")


def refused_for_a_group(models: Any, slice_margin: float = 0.01) -> bool:
    """Whether the candidate is refused for one of ten groups."""
    tenths = np.arange(len(models.truth)) * 10 // len(models.truth)
    groups = {f"tenth={each}": tenths == each for each in range(10)}
    return bool(gate.verdict_of(gate.slice_rows(models, groups, slice_margin, 20)) == "FAIL")


def rate(what: str, pairs: int, happens: Callable[[], bool]) -> None:
    """Print how often something happens."""
    count = sum(happens() for _ in range(pairs))
    interval = binomtest(count, pairs).proportion_ci()
    told = f"{count / pairs:6.1%} ({interval.low:.1%} to {interval.high:.1%})"
    print(f"{what:<70} {told}", flush=True)


CASES = [
    *(("accuracy_score", rows, share) for rows, share in ((200, 0.01), (200, 0.02), (200, 0.05), (1000, 0.003))),
    *(("accuracy_score", 1000, 0.01), ("accuracy_score", 1000, 0.2)),
    *(("roc_auc", rows, share) for rows, share in ((200, 0.02), (200, 1), (1000, 0.01), (1000, 1))),
    *(
        ("log_loss", 500, 0.02),
        ("log_loss", 500, 1),
        ("mean_absolute_error", 200, 0.02),
        ("mean_absolute_error", 500, 1),
    ),
]
GROUPED = [("accuracy_score", 2000, 0.02), ("accuracy_score", 5000, 0.02), ("accuracy_score", 2000, 0.2)]
GROUPED += [("roc_auc", 2000, 1.0), ("mean_absolute_error", 2000, 1.0)]


def main(pairs: int) -> None:
    """Simulate, and print the rates."""
    generator = np.random.default_rng(0)
    for name, rows, share in CASES:
        what = f"promoted though equal: {name}, {rows} rows, {share:.1%} differ"
        rate(what, pairs, lambda: promoted(compared(name, equal_pair(name, rows, share, generator))))  # noqa: B023
    for name, rows, share in GROUPED:
        what = f"refused for a group though equal: {name}, {rows} rows, {share:.0%} differ"
        rate(what, pairs, lambda: refused_for_a_group(compared(name, equal_pair(name, rows, share, generator))))  # noqa: B023
    for rows in (2000, 3500, 5000):
        what = f"caught: accuracy lower by 0.05 in a tenth of {rows} rows"
        rate(what, pairs, lambda: refused_for_a_group(compared("accuracy_score", hurt_pair(rows, 0.05, generator))))  # noqa: B023


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
