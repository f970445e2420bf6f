"""What must not be learnt from, what asks for a retraining, and that the same rows are decided on once."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from examples import module

checks: Any = module("watch", "checks")
once: Any = module("watch", "once")
retrain: Any = module("watch", "retrain")
truth: Any = module("watch", "truth")
GENERATOR = np.random.default_rng(0)
ROWS = 400
HALVES = np.array([0.5, 0.5])  # the share of each class in training
SERVED = SimpleNamespace(columns=["x", "c"], kind=lambda name: "number" if name == "x" else "category")


def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"x": GENERATOR.lognormal(3, size=rows), "c": GENERATOR.choice(["a", "b", "c"], size=rows)})


def times(rows: int) -> pd.Series:
    return pd.Series(pd.date_range(datetime(2026, 3, 2, tzinfo=UTC), periods=rows, freq="1h"))


def wrong(new: pd.DataFrame) -> list[str]:
    return list(checks.broken_features(SERVED, SimpleNamespace(X=table(2000)), new, times(len(new))))


def test_sound_data_and_a_true_shift_are_no_broken_data() -> None:
    new = table(ROWS)
    assert wrong(new) == []
    assert wrong(new.assign(x=new["x"] + new["x"].std() / 2)) == []


@pytest.mark.parametrize("factor", [100, 1 / 100, 12, 1 / 12])
def test_another_unit_in_one_week_is_broken_data(factor: float) -> None:
    new = table(ROWS)
    new.loc[168:335, "x"] *= factor  # the second of three weeks
    [told] = wrong(new)
    assert told.startswith("column 'x' in the ")
    assert "as in another unit" in told


def test_a_renamed_category_and_one_that_has_disappeared_are_broken_data() -> None:
    new = table(ROWS)
    [told] = wrong(new.assign(c=new["c"].replace("a", "A")))
    assert "'A' in 3" in told
    [told] = wrong(new.assign(c=new["c"].replace("a", "b")))
    assert "'a' has disappeared" in told
    [told] = wrong(new.assign(c=None))
    assert "100% are missing, 0% in training" in told


def answers(truths: np.ndarray, chances: np.ndarray) -> Any:
    both = np.c_[1 - chances, chances]
    return truth.Answered(["No", "Yes"], truths, both.argmax(axis=1), both, [1])


def test_labels_on_which_the_champion_is_no_better_than_chance_are_broken() -> None:
    truths = GENERATOR.integers(2, size=ROWS)
    chances = np.clip(0.3 + 0.4 * truths + GENERATOR.normal(0, 0.2, size=ROWS), 0.01, 0.99)
    assert checks.broken_labels(answers(truths, chances), times(ROWS), HALVES) == []
    [told] = checks.broken_labels(answers(GENERATOR.permutation(truths), chances), times(ROWS), HALVES)
    assert "no better than chance" in told
    part = truths.copy()
    part[168:336] = GENERATOR.permutation(part[168:336])  # one week of three
    [told] = checks.broken_labels(answers(part, chances), times(ROWS), HALVES)
    assert "in the week from 2026-03-09" in told


def test_labels_of_which_a_class_is_lacking_in_a_week_are_broken() -> None:
    """Those who left are known late, say: until then all labels are of those who stayed."""
    truths = np.array([0, 1] * (ROWS // 2))
    chances = 0.2 + 0.6 * truths
    truths[168:336] = 0
    [told] = checks.broken_labels(answers(truths, chances), times(ROWS), HALVES)
    assert told == "labels in the week from 2026-03-09: none is 'Yes', 50% in training"


@pytest.mark.parametrize("stuck", [1.0, 0.5])
def test_a_number_that_many_rows_have_in_common_is_broken_data(stuck: float) -> None:
    """A stuck sensor, a default value, a limit: within the range of training, and not of another size."""
    new = table(ROWS)
    at = new.index < 168 + 168 * stuck
    [told] = wrong(new.assign(x=new["x"].where((new.index < 168) | ~at, 20.0)))
    assert "of its values are 20, 0% in training" in told


def test_metrics_without_probabilities_are_those_of_the_answers() -> None:
    truths = np.array([0, 1] * 40)
    given = truth.Answered(["No", "Yes"], truths, np.where(np.arange(80) < 20, 1 - truths, truths), None, [1])
    metrics = given.metrics()
    assert "roc_auc" not in metrics
    value, low, high = metrics["accuracy"]
    assert value == 0.75
    assert low < 0.75 < high


def test_a_worse_version_is_told_from_an_equal_one() -> None:
    truths = GENERATOR.integers(2, size=600)
    good = np.clip(0.2 + 0.6 * truths + GENERATOR.normal(0, 0.2, size=600), 0.01, 0.99)
    bad = np.clip(0.4 + 0.1 * truths + GENERATOR.normal(0, 0.2, size=600), 0.01, 0.99)
    _, _, high = truth.difference(answers(truths, bad), answers(truths, good), "roc_auc")
    assert high < 0
    value, low, high = truth.difference(answers(truths, good), answers(truths, good), "log_loss")
    assert low < 0 < high
    assert value == 0


def test_what_asks_for_a_retraining_is_read() -> None:
    assert retrain.parse_when("roc_auc < 0.8") == ("roc_auc", "<", 0.8)
    with pytest.raises(click.BadParameter, match="is none of drift, always, or a bound for a metric"):
        retrain.parse_when("monday")


def labelled(truths: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"request_id": "a", "row": range(len(truths)), "truth": truths, "inputs": [{"x": 1.0}] * len(truths)}
    )


def test_the_same_rows_have_one_key_in_any_order_and_others_another() -> None:
    rows = labelled(["Yes", "No"])
    key = once.key_of("churn", rows)
    assert once.key_of("churn", rows[::-1]) == key
    assert once.key_of("other", rows) != key
    assert once.key_of("churn", labelled(["Yes", "Yes"])) != key
    assert once.key_of("churn", rows.assign(inputs=rows["inputs"].map(str).str.replace("1", "2"))) != key  # put right


def test_numbers_far_from_those_of_training_are_broken_data() -> None:
    known, new = (table(rows).assign(x=GENERATOR.uniform(0, 100, rows)) for rows in (2000, ROWS))
    [told] = checks.broken_features(SERVED, SimpleNamespace(X=known), new.assign(x=-new["x"]), times(ROWS))
    assert "are far from those of training, 0." in told
    assert checks.broken_features(SERVED, SimpleNamespace(X=known), new.assign(x=new["x"] + 40), times(ROWS)) == []


def test_rows_that_repeat_others_count_once_unless_training_rows_do_too() -> None:
    rows = pd.DataFrame({"inputs": [{"x": 1.0}, {"x": 1.0}, {"x": 2.0}], "truth": ["Yes", "Yes", "Yes"]})
    few, many = table(100), pd.DataFrame({"c": ["a", "b"] * 50})
    assert retrain.once_each(rows, SimpleNamespace(X=few))["inputs"].tolist() == [{"x": 1.0}, {"x": 2.0}]
    assert len(retrain.once_each(rows, SimpleNamespace(X=many))) == 3


def test_a_column_that_is_moved_by_a_row_is_broken_data_and_one_that_goes_along_with_none_is_not() -> None:
    known, new = (
        table(rows).assign(y=lambda rows: rows["x"] + GENERATOR.normal(size=len(rows))) for rows in (2000, ROWS)
    )
    served = SimpleNamespace(columns=["x", "y", "c"], kind=lambda name: "category" if name == "c" else "number")
    for name, expected in (("", []), ("c", []), ("y", ["'x'", "'y'"])):
        moved = new.assign(**{name: np.roll(new[name], 1)}) if name else new
        told = checks.broken_features(served, SimpleNamespace(X=known), moved, times(ROWS))
        assert [each.split()[1] for each in told] == expected
        assert all("it has nothing to do with" in each for each in told)
