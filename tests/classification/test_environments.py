"""`mlflow run classification -P max_depth=5` in environments that MLflow makes itself, by uv and by conda."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conda_stand_in import install_conda, make_channel
from running import COLLECTION, Store

CLASSIFICATION = COLLECTION / "classification"
# Without the network, whose library takes longest to load: test_main.py has it in an environment of its own.
PARAMETERS = {"max_depth": 5, "models": "decision_tree,gaussian_nb"}


def test_uv_manager(store: Store, tmp_path: Path) -> None:
    made = {"MLFLOW_ENV_ROOT": str(tmp_path / "environments")}
    outcome = store.mlflow_run(CLASSIFICATION, "main", PARAMETERS, env_manager="uv", environment=made)
    assert outcome.code == 0, outcome.output
    assert outcome.run.info.status == "FINISHED"
    assert outcome.run.data.metrics["best_roc_auc"] >= 0.83
    assert list((tmp_path / "environments").iterdir())


def test_conda_manager_is_the_default(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("conda")
    home = install_conda(folder, make_channel(folder))
    known = {"MLFLOW_CONDA_HOME": str(home), "PIP_NO_COMPILE": "1"}  # the environment is used once
    outcome = store.mlflow_run(CLASSIFICATION, "main", PARAMETERS, env_manager=None, environment=known)
    assert outcome.code == 0, outcome.output
    assert "conda activate" in outcome.output
    assert outcome.run.info.status == "FINISHED"
    assert outcome.run.data.metrics["best_roc_auc"] >= 0.83


def test_regenerating_the_bundled_table_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_churn.py"
    script.write_bytes((CLASSIFICATION / "data" / "make_churn.py").read_bytes())
    subprocess.run([sys.executable, script], check=True, env=dict(os.environ))
    assert (tmp_path / "churn.csv").read_bytes() == (CLASSIFICATION / "data" / "churn.csv").read_bytes()
