"""What is fitted is what scikit-learn finds on the same numbers, on whichever engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import COLLECTION, module
from sklearn.cluster import KMeans
from sklearn.impute import SimpleImputer
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.preprocessing import StandardScaler

features = module("clustering", "features")
kmeans = module("clustering", "kmeans")

CUSTOMERS = COLLECTION / "clustering" / "data" / "customers.csv"
MEASURED = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]

Fitted = Callable[..., tuple[Any, Any]]


def overlapping(rows: int = 30_000) -> pd.DataFrame:
    """Groups of unequal size, sorted by a column: the first batches are like no others."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 4)) * 2
    group = generator.choice(6, size=rows, p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    values = centres[group] + generator.normal(size=(rows, 4))
    return pd.DataFrame(values, columns=["a", "b", "c", "d"]).sort_values("a", ignore_index=True)


def test_text_logarithms_and_missing_values_are_prepared_as_by_hand(fitted: Fitted, penguins: Path) -> None:
    frame = pd.read_csv(penguins)
    table, clustering = fitted(
        frame,
        3,
        columns="",
        drop="year",
        profile="species,sex",
        log_columns="body_mass_g",
        categories="onehot",
        missing="impute",
        algorithm="elkan",
    )
    measures = pd.DataFrame(SimpleImputer(strategy="median").fit_transform(frame[MEASURED]), columns=MEASURED)
    measures["body_mass_g"] = np.log1p(measures["body_mass_g"])
    Z = np.hstack([StandardScaler().fit_transform(measures), pd.get_dummies(frame["island"])])
    by_hand = KMeans(n_clusters=3, n_init=10, random_state=0).fit(Z)
    assert clustering.metrics["inertia"] == pytest.approx(by_hand.inertia_, rel=1e-9)
    assert clustering.sizes == sorted(np.bincount(by_hand.labels_).tolist(), reverse=True)
    assert table.columns.described == ["species", "sex"]


def test_a_model_takes_missing_values_and_a_category_that_it_has_not_seen(fitted: Fitted, penguins: Path) -> None:
    _, clustering = fitted(
        pd.read_csv(penguins), 3, columns="bill_length_mm,island", categories="onehot", missing="impute"
    )
    rows = pd.DataFrame({"bill_length_mm": [46.1, np.nan], "island": ["Biscoe", "Atlantis"]})
    assert len(clustering.pipeline.predict(rows)) == 2


def test_metrics_on_a_sample_are_those_of_scikit_learn(fitted: Fitted) -> None:
    customers = pd.read_csv(CUSTOMERS)
    table, clustering = fitted(customers, 4, sample_size=1000, random_state=3)
    options = kmeans.Options("local", "lloyd", 10, 300, 1e-4, 100_000, 100_000, 1000, 3)
    [scored] = kmeans.score(table, [clustering], options)
    Z = StandardScaler().fit_transform(customers[["tenure", "monthly_charges"]].astype(float))
    labels = KMeans(n_clusters=4, n_init=10, random_state=3).fit_predict(Z)
    assert scored.metrics["silhouette"] == silhouette_score(Z, labels, sample_size=1000, random_state=3)
    assert scored.metrics["davies_bouldin"] == pytest.approx(davies_bouldin_score(Z, labels), rel=1e-9)
    assert scored.metrics["silhouette_rows"] == 1000
    assert scored.metrics["smallest_segment"] == np.bincount(labels).min()


@pytest.fixture
def minibatch(fitted: Fitted) -> tuple[pd.DataFrame, Any, Any]:
    frame = overlapping()
    return frame, *fitted(frame, 6, columns="", engine="minibatch", init_size=2000, batch_size=5000)


def test_minibatch_is_within_five_percent_of_k_means_and_has_the_metrics_of_all_rows(
    minibatch: tuple[pd.DataFrame, Any, Any],
) -> None:
    frame, table, clustering = minibatch
    Z, labels = clustering.pipeline[:-1].transform(frame), clustering.pipeline.predict(frame)
    centres = clustering.pipeline[-1].cluster_centers_
    full = KMeans(n_clusters=6, n_init=10, random_state=0).fit(Z)
    assert clustering.metrics["inertia"] <= 1.05 * full.inertia_
    assert clustering.metrics["inertia"] == pytest.approx(((Z - centres[labels]) ** 2).sum(), rel=1e-9)
    assert clustering.metrics["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(Z, labels), rel=1e-9)
    assert clustering.metrics["n_iter"] >= 2
    assert clustering.sizes == np.bincount(labels).tolist()
    assert (table.rows, len(table.frame)) == (30_000, 2000)


@pytest.mark.parametrize("engine", ["local", "minibatch"])
def test_no_row_of_the_table_is_farther_than_the_farthest(fitted: Fitted, engine: str) -> None:
    """Whatever the batches in which it is assigned, to the last digit, and outside the sample too."""
    frame = overlapping(3000).round(1)
    _, clustering = fitted(frame, 5, columns="", engine=engine, init_size=100, batch_size=700)
    for size in (1, 70, 1000, 3000):
        most = np.zeros(5)
        for start in range(0, 50 if size == 1 else 3000, size):
            Z = clustering.pipeline[:-1].transform(frame.iloc[start : start + size])
            labels, distances = kmeans.nearest(clustering.pipeline[-1], Z)
            np.maximum.at(most, labels, distances)
        assert (most <= clustering.farthest).all()
        if size > 1:
            assert most.tolist() == clustering.farthest


def test_a_mini_batch_has_batch_size_rows(fitted: Fitted) -> None:
    """Also where the table is small enough to stay in memory after its kinds were decided."""
    table, _ = fitted(overlapping(3000), 2, columns="", engine="minibatch", init_size=100, batch_size=700)
    assert [len(Z) for Z in features.batches(table, 700)] == [700, 700, 700, 700, 200]


def test_segments_are_numbered_by_size(fitted: Fitted) -> None:
    _, clustering = fitted(overlapping(3000), 6, columns="")
    assert clustering.sizes == sorted(clustering.sizes, reverse=True)
    assert np.bincount(clustering.labels).tolist() == clustering.sizes
