"""Bad input ends with one line that names parameter, value and what would be right, and with exit code 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from mlflow.entities import Run
from running import COLLECTION, PATIENCE, Store, wait_until

CLASSIFICATION = COLLECTION / "classification"


MODELS = [
    ("runs:/0123456789abcdef0123456789abcdef/model", "Run with id=0123456789abcdef0123456789abcdef not found"),
    ("models:/nobody/1", "Registered Model with name=nobody not found"),
    ("/nowhere", ""),
]


def test_predict_refuses_a_model_that_cannot_be_loaded(store: Store) -> None:
    before = len(store.client.search_runs(["0"]))
    commands = [("predict", "predict", ["--model_uri", uri]) for uri, _ in MODELS]
    for (uri, reason), outcome in zip(MODELS, store.run_several(CLASSIFICATION, commands), strict=True):
        assert outcome.code == 2
        start = f"Invalid value for '--model_uri': '{uri}' cannot be loaded: {reason}"
        assert outcome.error.startswith(start)
    assert len(store.client.search_runs(["0"])) == before


def test_a_relative_store_is_refused_before_it_makes_a_second_database(store: Store) -> None:
    outcome = store.mlflow_run(CLASSIFICATION, "knn", environment={"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"})
    assert outcome.code != 0
    assert "MLFLOW_TRACKING_URI=sqlite:///mlflow.db is relative" in outcome.error
    assert not (CLASSIFICATION / "mlflow.db").exists()


def test_ctrl_c_leaves_no_run_running(store: Store) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "run", str(CLASSIFICATION), "--env-manager", "local"),
            *("--experiment-name", "interrupted", "-P", "models=gaussian_nb,svm,ann"),
        ],
        cwd=store.folder,
        env=store.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a process group of its own, as a terminal makes one
    )

    def finished() -> list[Run]:
        experiment = store.client.get_experiment_by_name("interrupted")
        found = [experiment.experiment_id] if experiment else []
        return list(store.client.search_runs(found, "attributes.status = 'FINISHED'")) if found else []

    wait_until(finished)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(PATIENCE)

    runs = store.client.search_runs([finished()[0].info.experiment_id])
    assert len(runs) >= 2
    assert process.returncode != 0
    statuses = {run.data.tags["mlflow.runName"]: run.info.status for run in runs}
    assert statuses["gaussian_nb"] == "FINISHED"
    assert set(statuses.values()) <= {"FINISHED", "FAILED", "KILLED"}
    assert [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags] != ["FINISHED"]
