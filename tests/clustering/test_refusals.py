"""A run that ends in a refusal is FAILED and says why; which values are refused, and how, tests/quick tells."""

from __future__ import annotations

import pytest
from running import COLLECTION, Store

CLUSTERING = COLLECTION / "clustering"


@pytest.mark.parametrize(
    ("entry_point", "parameters", "message"),
    [
        ("main", {"columns": "tenure,contract"}, "'contract' holds text: give -P categories=onehot"),
        ("predict", {"model_uri": "models:/nobody/1"}, "Registered Model with name=nobody not found"),
    ],
)
def test_a_refused_run_is_failed_and_says_why(
    entry_point: str, parameters: dict[str, object], message: str, store: Store
) -> None:
    outcome = store.mlflow_run(CLUSTERING, entry_point, parameters)
    assert outcome.code != 0
    assert message in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.error
    assert outcome.run.data.tags["error"] == outcome.error
    assert not store.children(outcome.run)


def test_an_elbow_that_does_not_exist_fails_the_parent_alone(store: Store) -> None:
    outcome = store.mlflow_run(CLUSTERING, parameters={"k_max": 3, "choose": "elbow"})
    assert outcome.code != 0
    assert "'elbow' finds no elbow from k_min=2 to k_max=3: choose by another criterion." in outcome.error
    assert outcome.run.info.status == "FAILED"
    assert [child.info.status for child in store.children(outcome.run)] == ["FINISHED", "FINISHED"]
