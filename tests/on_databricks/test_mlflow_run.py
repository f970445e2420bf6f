"""The unmodified `mlflow run -b databricks` on the local workspace: every example ends as it does on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from git_server import GitServer, Repository, copy_collection
from local_workspace import Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from running import COLLECTION, Store, metrics_without_times

CHURN = {"models": "decision_tree,knn", "max_depth": "3"}
SEGMENTS = {"k_max": "4", "n_init": "2"}


@dataclass
class Launched:
    """A job that `mlflow run` has begun, and the MLflow run that it fills."""

    job: int
    run_id: str
    output: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the collection as a Git repository."""
    folder = tmp_path_factory.mktemp("served")
    collection = Repository(folder, tmp_path_factory.mktemp("trees") / "collection", "collection")
    copy_collection(collection.tree)
    collection.commit("The collection as it stands")
    with GitServer(folder) as server:
        yield server.url("collection")


def launch(
    workspace: Workspace, project: str | Path, parameters: dict[str, str], cluster: str, *arguments: str
) -> Launched:
    """`mlflow run PROJECT -b databricks --backend-config EXAMPLE/cluster.json --env-manager local ...`."""
    command = [sys.executable, "-m", "mlflow", "run", str(project), *arguments, "-b", "databricks"]
    command += ["--backend-config", str(COLLECTION / cluster / "cluster.json"), "--env-manager", "local"]
    command += ["--experiment-name", f"/Shared/{cluster}"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"]
    done = workspace.run(command, cwd=workspace.folder.parent)
    assert done.code == 0, done.output
    found = re.search(r"Databricks job run with ID (\d+)", done.output)
    assert found, done.output
    [page] = [run["mlflow_run_page"] for run in workspace.runs() if run["run_id"] == int(found[1])]
    return Launched(int(found[1]), page.rpartition("/")[2], done.output)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection without caches, which the tarball of a project would carry."""
    tree = tmp_path_factory.mktemp("copy") / "collection"
    tree.mkdir()
    copy_collection(tree)
    return tree


@pytest.fixture(scope="module")
def launched(workspace: Workspace, served: str, tree: Path) -> dict[str, Launched]:
    """The jobs of all examples; they run while the next one is sent."""
    jobs = {"classification": launch(workspace, tree / "classification", CHURN, "classification")}
    jobs["clustering"] = launch(workspace, f"{served}#clustering", SEGMENTS, "clustering")
    several = {"repo": served, "runs": "knn", "metrics": "roc_auc,accuracy", "env_manager": "local"}
    jobs["git_project"] = launch(workspace, tree / "git_project", several, "git_project")
    workspace.wait(jobs["classification"].job)
    best = best_child(workspace, jobs["classification"])
    wanted = {"model_uri": f"runs:/{best.info.run_id}/model", "name": "main.default.churn"}
    jobs["registry_deploy"] = launch(workspace, tree / "registry_deploy", wanted, "registry_deploy", "-e", "register")
    return jobs


def best_child(workspace: Workspace, launched: Launched) -> Run:
    """The child run with the best roc_auc."""
    return max(children(workspace, launched), key=lambda run: run.data.metrics["roc_auc"])


def children(workspace: Workspace, launched: Launched) -> list[Run]:
    parent = workspace.client.get_run(launched.run_id)
    wanted = f"tags.`mlflow.parentRunId` = '{launched.run_id}'"
    return list(workspace.client.search_runs([parent.info.experiment_id], wanted))


def finished(workspace: Workspace, launched: Launched) -> Run:
    """The MLflow run of a job that has ended well."""
    job = workspace.wait(launched.job)
    assert job["state"]["result_state"] == "SUCCESS", workspace.log(launched.job)
    run = workspace.client.get_run(launched.run_id)
    assert run.info.status == "FINISHED"
    return run


def names(client: MlflowClient, run: Run) -> set[str]:
    return {item.path for item in client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def churn(store: Store) -> Run:
    """The same classifiers, trained on this machine."""
    return store.mlflow_run(COLLECTION / "classification", "main", CHURN).run


@pytest.fixture(scope="module")
def segments(store: Store) -> Run:
    """The same segments, found on this machine."""
    return store.mlflow_run(COLLECTION / "clustering", "main", SEGMENTS).run


@pytest.fixture(scope="module")
def customers() -> pd.DataFrame:
    return new_instances("classification")


def new_instances(example: str) -> pd.DataFrame:
    """The rows to predict that come with an example; numbers are real ones, as its models want them."""
    rows = pd.read_json(COLLECTION / example / "data" / "new_customers.jsonl", lines=True)
    return rows.astype(dict.fromkeys(rows.select_dtypes("number"), float))


def predicted(model_uri: str, rows: pd.DataFrame) -> np.ndarray:
    return np.asarray(mlflow.pyfunc.load_model(model_uri).predict(rows))


def local_model(store: Store, parent: Run, name: str) -> str:
    [run] = [run for run in store.children(parent) if run.data.tags.get("classifier") == name]
    return store.model(run).artifact_location


def test_classification(
    launched: dict[str, Launched], connected: Workspace, store: Store, churn: Run, customers: pd.DataFrame
) -> None:
    run = finished(connected, launched["classification"])
    assert run.data.params == churn.data.params
    assert metrics_without_times(run) == metrics_without_times(churn)
    assert names(MlflowClient(), run) == store.artifacts(churn) - {"git.diff"} != set()
    for child in children(connected, launched["classification"]):
        mine = local_model(store, churn, child.data.tags["classifier"])
        assert (predicted(f"runs:/{child.info.run_id}/model", customers) == predicted(mine, customers)).all()


def test_clustering_from_a_git_address(
    launched: dict[str, Launched], connected: Workspace, served: str, store: Store, segments: Run
) -> None:
    run = finished(connected, launched["clustering"])
    assert run.data.tags["mlflow.source.name"] == f"{served}#clustering"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    assert run.data.params == segments.data.params
    assert metrics_without_times(run) == metrics_without_times(segments) != {}
    assert names(MlflowClient(), run) == store.artifacts(segments) - {"git.diff"} != set()
    rows = new_instances("clustering")
    mine = {child.info.run_name: store.model(child).artifact_location for child in store.children(segments)}
    theirs = {child.info.run_name: child for child in children(connected, launched["clustering"])}
    assert theirs.keys() == mine.keys() == {"k = 2", "k = 3", "k = 4"}
    for name, child in theirs.items():
        assert (predicted(f"runs:/{child.info.run_id}/model", rows) == predicted(mine[name], rows)).all()


def test_git_project(
    launched: dict[str, Launched], connected: Workspace, store: Store, churn: Run, customers: pd.DataFrame
) -> None:
    run = finished(connected, launched["git_project"])
    assert run.data.params["runs"] == "knn"
    assert names(MlflowClient(), run)
    [child] = children(connected, launched["git_project"])
    assert child.info.status == "FINISHED"
    assert child.data.metrics["roc_auc"] > 0.8
    there = predicted(f"runs:/{child.info.run_id}/model", customers)
    assert (there == predicted(local_model(store, churn, "knn"), customers)).all()


def test_registry_deploy_registers_and_promotes(
    launched: dict[str, Launched],
    connected: Workspace,
    tree: Path,
    store: Store,
    churn: Run,
    customers: pd.DataFrame,
) -> None:
    run = finished(connected, launched["registry_deploy"])
    assert run.data.params["name"] == "main.default.churn"
    version = MlflowClient().get_model_version_by_alias("main.default.churn", "challenger")
    best = best_child(connected, launched["classification"])
    assert version.run_id == best.info.run_id

    challenger = {"model_uri": "models:/main.default.churn@challenger", "max_latency": "10000"}  # the machine is full
    gate = launch(connected, tree / "registry_deploy", challenger, "registry_deploy", "-e", "promote")
    judged = finished(connected, gate)
    assert judged.data.params["thresholds"] == "'roc_auc>=0.75'"  # as the shell is given it
    [evaluation] = children(connected, gate)
    assert evaluation.data.metrics["roc_auc"] == pytest.approx(best.data.metrics["roc_auc"])  # the same test rows
    assert names(MlflowClient(), judged)
    assert MlflowClient().get_model_version_by_alias("main.default.churn", "champion").version == version.version
    there = predicted("models:/main.default.churn@champion", customers)
    mine = local_model(store, churn, best.data.tags["classifier"])
    assert (there == predicted(mine, customers)).all()


def test_the_client_says_where_the_job_is(launched: dict[str, Launched], workspace: Workspace) -> None:
    one = launched["classification"]
    assert f"Check the run's status at {workspace.url}/#run-{one.job}" in one.output
    page = workspace.call("GET", "/", token="").text
    run = workspace.client.get_run(one.run_id)
    assert f'href="{workspace.url}/ml/experiments/{run.info.experiment_id}/runs/{one.run_id}"' in page
    assert run.data.tags["mlflow.databricks.shellJobRunID"] == str(one.job)
    assert workspace.token not in workspace.log(one.job) + one.output
