"""`reproduce` in a fresh environment, made by uv, and what it says when one holds other versions than the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from running import COLLECTION, Store


@pytest.fixture
def original(store: Store, foreign: Any, installed: dict[str, str]) -> Run:
    """A run of the foreign project with foreign-averages 1.0, which averages, in the environment of these tests."""
    outcome = store.mlflow_run(foreign.url, environment=installed)
    assert outcome.code == 0, outcome.output
    return outcome.run


def test_a_fresh_environment(
    original: Run, reproduce: Any, publish: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    """The foreign project asks for foreign-averages>=1, which is now nowhere but in the environments that are made."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    publish("1.0", wheels)
    environment = {
        "PYTHONPATH": "",
        "UV_FIND_LINKS": str(wheels),
        "UV_CONSTRAINT": str(COLLECTION / "requirements.txt"),  # so that models get versions that uv has at hand
        "MLFLOW_ENV_ROOT": str(tmp_path / "environments"),
    }
    found = reproduce(original, environment, env_manager="")
    assert found.outcome.code == 0, found.outcome.output
    assert found.report["environment"] == "uv, made for this run"
    # This project's own environment lacks the package, so the models predicted in an environment of their own.
    assert "1 signature, 1 prediction" in found.report["verdict"], found.outcome.output
    assert not (tmp_path / "environments").exists()  # those of this user


def test_a_changed_version(original: Run, reproduce: Any, publish: Callable[[str, Path], Path], tmp_path: Path) -> None:
    median = publish("1.1", tmp_path)  # takes it for the average
    found = reproduce(original, {"PYTHONPATH": str(median)})
    assert found.outcome.code == 1
    assert ("metric", "level") in found.differences
    assert "The versions are not the same: foreign-averages 1.0, now 1.1." in found.report["notes"]
    assert "data are not the same" not in str(found.report["reasons"])
    assert "\n- The versions are not the same: foreign-averages 1.0, now 1.1.\n" in found.outcome.output
