"""The page's commands of the Databricks CLI, verbatim, with a stand-in for it; the job that they create really runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import databricks_stand_in
import mlflow
import mlflow.cli
import numpy as np
import pytest
from click.testing import CliRunner, Result
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobSettings, PauseStatus, RunResultState
from git_server import copy_collection
from local_workspace import Workspace
from mlflow import MlflowClient
from running import COLLECTION
from sklearn.linear_model import LinearRegression

PAGE = (COLLECTION / "on_databricks" / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| `(databricks bundle .*?)` \|", PAGE, re.MULTILINE)
PLACE = "/Users/{user}/mlproject-collection-{target}-clustering"


@pytest.fixture
def bundle(connected: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the collection as the current folder."""
    copy_collection(tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(command: str) -> Result:
    """A command of the page, in this process; it answers yes where it is asked."""
    return CliRunner().invoke(databricks_stand_in.cli, shlex.split(command)[1:], input="y\n")


def settings_of(target: str, example: str) -> JobSettings:
    """The deployed job of an example."""
    numbers = json.loads(Path(".databricks", "bundle", target, "resources.json").read_text())
    settings = WorkspaceClient().jobs.get(numbers[f"jobs.{example}"]).settings
    assert settings
    return settings


def register(name: str) -> None:
    """A first version of a model."""
    with mlflow.start_run(experiment_id=mlflow.create_experiment("/Shared/first version")):
        rows = np.arange(4.0).reshape(2, 2)
        model = LinearRegression().fit(rows, [0.0, 1.0])
        given: dict[str, Any] = {"input_example": rows, "pip_requirements": [], "registered_model_name": name}
        mlflow.sklearn.log_model(model, name="model", **given)


def test_the_commands_of_the_page(bundle: Path, connected: Workspace) -> None:
    deploy, run, on_a_cluster, production, destroy = COMMANDS
    production = production.replace("<application id>", "0a1b-2c3d")
    assert typed(deploy).exit_code == 0
    experiment = MlflowClient().get_experiment_by_name(PLACE.format(user="you@example.test", target="serverless"))
    assert experiment
    first = typed(run)
    assert first.exit_code == 0, first.output
    [done] = MlflowClient().search_runs([experiment.experiment_id])
    assert (done.info.status, done.data.params["n_clusters"]) == ("FINISHED", "3")
    wrong = typed("databricks bundle run clustering -- --entry_point=kmean")
    assert wrong.exit_code == 1
    job = connected.runs()[0]
    assert job["state"]["result_state"] == RunResultState.FAILED.value
    assert "'kmean' is no value of entry_point; choose from: main, kmeans, predict" in connected.log(job["run_id"])

    assert typed(on_a_cluster).exit_code == 0
    settings = settings_of("cluster", "clustering")
    [cluster] = settings.job_clusters or []
    assert cluster.new_cluster
    assert cluster.new_cluster.node_type_id == "m5d.xlarge"

    assert "'n_cluster' is not defined" in str(typed("databricks bundle run clustering -- --n_cluster=3").exception)

    # The endpoint needs a version, which a job of the first deployment registers.
    assert "does not exist" in str(typed(production).exception)
    register("production.default.churn")
    again = typed(production)
    assert again.exit_code == 0, again.output
    endpoint = WorkspaceClient().serving_endpoints.wait_get_serving_endpoint_not_updating("mlproject-collection-churn")
    entity = endpoint.as_dict()["config"]["served_entities"][0]
    assert (entity["entity_name"], entity["scale_to_zero_enabled"]) == ("production.default.churn", True)
    weekly = settings_of("prod", "classification")
    assert weekly.schedule
    assert weekly.run_as
    assert (weekly.schedule.pause_status, weekly.max_concurrent_runs) == (PauseStatus.PAUSED, 1)
    assert weekly.run_as.service_principal_name == "0a1b-2c3d"
    assert typed(destroy).exit_code == 0
    assert not list((connected.folder / "workspace").glob("Users/*/.bundle/*/serverless"))


def test_a_profile_of_the_cli_is_for_jobs_and_not_for_local_runs(
    connected: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [login] = re.findall(r"`(databricks auth login .*?)`", PAGE)[:1]
    databricks_stand_in.install(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("STAND_IN_TOKEN", connected.token)
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "churn")
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(name)
    assert typed(login.replace("https://…", connected.url)).exit_code == 0
    words = ["run", str(Path(__file__).parent / "small"), "-e", "waits", "-P", "seconds=0.1"]
    words += ["--experiment-name", "/Shared/profile"]
    job = CliRunner().invoke(mlflow.cli.cli, [*words, "-b", "databricks-jobs"])
    assert job.exit_code == 0, job.output
    here = CliRunner().invoke(mlflow.cli.cli, [*words, "--env-manager", "local"])
    assert "Reading Databricks credential configuration failed" in str(here.exception)
