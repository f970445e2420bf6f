"""How often watch/ is mistaken: `python benchmarks/report.py watch unforeseen` (some fifteen minutes).

Every simulation draws its reference and its windows from the bundled table without replacement, so that in a quiet
month both are samples of the same customers. Rates with 95 % intervals (Clopper and Pearson, Biometrika 26, 1934); the
one of false alarms by months, as the windows of a month share one reference.

1. Quiet months: in how many weekly windows of 500 rows is drift found, all columns and the predictions compared?
2. A shift in one column, half a standard deviation or ten points of a category: is it found in that column within two
   windows?
3. A month of broken data, of three kinds: does a model that is trained on it become champion? And the reverse: is a
   true change taken for broken data, and does the model that learns it become champion?
4. The same for six kinds of broken data that were chosen after the first checks, and for which two more were added; and
   for six that were chosen after those, for which nothing was changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

COLLECTION = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(COLLECTION), str(COLLECTION / "tests")]

from examples import module  # noqa: E402

from support.kinds import Kind  # noqa: E402

measures: Any = module("watch", "measures")
checks: Any = module("watch", "checks")
truth: Any = module("watch", "truth")
year: Any = module("watch", "year")
retrain: Any = module("watch", "retrain")
gate: Any = module("registry_deploy", "gate")
features: Any = module("classification", "features")
classifiers: Any = module("classification", "classifiers")

FORESEEN = ("unit", "renamed", "shuffled")
MENDED = ("misaligned", "default", "sign", "swapped", "lost", "duplicated")
UNFORESEEN = ("clipped", "stale", "filled", "outlying", "gained", "selected")
TARGET, ALPHA = "churn", 0.05
MONTHS, SHIFTS, WINDOW = 200, 200, 500
YEARS, UNFORESEEN_YEARS = 50, 40  # of each kind
TABLE = year.customers(COLLECTION / "classification" / "data" / "churn.csv")
KINDS = {name: Kind("number" if TABLE[name].dtype == "float64" else "category") for name in TABLE if name != TARGET}
SERVED = SimpleNamespace(columns=list(KINDS), kind=lambda name: KINDS[name].kind)


def fitted(rows: pd.DataFrame, name: str) -> Any:
    """A classifier of the first example, fitted on rows."""
    classifier = classifiers.build(name, classifiers.CLASSIFIERS[name].defaults, 0)
    return features.with_preprocessing(classifier, KINDS).fit(rows[list(KINDS)], rows[TARGET])


def drifted(reference: pd.DataFrame, answers: pd.Series, window: pd.DataFrame, said: pd.Series) -> list[str]:
    """The columns of a window in which drift is found. answers, said: the predictions of both sides."""
    found = [each for name in KINDS for each in measures.compare(name, KINDS[name].kind, reference[name], window[name])]
    found += measures.compare("prediction", "category", answers, said)
    return [each.column for each in measures.judge(found, ALPHA) if each.verdict == measures.DRIFT]


def quiet_month(generator: np.random.Generator, shift: bool) -> list[bool]:
    """In which windows of 500 rows drift is found; with a shift, in which of two it is found in the shifted column."""
    rows = TABLE.iloc[generator.permutation(len(TABLE))].reset_index(drop=True)
    learnt, held_out, rest = rows[:3750], rows[3750:5000], rows[5000:]
    model = fitted(learnt, "decision_tree")
    answers, found = pd.Series(model.predict(held_out[list(KINDS)])), []
    column = str(generator.choice(list(KINDS)))
    for start in range(0, 2 * WINDOW if shift else 4 * WINDOW, WINDOW):
        window = rest[start : start + WINDOW].copy()
        if shift:
            window[column] = shifted(window[column], learnt[column], generator)
        names = drifted(learnt, answers, window, pd.Series(model.predict(window[list(KINDS)])))
        found.append(column in names if shift else bool(names))
    return found


def shifted(values: pd.Series, known: pd.Series, generator: np.random.Generator) -> pd.Series:
    """Values half a standard deviation higher; of a category, ten points of all rows more have one of its values."""
    if pd.api.types.is_float_dtype(values) and known.nunique() > measures.FEW_VALUES:
        return values + known.std() / 2
    shares = known.value_counts(normalize=True)
    more = generator.choice(shares.index[shares < 0.85].to_numpy())
    others = values.index[values != more]
    values = values.copy()
    values[generator.choice(others, size=len(values) // 10, replace=False)] = more
    return values


def retrained(champion: Any, months: list[pd.DataFrame], learnt: pd.DataFrame, held_out: pd.DataFrame) -> Any:
    """A retraining on months of new rows: whether they are called broken, and whether the gate promotes the model.

    The gate judges either way: it alone must not let broken data through where the checks see nothing.
    """
    new = pd.concat(months, ignore_index=True)
    spread = timedelta(days=28 * len(months)) / len(new)
    reference = SimpleNamespace(X=learnt[list(KINDS)])
    labelled = pd.DataFrame({"inputs": new[list(KINDS)].to_dict("records"), "truth": new[TARGET], "place": new.index})
    places = retrain.once_each(labelled, reference)["place"]
    new, times = new.loc[places].reset_index(drop=True), datetime(2026, 1, 5, tzinfo=UTC) + spread * places
    given = answered(champion, new)
    known = learnt[TARGET].value_counts(normalize=True)[given.classes].to_numpy()
    wrong = checks.broken_features(SERVED, reference, new[list(KINDS)], times)
    wrong = wrong or checks.broken_labels(given, times, known)
    newest = np.arange(len(new)) >= 0.7 * (len(new) - 1)
    # Its project keeps a quarter for its own test.
    candidate = fitted(pd.concat([learnt, new[~newest]]).sample(frac=0.75, random_state=0), "hist_gradient_boosting")
    trusted = held_out.sample(min(len(held_out), int(newest.sum())), random_state=0)
    return bool(wrong), passes(candidate, champion, trusted, new[newest])


def answered(model: Any, rows: pd.DataFrame) -> Any:
    """What a model says to labelled rows."""
    chances, classes = model.predict_proba(rows[list(KINDS)]), list(model.classes_)
    known = rows[TARGET].map(classes.index).to_numpy(dtype=int)
    return truth.Answered(classes, known, chances.argmax(axis=1), chances, [1])


def passes(candidate: Any, champion: Any, trusted: pd.DataFrame, new: pd.DataFrame) -> bool:
    """The verdict of the gate as `retrain` asks for it: better, and not worse on trusted or on new rows."""
    rows = pd.concat([trusted, new])
    member = np.arange(len(rows)) < len(trusted)
    sides = []
    for model in (candidate, champion):
        chances = model.predict_proba(rows[list(KINDS)])
        sides.append(gate.Answers(model.predict(rows[list(KINDS)]).tolist(), list(model.classes_), chances.tolist()))
    models = gate.Comparison("roc_auc", rows[TARGET].to_numpy(), *sides)
    checked = [gate.compared_row(models, 0.0)[0]]
    checked += gate.slice_rows(models, {"trusted": member, "new": ~member}, 0.01, 20)
    return bool(gate.verdict_of(checked) == gate.PASS)


def broken_later(rows: pd.DataFrame, kind: str, generator: np.random.Generator) -> pd.DataFrame:
    """Broken data of one of the kinds UNFORESEEN."""
    rows = rows.copy()
    number = str(generator.choice([name for name in KINDS if rows[name].nunique() > measures.FEW_VALUES]))
    name, half = str(generator.choice(list(KINDS))), generator.random(len(rows)) < 0.5
    if kind == "clipped":  # what is above the middle is recorded as the middle
        rows[number] = rows[number].clip(upper=rows[number].median())
    elif kind == "stale":  # half of the values are those of the row before
        rows[name] = np.where(half, rows[name].shift(1, fill_value=rows[name].iloc[0]), rows[name])
    elif kind == "filled":  # half of the values are the commonest one
        rows[name] = np.where(half, rows[name].mode()[0], rows[name])
    elif kind == "outlying":  # 3 % are 100 times as large: fewer than the checks take for broken
        rows[number] *= np.where(generator.random(len(rows)) < 0.03, 100, 1)
    elif kind == "gained":  # half of the customers who stayed are labelled as if they had left
        rows[TARGET] = np.where(half, "Yes", rows[TARGET])
    elif kind == "selected":  # labels of those who left come first: half of the others have none yet
        rows = rows[half | (rows[TARGET] == "Yes")]
    return rows


def broken_otherwise(rows: pd.DataFrame, kind: str, generator: np.random.Generator) -> pd.DataFrame:
    """Broken data of one of the kinds MENDED."""
    rows = rows.copy()
    numbers = [name for name in KINDS if rows[name].nunique() > measures.FEW_VALUES]
    name = str(generator.choice(numbers))
    if kind == "misaligned":  # one column's values, of any type, against the others
        name = str(generator.choice(list(KINDS)))
        rows[name] = np.roll(rows[name].to_numpy(), 1)
    elif kind == "default":
        rows[name] = float(generator.choice([0, -1]))
    elif kind == "sign":
        rows[name] = -rows[name]
    elif kind == "swapped":
        alike = numbers if generator.random() < 0.5 else [each for each in KINDS if rows[each].dtype == object]
        one, other = map(str, generator.choice(alike, size=2, replace=False))
        rows[[one, other]] = rows[[other, one]].to_numpy()
    elif kind == "lost":  # half of the customers who left are labelled as if they had stayed
        left = rows.index[rows[TARGET] == "Yes"]
        rows.loc[generator.choice(left, size=len(left) // 2, replace=False), TARGET] = "No"
    elif kind == "duplicated":  # a tenth of the rows makes up more than half, under new ids
        again = rows.sample(len(rows) // 10, random_state=int(generator.integers(2**32)))
        rows = pd.concat([rows, *[again] * 12]).sample(frac=1, random_state=int(generator.integers(2**32)))
    return rows


def a_year(kind: str, generator: np.random.Generator) -> dict[str, int]:
    """Retrain in the two months whose window holds a broken month; or, of a true change, once after two months."""
    rows = TABLE.iloc[generator.permutation(len(TABLE))].reset_index(drop=True)
    learnt, held_out, rest = rows[:1650], rows[1650:2200], rows[2200:]
    months = [rest[400 * month : 400 * (month + 1)].copy() for month in range(12)]
    when = int(generator.integers(3, 10))
    if kind == "true change":
        windows = [[year.changed(month, generator) for month in months[when : when + 2]]]
    elif kind == "quiet":
        windows = [months[when : when + 2]]
    else:
        breaks = {**dict.fromkeys(MENDED, broken_otherwise), **dict.fromkeys(UNFORESEEN, broken_later)}
        broken = breaks.get(kind, year.broken)(months[when], kind, generator)
        windows = [[months[when - 1], broken], [broken, months[when + 1]]]
    champion = fitted(learnt, "hist_gradient_boosting")
    outcomes = [retrained(champion, each, learnt, held_out) for each in windows]
    return {
        "retrainings": len(outcomes),
        "called_broken": sum(wrong for wrong, _ in outcomes),
        "passed_by_the_gate_alone": sum(good for _, good in outcomes),
        "became_champion": sum(good and not wrong for wrong, good in outcomes),
    }


def rate(count: int, total: int) -> dict[str, float]:
    """A rate with its 95 % interval."""
    interval = binomtest(count, total).proportion_ci()
    return {"count": count, "of": total, "rate": count / total, "low": interval.low, "high": interval.high}


def rate_by_month(found: np.ndarray, generator: np.random.Generator) -> dict[str, float]:
    """The rate over all windows (months, windows), its interval from resamples of whole months."""
    drawn = found[generator.integers(len(found), size=(10_000, len(found)))].mean(axis=(1, 2))
    low, high = (float(bound) for bound in np.quantile(drawn, [0.025, 0.975]))
    return {"count": int(found.sum()), "of": found.size, "rate": float(found.mean()), "low": low, "high": high}


def retrainings(
    kinds: Iterable[str], years: int, generator: np.random.Generator
) -> dict[str, dict[str, dict[str, float]]]:
    """For each kind of year the rates of what became of its retrainings."""
    found = {}
    for kind in kinds:
        counted = pd.DataFrame([a_year(kind, generator) for _ in range(years)]).sum()
        total = int(counted.pop("retrainings"))
        found[kind.replace(" ", "_")] = {str(name): rate(int(count), total) for name, count in counted.items()}
        print(kind, {name: each["count"] for name, each in found[kind.replace(" ", "_")].items()}, flush=True)
    return found


@threadpool_limits.wrap(limits=1)  # small tables: threads that wait for each other cost more than they do
def measure() -> dict[str, Any]:
    """False alarms, shifts found, and what becomes of retrainings on what the checks were made for."""
    generator = np.random.default_rng(0)
    quiet = np.array([quiet_month(generator, shift=False) for _ in range(MONTHS)])
    found: dict[str, Any] = {"false_alarms": rate_by_month(quiet, generator)}
    found["months_with_a_false_alarm"] = rate(int(quiet.any(axis=1).sum()), MONTHS)
    shifts = [quiet_month(generator, shift=True) for _ in range(SHIFTS)]
    found["shift_found_at_once"] = rate(sum(first for first, _ in shifts), SHIFTS)
    found["shift_found_in_two_windows"] = rate(sum(any(each) for each in shifts), SHIFTS)
    print(found, flush=True)
    return found | retrainings((*FORESEEN, "quiet", "true change"), YEARS, generator)


@threadpool_limits.wrap(limits=1)
def measure_unforeseen() -> dict[str, Any]:
    """What becomes of retrainings on broken data of kinds that were chosen after the first checks, and after all."""
    return retrainings((*MENDED, *UNFORESEEN), UNFORESEEN_YEARS, np.random.default_rng(1))
