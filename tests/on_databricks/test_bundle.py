"""The jobs of the bundle, created in the local workspace as `databricks bundle deploy` would, and run."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobSettings
from local_workspace import Workspace
from mlflow import MlflowClient
from running import COLLECTION

PLACE = "/Workspace/Shared/bundle"


@pytest.fixture
def job_id(connected: Workspace) -> int:
    """The job of clustering, with its files in the workspace."""
    files = connected.folder / "workspace" / "Shared" / "bundle"
    ignored = shutil.ignore_patterns("__pycache__", "mlruns", ".mypy_cache")
    shutil.copytree(COLLECTION / "clustering", files / "clustering", ignore=ignored, dirs_exist_ok=True)
    (files / "on_databricks").mkdir(exist_ok=True)
    for name in ("run_entry_point.py", "unknown_entry_point.py"):
        shutil.copy(COLLECTION / "on_databricks" / name, files / "on_databricks")
    experiment = MlflowClient().create_experiment("/Shared/bundle")
    text = (COLLECTION / "on_databricks" / "resources" / "clustering.job.yml").read_text(encoding="utf-8")
    for name, value in {
        "${workspace.file_path}": PLACE,
        "${resources.experiments.clustering.id}": experiment,
        "${bundle.name}": "collection",
        "../../clustering": f"{PLACE}/clustering",
        "../run_entry_point.py": f"{PLACE}/on_databricks/run_entry_point.py",
        "../unknown_entry_point.py": f"{PLACE}/on_databricks/unknown_entry_point.py",
    }.items():
        text = text.replace(name, value)
    assert "${" not in text.partition("targets:")[0].partition("jobs:")[2]
    return deploy(yaml.safe_load(text))


def deploy(said: dict[str, Any]) -> int:
    """Create the job with what the target `serverless` adds, tasks by their key."""
    job = said["resources"]["jobs"]["clustering"]
    added = said["targets"]["serverless"]["resources"]["jobs"]["clustering"]
    more = {task["task_key"]: task for task in added["tasks"]}
    tasks = [{**task, **more.get(task["task_key"], {})} for task in job["tasks"]]
    settings = JobSettings.from_dict({**job, **added, "tasks": tasks})
    given = {name: value for name, value in vars(settings).items() if value is not None}
    created = WorkspaceClient().jobs.create(**given).job_id
    assert created
    return created


def test_a_job_runs_the_entry_point_that_its_parameter_names(connected: Workspace, job_id: int) -> None:
    sdk = WorkspaceClient()
    columns = "monthly_charges,tenure"
    sdk.jobs.run_now(job_id, job_parameters={"entry_point": "kmeans", "n_init": "1", "columns": columns})
    wrong = sdk.jobs.run_now(job_id, job_parameters={"entry_point": "kmean"}).bind()["run_id"]
    assert connected.wait(wrong)["state"]["result_state"] == "FAILED"
    assert "'kmean' is no value of entry_point; choose from: main, kmeans, predict" in connected.log(wrong)
    good = next(run for run in connected.runs() if run["job_id"] == job_id and run["run_id"] != wrong)
    state = connected.wait(good["run_id"])["state"]
    assert state["result_state"] == "SUCCESS", connected.log(good["run_id"])
    experiment = MlflowClient().get_experiment_by_name("/Shared/bundle")
    assert experiment
    [run] = MlflowClient().search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params["columns"]) == ("FINISHED", "monthly_charges,tenure")
