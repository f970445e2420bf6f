"""What a test of drift finds: the kind of each column, few rows, many columns; recomputed by scipy without our code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import module
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

measures: Any = module("watch", "measures")
GENERATOR = np.random.default_rng(0)


def texts(**counts: int) -> pd.Series:
    return pd.Series([name for name, count in counts.items() for _ in range(count)], dtype=object)


def test_numbers_are_compared_by_kolmogorov_smirnov() -> None:
    old, new = pd.Series(GENERATOR.normal(size=900)), pd.Series(GENERATOR.normal(0.2, size=300))
    [found] = measures.compare("x", "number", old, new)
    assert found.test == "Kolmogorov-Smirnov"
    assert found.p_value == pytest.approx(ks_2samp(old, new, method="asymp").pvalue)


def test_categories_and_numbers_with_few_values_are_compared_by_chi_squared() -> None:
    expected = chi2_contingency([[60, 40], [30, 70]], correction=False).pvalue
    [found] = measures.compare("x", "category", texts(a=60, b=40), texts(a=30, b=70))
    assert (found.test, found.p_value) == ("chi-squared", pytest.approx(expected))
    [found] = measures.compare("x", "number", pd.Series([0.0] * 60 + [1.0] * 40), pd.Series([0.0] * 30 + [1.0] * 70))
    assert (found.test, found.p_value) == ("chi-squared", pytest.approx(expected))
    assert (found.reference, found.window) == ("0 60.0%", "0 30.0%")


def test_two_categories_with_few_rows_are_compared_exactly() -> None:
    [found] = measures.compare("x", "category", texts(a=39, b=1), texts(a=18, b=4))
    assert (found.test, found.p_value) == ("Fisher", pytest.approx(fisher_exact([[39, 1], [18, 4]]).pvalue))


def test_rare_categories_are_merged_until_each_expects_enough() -> None:
    table = measures.merged(np.array([[1, 2, 50, 60], [1, 1, 40, 50]]))
    assert table.sum() == 205
    assert table.shape[1] == 2 or table.sum(axis=0).min() * table.sum(axis=1).min() / table.sum() >= 5


def test_missing_and_unseen_values_have_tests_of_their_own() -> None:
    old, new = texts(a=100, b=100), pd.concat([texts(a=50, c=30), pd.Series([None] * 20, dtype=object)])
    found = {each.column: each for each in measures.compare("x", "category", old, new)}
    assert found["x missing"].p_value == pytest.approx(fisher_exact([[0, 200], [20, 80]]).pvalue)
    assert found["x unseen"].p_value == pytest.approx(fisher_exact([[0, 200], [30, 50]]).pvalue)


def test_a_column_with_too_few_values_is_undecided_and_stays_so() -> None:
    found = measures.judge(measures.compare("x", "category", texts(a=100), texts(a=19)), 0.05)
    assert [each.verdict for each in found] == ["undecided"]


def test_many_tests_are_corrected_by_benjamini_and_hochberg() -> None:
    tests = [measures.Compared(f"x{place}", "t", "", "", p) for place, p in enumerate([0.01, 0.02, 0.04, 0.5])]
    judged = measures.judge(tests, 0.05)
    assert [each.adjusted for each in judged] == pytest.approx([0.04, 0.04, 0.16 / 3, 0.5])
    assert [each.verdict for each in judged] == ["drift", "drift", "none", "none"]


def test_few_rows_are_never_no_drift() -> None:
    for values, p_value, verdict in [(199, 0.5, "undecided"), (200, 0.5, "none"), (50, 1e-9, "drift")]:
        judged = measures.judge([measures.Compared("x", "t", "", "", p_value, values=values)], 0.05, 200)
        assert measures.verdict_of(judged) == verdict
    assert measures.verdict_of([]) == "undecided"  # nothing was compared


def test_the_stability_index_is_the_one_of_the_textbook() -> None:
    old, new = np.array([100, 200, 300]) - 0.5, np.array([300, 200, 100]) - 0.5
    shares = [np.array(each) / 600 for each in ([100, 200, 300], [300, 200, 100])]
    expected = sum((n - o) * np.log(n / o) for o, n in zip(*shares, strict=True))
    assert measures.stability_index(old, new) == pytest.approx(expected)


def test_categories_of_which_some_are_always_new_are_no_drift() -> None:
    """Free text, identifiers: in training too, most values stand in one row only."""
    values = pd.Series([f"text {GENERATOR.integers(2000)}" for _ in range(2400)])
    found = measures.judge(measures.compare("x", "category", values[:2000], values[2000:]), 0.05)
    assert "x unseen" in {each.column for each in found}
    assert {each.verdict for each in found} == {"none"}


def test_large_codes_and_whole_numbers_in_every_form_are_told_apart_by_their_value() -> None:
    old, new = pd.Series([1234567.0, 1234568.0] * 100), pd.Series(["1234567"] * 200, dtype=object)
    found = {each.column: each for each in measures.compare("x", "number", old, new)}
    assert set(found) == {"x"}  # nothing unseen
    assert found["x"].p_value < 1e-9
