"""Runs of the clustering example that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow.entities import Run
from running import COLLECTION, Store
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """On small tables scikit-learn's threads wait for each other longer than they work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def segmented(store: Store) -> Run:
    """The bundled customers in four segments."""
    outcome = store.mlflow_run(COLLECTION / "clustering", "kmeans")
    assert outcome.code == 0, outcome.output
    return outcome.run
