"""The page's commands of the Databricks CLI, verbatim, with a stand-in for it; the job that they create really runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import databricks_stand_in
import mlflow
import mlflow.cli
import numpy as np
import pytest
from click.testing import CliRunner, Result
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import RunResultState
from git_server import copy_collection
from local_workspace import Workspace
from mlflow import MlflowClient
from mlflow.pyfunc import PythonModel
from running import COLLECTION

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


def register(name: str) -> None:
    """A first version of a model."""
    with mlflow.start_run(experiment_id=mlflow.create_experiment("/Shared/first version")):
        example = np.zeros((1, 1))
        mlflow.pyfunc.log_model(
            name="model", python_model=Echo(), input_example=example, pip_requirements=[], registered_model_name=name
        )


class Echo(PythonModel):
    """Answers what it is asked."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        return model_input


def test_the_commands_of_the_page(bundle: Path, connected: Workspace) -> None:
    deploy, run, on_a_cluster, production, destroy = COMMANDS
    production = production.replace("<application id>", "0a1b-2c3d")
    sdk = WorkspaceClient()
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
    numbers = json.loads((bundle / ".databricks" / "bundle" / "cluster" / "resources.json").read_text())
    settings = sdk.jobs.get(int(numbers["jobs.clustering"])).settings
    assert settings
    [cluster] = settings.job_clusters or []
    assert cluster.new_cluster
    assert cluster.new_cluster.node_type_id == "m5d.xlarge"

    # The endpoint needs a version, which a job of the first deployment registers.
    assert "does not exist" in str(typed(production).exception)
    register("production.default.churn")
    again = typed(production)
    assert again.exit_code == 0, again.output
    assert sdk.serving_endpoints.get("mlproject-collection-churn").name
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
