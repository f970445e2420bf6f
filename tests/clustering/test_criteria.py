"""The criteria where scikit-learn, or a reader, can tell what is right."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from running import COLLECTION
from sklearn.metrics import silhouette_samples


@pytest.fixture(scope="module")
def criteria() -> ModuleType:
    specification = importlib.util.spec_from_file_location("criteria", COLLECTION / "clustering" / "criteria.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_silhouettes_are_those_of_scikit_learn(criteria: ModuleType) -> None:
    generator = np.random.default_rng(0)
    Z = generator.normal(size=(700, 3)).round(1)
    Z[:50] = Z[0]  # the same point many times: distances of 0
    few, many = generator.integers(2, size=700), generator.integers(20, size=700)
    alone = np.where(np.arange(700) == 3, 2, few)  # a segment of one row
    together = (np.arange(700) >= 50).astype(int)
    labelings = [few, many, alone, together]
    for labels, values in zip(labelings, criteria.silhouettes(Z, labelings), strict=True):
        assert values == pytest.approx(silhouette_samples(Z, labels), abs=1e-9)


def test_silhouettes_of_one_segment_do_not_exist(criteria: ModuleType) -> None:
    [values] = criteria.silhouettes(np.random.default_rng(0).normal(size=(9, 2)), [np.zeros(9, dtype=int)])
    assert np.isnan(values).all()


def scores(silhouette: list[float], **others: list[float]) -> pd.DataFrame:
    constant = dict.fromkeys(("davies_bouldin", "calinski_harabasz", "inertia"), [1.0] * len(silhouette))
    return pd.DataFrame({"silhouette": silhouette, **constant, **others}, index=range(2, 2 + len(silhouette)))


def test_a_vote_goes_to_the_majority_and_a_tie_to_the_higher_silhouette(criteria: ModuleType) -> None:
    table = scores([0.2, 0.5, 0.4])
    assert criteria.vote({"a": 4, "b": 4, "c": 3, "d": None}, table) == 4
    assert criteria.vote({"a": 4, "b": 3, "c": 2, "d": 2}, table) == 2
    assert criteria.vote({"a": 4, "b": 4, "c": 3, "d": 3}, table) == 3


def test_a_straight_inertia_has_no_elbow(criteria: ModuleType) -> None:
    table = scores([0.5, 0.4, 0.3], inertia=[3.0, 2.0, 1.0])
    chosen = criteria.choices(table)
    assert chosen["elbow"] is None
    assert "the inertia has no elbow" in criteria.verdict(chosen, table)
