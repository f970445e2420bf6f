"""The collection as a Git project: the commands that a newcomer types, from an empty folder, against a Git server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from running import Outcome, Store, metrics_without_times

MODELS = "ann,decision_tree,svm"  # a network, a plain estimator, one within another


@pytest.fixture(scope="module")
def classification(store: Store, collection: Any) -> Outcome:
    """`mlflow run <git-url>#classification -P max_depth=5 -v <sha>`, of three of the eight classifiers."""
    parameters = {"max_depth": 5, "models": MODELS}
    return store.mlflow_run(f"{collection.url}#classification", "main", parameters, "-v", collection.commit)


def test_classification_at_a_commit(classification: Outcome, store: Store, collection: Any) -> None:
    assert classification.code == 0, classification.output
    tags = classification.run.data.tags
    assert tags["mlflow.source.git.commit"] == collection.commit
    assert tags["mlflow.source.git.repoURL"] == collection.url
    assert tags["mlflow.source.git.dirty"] == "false"
    assert {run.info.run_name for run in store.children(classification.run)} == set(MODELS.split(","))


def test_each_of_the_classifiers_is_reproduced(classification: Outcome, store: Store, reproduce: Any) -> None:
    found = reproduce(classification.run)
    assert found.outcome.code == 0, found.outcome.output
    verdict = r"\nReproduced: what was compared is the same \(4 runs, .* 3 signatures, .* 3 predictions, 3 models"
    assert re.search(verdict, found.outcome.output)
    originals = {run.info.run_name: run for run in store.children(classification.run)}
    agains = {run.info.run_name: run for run in store.children(store.client.get_run(found.report["again"]))}
    assert originals.keys() == agains.keys() == set(MODELS.split(","))
    for name, original in originals.items():
        assert original.info.run_id != agains[name].info.run_id
        assert len(metrics_without_times(original)) > 10
        assert metrics_without_times(original) == metrics_without_times(agains[name])


def test_a_clustering_run_is_reproduced(collection: Any, store: Store, reproduce: Any) -> None:
    outcome = store.mlflow_run(f"{collection.url}#clustering", "main", {"k_min": 4, "k_max": 5}, "-v", "master")
    assert outcome.code == 0, outcome.output
    collection.repository.commit("The branch moves on")
    found = reproduce(outcome.run)
    assert found.outcome.code == 0, found.outcome.output
    assert found.report["verdict"].startswith("Reproduced: ")
