"""The examples' notebooks as notebook tasks of the local workspace: from a Git folder, and imported alone as `.dbc`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobParameterDefinition, NotebookTask, Task
from databricks.sdk.service.workspace import ImportFormat
from examples import module
from git_server import GitServer, Repository, copy_collection
from local_workspace import Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from running import COLLECTION

WIDGETS: dict[str, dict[str, str]] = {
    "classification": {"models": "decision_tree,gaussian_nb", "max_depth": "3", "registered_model": "main.a.churn"},
    "clustering": {"k_min": "3", "k_max": "5", "registered_model": "main.a.segments"},
    "git_project": {"runs": "[decision_tree: {max_depth: 3}]", "registered_model": "main.a.churn_from_git"},
    "registry_deploy": {"registered_model": "main.a.churn_notebook"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """The address of this collection behind a Git server, its commit, and its folder."""
    with GitServer(tmp_path_factory.mktemp("served")) as server:
        repository = Repository(server.folder, tmp_path_factory.mktemp("trees") / "collection", "collection")
        copy_collection(repository.tree)
        yield server.url("collection"), repository.commit("The collection"), repository.tree


@pytest.fixture(scope="module")
def logs(
    workspace: Workspace, served: tuple[str, str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The log of each notebook, which must end well; git_project's is imported alone."""
    repo, _, tree = served
    shutil.copytree(tree, workspace.folder / "workspace" / "Shared" / "collection", dirs_exist_ok=True)
    archive = tmp_path_factory.mktemp("dist") / "git_project.dbc"
    notebooks = module("on_databricks", "notebooks")
    notebooks.write_archive(archive, notebooks.notebooks_of(COLLECTION / "git_project"))
    sdk = WorkspaceClient(host=workspace.url, token=workspace.token)
    sdk.workspace.upload("/Shared/imported", archive.read_bytes(), format=ImportFormat.DBC)
    begun = {}
    for example, widgets in WIDGETS.items():
        path = f"/Shared/collection/{example}/on_databricks/{example}"
        if example == "git_project":
            path, widgets = "/Shared/imported/git_project/git_project", {**widgets, "repo": repo}
        base = {"experiment": f"/Shared/notebook of {example}", **dict.fromkeys(widgets, "the job's parameters win")}
        tasks = [Task("notebook", notebook_task=NotebookTask(path, base_parameters=base))]
        defaults = [JobParameterDefinition(name, "") for name in widgets]
        job_id = sdk.jobs.create(name=example, tasks=tasks, parameters=defaults).job_id
        begun[example] = sdk.jobs.run_now(job_id or 0, job_parameters=widgets).bind()["run_id"]
    found = {}
    for example, run_id in begun.items():
        state = workspace.wait(run_id)["state"]
        found[example] = workspace.log(run_id)
        assert state["result_state"] == "SUCCESS", found[example]
    return found


def runs_of(workspace: Workspace, example: str) -> dict[str, Run]:
    """The runs of a notebook by name; all have ended well."""
    found = workspace.client.get_experiment_by_name(f"/Shared/notebook of {example}")
    assert found
    runs = list(workspace.client.search_runs([found.experiment_id]))
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {run.info.run_name or "": run for run in runs}


def children(runs: dict[str, Run], parent: Run) -> set[str]:
    return {name for name, run in runs.items() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}


def aliases_of(name: str) -> dict[str, str]:
    model = MlflowClient(registry_uri="databricks-uc").get_registered_model(name)
    return {alias: str(number) for alias, number in model.aliases.items()}


def test_classification(logs: dict[str, str], connected: Workspace) -> None:
    runs, log = runs_of(connected, "classification"), logs["classification"]
    by_hand = runs["by hand"]
    assert by_hand.data.params == {"C": "0.5"}
    assert by_hand.data.metrics["roc_auc"] > 0.7
    assert {"autolog C=0.001", "autolog C=0.1", "autolog C=10.0", "predict"} <= set(runs)
    assert runs["autolog C=0.1"].data.params["C"] == "0.1"
    assert children(runs, runs["classifiers"]) == {"decision_tree", "gaussian_nb"}
    assert runs["classifiers"].data.params["max_depth"] == "3"
    assert log.count("[display] picture") == 3
    assert runs["predict"].data.metrics["instances"] == 4
    assert aliases_of("main.a.churn") == {"challenger": "1"}
    written = re.findall(r"^\d +[\d.]+ +\S.*\b(Yes|No)\b *[\d.]*$", log, re.MULTILINE)
    assert len(written) >= 8, log
    assert written[-8:-4] == written[-4:]  # the registered version says what `predict` said


def test_clustering(logs: dict[str, str], connected: Workspace) -> None:
    runs = runs_of(connected, "clustering")
    assert runs["by hand"].data.params == {"n_clusters": "3"}
    assert children(runs, runs["segments"]) == {"k = 3", "k = 4", "k = 5"}
    assert runs["segments"].data.metrics["chosen_k"] == 4
    assert logs["clustering"].count("[display] picture") == 3
    assert runs["predict"].data.metrics["instances"] == 6
    assert aliases_of("main.a.segments") == {"in_use": "1"}


def test_git_project_imported_alone(logs: dict[str, str], connected: Workspace, served: tuple[str, str, Path]) -> None:
    runs, log, (repo, commit, _) = runs_of(connected, "git_project"), logs["git_project"], served
    assert runs["by hand"].data.metrics["roc_auc"] > 0.9
    [name] = children(runs, runs["from Git"])
    assert name == "decision_tree max_depth=3"
    assert runs[name].data.tags["mlflow.source.git.commit"] == commit
    assert f"{repo} at {commit}" in log
    assert runs["predict"].data.metrics["instances"] == 4
    assert "Reproduced" in log
    assert aliases_of("main.a.churn_from_git") == {"challenger": "1"}


def test_registry_deploy(logs: dict[str, str], connected: Workspace) -> None:
    assert runs_of(connected, "registry_deploy")["by hand"].data.metrics["roc_auc"] > 0.7
    said = re.findall(r"^(promoted|refused: .*)$", logs["registry_deploy"], re.MULTILINE)
    assert [line.split(",")[0].split(" 0")[0] for line in said] == ["promoted", "refused: roc_auc", "promoted"]
    assert aliases_of("main.a.churn_notebook") == {"champion": "2", "for_the_newsletter": "2"}
    assert "models:/main.a.churn_notebook/1 is archived." in logs["registry_deploy"]


def test_a_notebook_that_is_alone_says_what_it_lacks(workspace: Workspace, logs: dict[str, str]) -> None:
    task = {"notebook_path": "/Shared/imported/git_project/git_project"}
    said = {"tasks": [{"task_key": "notebook", "notebook_task": task}]}
    run = workspace.wait(workspace.call("POST", "/api/2.2/jobs/runs/submit", json=said).json()["run_id"])
    assert run["state"]["result_state"] == "FAILED"
    last = "ValueError: Imported alone, this notebook needs the Git address of the collection in the widget repo."
    assert last in workspace.log(run["run_id"])
