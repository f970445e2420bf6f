"""submit.py and each example: as its Spark-job twin, as an ordinary project on an old runtime, and from Git."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from git_server import HERMETIC, GitServer, Repository, copy_collection
from local_workspace import Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from running import COLLECTION, metrics_without_times
from submitting import CLUSTER, start, write_json

# Few and small models; the segments of one k are asked for three times, in three ways.
KMEANS = {"n_clusters": "3", "n_init": "1"}
OLD = {"new_cluster": {**CLUSTER, "spark_version": "12.2.x-cpu-ml-scala2.12"}}


class Examples:
    """Submissions of the examples, two at a time, and the runs that they leave."""

    def __init__(self, workspace: Any, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder
        self.environment = {**workspace.environment, **HERMETIC}

    def begin(self, project: object, *arguments: str, config: Path) -> subprocess.Popen[str]:
        given = ["--backend_config", config, "--experiment_name", "/Shared/examples", *arguments]
        return start(project, *given, environment=self.environment, folder=self.folder)

    def finished(self, process: subprocess.Popen[str]) -> tuple[Run, str]:
        """The run of a submission that must end well, and what was printed."""
        printed = process.communicate(timeout=300)[0]
        assert process.returncode == 0, printed
        found = re.search(r"^Run FINISHED: .*/runs/([0-9a-f]{32})$", printed, re.MULTILINE)
        assert found, printed
        run = self.workspace.client.get_run(found[1])
        assert run.info.status == "FINISHED"
        return run, printed


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the collection in a Git server."""
    with pytest.MonkeyPatch.context() as patch, GitServer(tmp_path_factory.mktemp("served")) as server:
        for name, value in HERMETIC.items():
            patch.setenv(name, value)
        repository = Repository(server.folder, tmp_path_factory.mktemp("tree"), "collection")
        copy_collection(repository.tree)
        repository.commit("All of it")
        yield server.url("collection")


@pytest.fixture(scope="module")
def examples(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(workspace, tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def ended(examples: Examples, git: str) -> dict[str, tuple[Run, str]]:
    """How each submission ended."""
    own = {name: COLLECTION / name / "cluster.json" for name in ("classification", "clustering", "git_project")}
    old = write_json(examples.folder / "old.json", OLD)
    segments = [word for name, value in KMEANS.items() for word in ("-P", f"{name}={value}")]
    knn = examples.begin(COLLECTION / "classification", "-P", "models=knn", config=own["classification"])
    twin = examples.begin(f"{git}#clustering", "-e", "kmeans", *segments, config=own["clustering"])
    found = {"knn": examples.finished(knn), "twin": examples.finished(twin)}
    project = examples.begin(COLLECTION / "clustering", "-e", "kmeans", "--form", "project", *segments, config=old)
    runs = json.dumps({"kmeans": KMEANS})
    several = examples.begin(
        COLLECTION / "git_project",
        *["-P", f"repo={git}", "-P", "project=clustering", "-P", f"runs={runs}", "-P", "env_manager=local"],
        config=own["git_project"],
    )
    return {**found, "project": examples.finished(project), "several": examples.finished(several)}


def test_classification_runs_as_a_spark_job(ended: dict[str, tuple[Run, str]], workspace: Any) -> None:
    run, printed = ended["knn"]
    assert f"{COLLECTION / 'classification' / 'MLproject'} is staged as a Spark job: runtimes from 13.0 on" in printed
    assert run.data.params["models"] == "knn"
    [child] = workspace.client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert child.data.metrics["roc_auc"] > 0.8


def test_clustering_from_git_is_the_same_by_either_form(ended: dict[str, tuple[Run, str]], git: str) -> None:
    (twin, printed), (project, as_it_is) = ended["twin"], ended["project"]
    assert "is staged as a Spark job" in printed
    assert "staged" not in as_it_is
    assert metrics_without_times(twin) == metrics_without_times(project) != {}
    assert twin.data.tags["mlflow.source.name"] == f"{git}#clustering"
    assert len(twin.data.tags["mlflow.source.git.commit"]) == 40


def test_git_project_runs_other_projects_from_its_spark_job(ended: dict[str, tuple[Run, str]], workspace: Any) -> None:
    run, _ = ended["several"]
    [child] = workspace.client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert child.info.status == "FINISHED"
    assert metrics_without_times(child) == metrics_without_times(ended["twin"][0])


def test_registry_deploy_registers_what_a_spark_job_has_logged(
    ended: dict[str, tuple[Run, str]], examples: Examples, connected: Workspace
) -> None:
    uri = f"runs:/{ended['twin'][0].info.run_id}/model"
    words = ["-P", f"model_uri={uri}", "-P", "name=main.default.segments"]
    words += ["-P", "description=Three segments, by K-Means"]
    project = COLLECTION / "registry_deploy"
    examples.finished(examples.begin(project, "-e", "register", *words, config=project / "cluster.json"))
    version = MlflowClient().get_model_version_by_alias("main.default.segments", "challenger")
    assert version.run_id == ended["twin"][0].info.run_id
    assert "Three segments, by K-Means" in (version.description or "")
