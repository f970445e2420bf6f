"""`reproduce` in a fresh environment, made by uv, and what it says when that holds other versions than the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from running import COLLECTION, Store


def test_a_fresh_environment_and_a_changed_pin(
    store: Store, foreign: Any, reproduce: Any, publish: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    """The foreign project asks for foreign-averages>=1, which is nowhere but in its environments."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    publish("1.0", wheels)
    environment = {
        "PYTHONPATH": "",
        "UV_FIND_LINKS": str(wheels),
        "UV_CONSTRAINT": str(COLLECTION / "requirements.txt"),  # so that models get versions that uv has at hand
        "UV_COMPILE_BYTECODE": "0",  # as `reproduce` does: each environment is used once
        "MLFLOW_ENV_ROOT": str(tmp_path / "environments"),
    }
    outcome = store.mlflow_run(foreign.url, "main", env_manager="uv", environment=environment)
    assert outcome.code == 0, outcome.output
    original = outcome.run

    found = reproduce(original, environment, env_manager="")
    assert found.outcome.code == 0, found.outcome.output
    assert found.report["environment"] == "uv, made for this run"
    # This project's own environment lacks the package, so the models predicted in an environment of their own.
    assert "1 signature, 1 prediction" in found.report["verdict"], found.outcome.output
    assert len(list((tmp_path / "environments").glob("*"))) == 1

    publish("1.1", wheels)  # takes the median for the average
    found = reproduce(original, environment, env_manager="")
    assert found.outcome.code == 1
    assert {("metric", "level"), ("prediction", "level")} <= found.differences
    assert "The versions are not the same: foreign-averages 1.0, now 1.1." in found.report["notes"]
    assert "data are not the same" not in str(found.report["reasons"])
    assert "\n- The versions are not the same: foreign-averages 1.0, now 1.1.\n" in found.outcome.output
