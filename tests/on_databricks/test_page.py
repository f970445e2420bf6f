"""The page of `on_databricks/`, typed to the letter by a newcomer with two terminals and no account."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import RunResultState, RunState
from git_server import copy_collection
from mlflow import MlflowClient
from pages import steps
from running import PATIENCE, wait_until


def typed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def installed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Install the backend into an environment of its own; returns the name that MLflow finds there."""
    venv = folder / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    # Its packages are in the environment of this test already.
    alone = {**environment, "VIRTUAL_ENV": str(venv)}
    typed(f"{command} --no-deps", folder, alone)
    asked = "from importlib.metadata import entry_points; print(*entry_points(group='mlflow.project_backend').names)"
    return typed(f'{venv}/bin/python -c "{asked}"', folder, alone).strip()


def states(environment: dict[str, str]) -> list[RunState]:
    """The states of all jobs of the workspace."""
    client = WorkspaceClient(host=environment["DATABRICKS_HOST"], token=environment["DATABRICKS_TOKEN"])
    return [run.state for run in client.jobs.list_runs() if run.state]


def test_a_newcomer_without_an_account(tmp_path: Path) -> None:
    copy_collection(tmp_path)
    install, serve, *others = [step.command for step in steps(tmp_path / "on_databricks" / "README.md")]
    assert (install, serve) == ("uv pip install ./on_databricks", "python on_databricks/workspace/serve.py")
    assert len(others) == 5
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DATABRICKS_"))}
    terminal = {
        **kept,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
    }
    log = tmp_path / "serve.log"
    with log.open("w") as file:
        first = subprocess.Popen(serve.split(), cwd=tmp_path, env=terminal, stdout=file, stderr=subprocess.STDOUT)
    try:
        assert installed(install, tmp_path, terminal) == "databricks-jobs"
        wait_until(lambda: "Ctrl-C" in log.read_text() or first.poll() is not None)
        assert first.poll() is None, log.read_text()
        exports = dict(re.findall(r"^export (\w+)=(.*)$", log.read_text(), re.MULTILINE))
        assert set(exports) == {"DATABRICKS_HOST", "DATABRICKS_TOKEN", "MLFLOW_TRACKING_URI"}
        second = {**terminal, **exports}

        run, stage, twin, notebooks, table = others
        printed = typed(run, tmp_path, second)
        assert "Model: runs:/" in printed  # the log of the job
        assert exports["DATABRICKS_TOKEN"] not in printed
        typed(stage, tmp_path, second)
        assert "Launched MLflow run as Databricks job run" in typed(twin, tmp_path, second)
        typed(notebooks, tmp_path, second)
        assert len(list((tmp_path / "dist").glob("*.dbc"))) == 5
        typed(table, tmp_path, second)
        assert {tuple(json.loads(line)) for line in (tmp_path / "churn.jsonl").read_text().splitlines()} == {
            tuple((tmp_path / "classification" / "data" / "churn.csv").read_text().splitlines()[0].split(","))
        }
        wait_until(lambda: all(state.result_state for state in states(second)))
        assert [state.result_state for state in states(second)] == [RunResultState.SUCCESS] * 2
        with urllib.request.urlopen(exports["DATABRICKS_HOST"]) as page:
            assert "clustering" in page.read().decode()
    finally:
        first.send_signal(signal.SIGINT)
        first.wait(PATIENCE)

    store = f"sqlite:///{tmp_path}/databricks-workspace/tracking/mlflow.db"
    client = MlflowClient(store, store)
    for name, metric in (("/Shared/clustering", "chosen_k"), ("/Shared/churn", "roc_auc")):
        experiment = client.get_experiment_by_name(name)
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        [main] = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
        assert (main.info.status, metric in main.data.metrics) == ("FINISHED", True)
