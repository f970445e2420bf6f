"""The jobs of the bundle, created in the local workspace as `databricks bundle deploy` would, and run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobSettings
from local_workspace import Workspace
from mlflow import MlflowClient
from running import COLLECTION

PLACE = "/Workspace/Shared/bundle"
RUNNER = "on_databricks/mlflow_databricks_jobs/run_entry_point.py"
VARIABLES = {"catalog": "main", "schema": "default", "spark_version": "17.3.x-scala2.13", "node_type_id": "m5d.xlarge"}


def upload(files: Path, example: str) -> None:
    """Put the files of an example where the bundle's are."""
    ignored = shutil.ignore_patterns("__pycache__", "mlruns", ".mypy_cache")
    shutil.copytree(COLLECTION / example, files / example, ignore=ignored, dirs_exist_ok=True)
    (files / RUNNER).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(COLLECTION / RUNNER, files / RUNNER)


def settings(example: str, target: str) -> dict[str, Any]:
    """The job of an example with what a target adds; variables filled in, tasks joined by their key."""
    text = (COLLECTION / "on_databricks" / "resources" / f"{example}.job.yml").read_text(encoding="utf-8")
    experiment = MlflowClient().create_experiment(f"/Shared/bundle {example} {target}")
    filled = {f"${{var.{name}}}": value for name, value in VARIABLES.items()}
    filled |= {"${workspace.file_path}": PLACE, f"${{resources.experiments.{example}.id}}": experiment}
    filled |= {"${bundle.name}": "collection", "../../": f"{PLACE}/", "../": f"{PLACE}/on_databricks/"}
    for name, value in filled.items():
        text = text.replace(name, value)
    said = yaml.safe_load(text)
    job, added = said["resources"]["jobs"][example], said["targets"][target]["resources"]["jobs"][example]
    assert "${" not in str(job)
    more = {task["task_key"]: task for task in added["tasks"]}
    return {**job, **added, "tasks": [{**task, **more.get(task["task_key"], {})} for task in job["tasks"]]}


def created(said: dict[str, Any]) -> int:
    """The number of a new job."""
    given = {name: value for name, value in vars(JobSettings.from_dict(said)).items() if value is not None}
    job_id = WorkspaceClient().jobs.create(**given).job_id
    assert job_id
    return job_id


@pytest.mark.parametrize("example", ["classification", "git_project", "registry_deploy"])
@pytest.mark.parametrize("target", ["serverless", "cluster", "prod"])
def test_a_workspace_takes_every_job(connected: Workspace, example: str, target: str) -> None:
    assert WorkspaceClient().jobs.get(created(settings(example, target))).settings


def test_a_job_runs_the_entry_point_that_its_parameter_names(connected: Workspace) -> None:
    upload(connected.folder / "workspace" / "Shared" / "bundle", "clustering")
    sdk, jobs = (
        WorkspaceClient(),
        {target: created(settings("clustering", target)) for target in ("serverless", "cluster")},
    )
    columns = "monthly_charges,tenure"
    given = {"entry_point": "kmeans", "n_init": "1", "columns": columns}
    good = sdk.jobs.run_now(jobs["cluster"], job_parameters=given).bind()["run_id"]
    wrong = sdk.jobs.run_now(jobs["serverless"], job_parameters={"entry_point": "kmean"}).bind()["run_id"]
    assert connected.wait(wrong)["state"]["result_state"] == "FAILED"
    assert "'kmean' is no value of entry_point; choose from: main, kmeans, predict" in connected.log(wrong)
    assert connected.wait(good)["state"]["result_state"] == "SUCCESS", connected.log(good)
    experiment = MlflowClient().get_experiment_by_name("/Shared/bundle clustering cluster")
    assert experiment
    [run] = MlflowClient().search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params["columns"]) == ("FINISHED", columns)
