"""`algorithm=minibatch` reads the table in batches and finds segments as good as those of K-Means on the whole."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Store, datasets
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score

CLUSTERING = COLLECTION / "clustering"
ROWS = 30_000


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Overlapping groups of unequal size, sorted by a column: the first batches are like no others."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 4)) * 2
    group = generator.choice(6, size=ROWS, p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    values = centres[group] + generator.normal(size=(ROWS, 4))
    frame = pd.DataFrame(values, columns=["a", "b", "c", "d"]).assign(kind=np.array(list("uvwxyz"))[group])
    path = tmp_path_factory.mktemp("minibatch") / "table.parquet"
    frame.sort_values("a").to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def parent(store: Store, table: Path) -> Run:
    parameters = {
        **{"data": table, "columns": "a,b,c,d", "algorithm": "minibatch", "k_min": 4, "k_max": 7},
        **{"init_size": 2000, "batch_size": 5000, "sample_size": 1000},
    }
    outcome = store.mlflow_run(CLUSTERING, parameters=parameters)
    assert outcome.code == 0, outcome.output
    return outcome.run


@pytest.fixture(scope="module")
def child(store: Store, parent: Run) -> Run:
    return next(run for run in store.children(parent) if run.data.params["n_clusters"] == "6")


def test_inertia_is_within_five_percent_of_full_k_means(store: Store, child: Run, table: Path) -> None:
    X = pd.read_parquet(table)[["a", "b", "c", "d"]]
    model = mlflow.sklearn.load_model(store.model(child).artifact_location)
    Z = model[:-1].transform(X)
    full = KMeans(n_clusters=6, n_init=10, random_state=0).fit(Z)
    assert child.data.metrics["inertia"] <= 1.05 * full.inertia_
    assert child.data.params["algorithm"] == "minibatch"
    assert child.data.metrics["n_iter"] >= 2


def test_metrics_are_those_of_all_rows(store: Store, child: Run, table: Path) -> None:
    X = pd.read_parquet(table)[["a", "b", "c", "d"]]
    model = mlflow.sklearn.load_model(store.model(child).artifact_location)
    Z, labels = model[:-1].transform(X), model.predict(X)
    inertia = (np.linalg.norm(Z - model[-1].cluster_centers_[labels], axis=1) ** 2).sum()
    assert child.data.metrics["inertia"] == pytest.approx(inertia, rel=1e-9)
    assert child.data.metrics["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(Z, labels), rel=1e-9)
    assert json.loads(child.data.tags["sizes"]) == np.bincount(labels).tolist()
    assert child.data.metrics["rows"] == ROWS
    assert child.data.metrics["silhouette_rows"] == 1000


def test_profile_says_that_it_is_one_of_a_sample(store: Store, parent: Run) -> None:
    text = store.artifact(parent, "segments.md").read_text()
    assert "Means and shares are those of a sample of 2,000 rows." in text
    profile = pd.read_csv(store.artifact(parent, "profile.csv"))
    assert profile["size"].iloc[-1] == ROWS
    assert "share kind = u" in profile


def test_dataset_is_an_input_with_source_and_digest(parent: Run, table: Path) -> None:
    [dataset] = datasets(parent)
    assert json.loads(str(dataset.source))["uri"] == str(table)
    assert len(dataset.digest) == 8
