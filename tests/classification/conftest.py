"""Runs of the classification example that several tests look at."""

from __future__ import annotations

import pytest
from mlflow.entities import Run
from running import COLLECTION, Store


@pytest.fixture(scope="session")
def tree(store: Store) -> Run:
    """A decision tree trained on the bundled table.

    In an experiment of its own: of tables that are equal to the byte, MLflow keeps the source that it met first there.
    """
    outcome = store.mlflow_run(COLLECTION / "classification", "decision_tree", None, "--experiment-name", "a tree")
    assert outcome.code == 0, outcome.output
    return outcome.run
