"""The criteria where scikit-learn, or a reader, can tell what is right."""

from __future__ import annotations

import click
import numpy as np
import pandas as pd
import pytest
from examples import module
from sklearn.metrics import silhouette_samples

criteria = module("clustering", "criteria")


def test_silhouettes_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    Z = generator.normal(size=(700, 3)).round(1)
    Z[:50] = Z[0]  # the same point many times: distances of 0
    few, many = generator.integers(2, size=700), generator.integers(20, size=700)
    alone = np.where(np.arange(700) == 3, 2, few)  # a segment of one row
    together = (np.arange(700) >= 50).astype(int)
    labelings = [few, many, alone, together]
    for labels, values in zip(labelings, criteria.silhouettes(Z, labelings), strict=True):
        assert values == pytest.approx(silhouette_samples(Z, labels), abs=1e-9)


def test_silhouettes_of_one_segment_do_not_exist() -> None:
    [values] = criteria.silhouettes(np.random.default_rng(0).normal(size=(9, 2)), [np.zeros(9, dtype=int)])
    assert np.isnan(values).all()


def scores(silhouette: list[float], **others: list[float]) -> pd.DataFrame:
    constant = dict.fromkeys(("davies_bouldin", "calinski_harabasz", "inertia"), [1.0] * len(silhouette))
    return pd.DataFrame({"silhouette": silhouette, **constant, **others}, index=range(2, 2 + len(silhouette)))


def test_each_criterion_has_its_own_way_of_being_better() -> None:
    table = scores(
        [0.2, 0.5, 0.4, 0.3],
        davies_bouldin=[3, 2, 1, 4],
        calinski_harabasz=[9, 8, 7, 6],
        inertia=[9, 2, 1.5, 1],
    )
    choice = criteria.decide(table, "davies_bouldin")
    assert choice.by_criterion == {"silhouette": 3, "davies_bouldin": 4, "calinski_harabasz": 2, "elbow": 3}
    assert choice.k == 4
    assert choice.verdict == (
        "The criteria disagree on the number of segments: 2 (calinski_harabasz), 3 (silhouette, elbow), "
        "4 (davies_bouldin)."
    )


def test_a_vote_goes_to_the_majority() -> None:
    table = scores([0.2, 0.5, 0.4], davies_bouldin=[2, 2, 1], calinski_harabasz=[1, 2, 3], inertia=[9, 5, 1])
    assert criteria.decide(table, "vote").k == 4


def test_a_tied_vote_goes_to_the_higher_silhouette() -> None:
    table = scores([0.2, 0.5, 0.4], davies_bouldin=[3, 2, 1], calinski_harabasz=[3, 2, 1], inertia=[3, 2, 1])
    choice = criteria.decide(table, "vote")
    assert choice.by_criterion == {"silhouette": 3, "davies_bouldin": 4, "calinski_harabasz": 2, "elbow": None}
    assert choice.k == 3


def test_the_last_numbers_of_a_range_are_pointed_out() -> None:
    table = scores([0.1, 0.2, 0.3, 0.4, 0.5])
    assert "6 (silhouette; at the end of the range: the best may lie beyond)" in criteria.decide(table, "vote").verdict


def test_a_straight_inertia_has_no_elbow() -> None:
    table = scores([0.5, 0.4, 0.3], inertia=[3.0, 2.0, 1.0])
    choice = criteria.decide(table, "silhouette")
    assert choice.by_criterion["elbow"] is None
    assert "The inertia has no elbow." in choice.verdict
    with pytest.raises(click.BadParameter, match="finds no elbow from k_min=2 to k_max=4: choose by another criterion"):
        criteria.decide(table, "elbow")
