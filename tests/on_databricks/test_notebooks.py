"""The examples' notebooks: each runs from top to bottom."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git_server import HERMETIC, GitServer, Repository, copy_collection
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store

SHIM = COLLECTION / "on_databricks" / "workspace" / "run_notebook.py"
EXAMPLES = ["classification", "clustering", "git_project", "registry_deploy"]

Execute = Callable[..., Outcome]


def notebook(example: str, language: str = "") -> Path:
    return COLLECTION / example / "on_databricks" / f"{example}{language}.py"


@pytest.fixture
def execute(store: Store) -> Execute:
    """Executes a notebook from top to bottom in a process of its own; nothing of it remains in its folder."""

    def execute(path: Path, environment: dict[str, str] | None = None, **widgets: str) -> Outcome:
        if "experiment" in widgets:  # a new one would put its artifacts where the notebook lies; Databricks does not
            store.client.create_experiment(widgets["experiment"], (store.folder / "mlruns").as_uri())
        before = set(path.parent.iterdir())
        command = [sys.executable, str(SHIM), str(path), json.dumps(widgets)]
        outcome = store.run(command, environment=environment)
        assert set(path.parent.iterdir()) == before
        return outcome

    return execute


def runs_of(store: Store, experiment: str) -> dict[str, Run]:
    """The runs of an experiment by name; all have ended well."""
    found = store.client.get_experiment_by_name(experiment)
    assert found
    runs = list(store.client.search_runs([found.experiment_id]))
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {run.info.run_name: run for run in runs}


def aliases_of(store: Store, name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in store.client.get_registered_model(name).aliases.items()}


def test_classification(execute: Execute, store: Store) -> None:
    outcome = execute(
        notebook("classification"),
        experiment="/Shared/notebook of classification",
        models="decision_tree,gaussian_nb",
        max_depth="3",
        registered_model="shop.default.churn",
    )
    assert outcome.code == 0, outcome.output
    runs = runs_of(store, "/Shared/notebook of classification")
    assert set(runs) == {"classifiers", "decision_tree", "gaussian_nb", "predict"}
    assert {child.info.run_name for child in store.children(runs["classifiers"])} == {"decision_tree", "gaussian_nb"}
    assert runs["classifiers"].data.params["max_depth"] == "3"
    assert outcome.output.count("[display] picture") == 2
    assert re.search(r"\[display\] table\n.*roc_auc.*\n0 +decision_tree ", outcome.output)
    assert f"/ml/experiments/{runs['predict'].info.experiment_id}/runs/{outcome.run.info.run_id}\n" in outcome.output

    assert runs["predict"].data.metrics["instances"] == 4
    assert aliases_of(store, "shop.default.churn") == {"challenger": "1"}
    version = store.client.get_model_version("shop.default.churn", "1")
    assert version.source == f"models:/{store.model(runs['decision_tree']).model_id}"
    written = re.findall(r"^\d +[\d.]+ +\S.*\b(Yes|No)\b *[\d.]*$", outcome.output, re.MULTILINE)
    assert len(written) == 8, outcome.output
    assert written[:4] == written[4:]  # the registered version says what `predict` said


def test_clustering(execute: Execute, store: Store) -> None:
    outcome = execute(
        notebook("clustering"),
        experiment="/Shared/notebook of clustering",
        k_min="3",
        k_max="5",
        registered_model="segments_by_notebook",
    )
    assert outcome.code == 0, outcome.output
    runs = runs_of(store, "/Shared/notebook of clustering")
    assert set(runs) == {"segments", "k = 3", "k = 4", "k = 5", "predict"}
    assert runs["segments"].data.metrics["chosen_k"] == 4
    assert outcome.output.count("[display] picture") == 2
    assert runs["predict"].data.metrics["instances"] == 6
    assert aliases_of(store, "segments_by_notebook") == {"in_use": "1"}
    version = store.client.get_model_version("segments_by_notebook", "1")
    assert version.source == f"models:/{store.model(runs['k = 4']).model_id}"


def test_registry_deploy(execute: Execute, store: Store) -> None:
    name = "shop.default.churn_notebook"
    outcome = execute(
        notebook("registry_deploy"), experiment="/Shared/notebook of registry_deploy", registered_model=name
    )
    assert outcome.code == 0, outcome.output
    said = re.findall(r"^(promoted|refused: .*)$", outcome.output, re.MULTILINE)
    assert [line.split(",")[0] for line in said] == ["promoted", "refused: roc_auc 0.8451", "promoted"]
    assert aliases_of(store, name) == {"champion": "2", "for_the_newsletter": "2"}
    assert "{'champion': 2, 'for_the_newsletter': 2, 'previous': 1}" in outcome.output  # under the other name
    assert f"models:/{name}/1 is archived." in outcome.output
    assert [version.version for version in store.client.search_model_versions(f"name='{name}'")] == [2]
    assert "Made by the notebook" in store.client.get_registered_model(name).description
    experiment = store.client.get_experiment_by_name("/Shared/notebook of registry_deploy")
    assert experiment
    decided = store.client.search_runs([experiment.experiment_id], "tags.decision != ''")
    assert sorted(run.data.tags["decision"] for run in decided) == ["promoted", "promoted", "refused"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of this collection behind a Git server, and its commit."""
    with GitServer(tmp_path_factory.mktemp("served")) as server:
        repository = Repository(server.folder, tmp_path_factory.mktemp("trees") / "collection", "collection")
        copy_collection(repository.tree)
        yield server.url("collection"), repository.commit("The collection")


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[str], Path]:
    """A notebook without its example beside it, as it is after the import of an archive."""

    def alone(example: str) -> Path:
        folder = tmp_path / "imported" / example
        folder.mkdir(parents=True)
        return Path(shutil.copy(notebook(example), folder))

    return alone


def test_git_project_imported_alone(
    execute: Execute, store: Store, collection: tuple[str, str], alone: Callable[[str], Path], tmp_path: Path
) -> None:
    repo, commit = collection
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    outcome = execute(
        alone("git_project"),
        {**HERMETIC, "TMPDIR": str(temporary)},
        experiment="/Shared/notebook of git_project",
        repo=repo,
        runs="[decision_tree: {max_depth: 3}]",
        registered_model="churn_from_git",
    )
    assert outcome.code == 0, outcome.output
    assert str(temporary / "mlproject-collection" / "git_project" / "requirements.txt") in outcome.output
    runs = runs_of(store, "/Shared/notebook of git_project")
    parent = runs["from Git"]
    [child] = store.children(parent)
    assert child.info.run_name == "decision_tree max_depth=3"
    assert child.data.tags["mlflow.source.git.commit"] == commit
    assert f"{repo} at {commit}" in outcome.output
    assert runs["predict"].data.metrics["instances"] == 4
    assert "Reproduced: all is the same" in outcome.output
    assert store.children(runs["reproduce"])
    assert aliases_of(store, "churn_from_git") == {"challenger": "1"}
    version = store.client.get_model_version("churn_from_git", "1")
    assert version.tags["git_commit"] == commit
    assert version.source == f"models:/{store.model(child).model_id}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_notebook_that_is_alone_says_what_it_lacks(
    example: str, execute: Execute, alone: Callable[[str], Path], tmp_path: Path
) -> None:
    outcome = execute(alone(example), {"TMPDIR": str(tmp_path)})
    assert outcome.code == 1
    last = "ValueError: Imported alone, this notebook needs the Git address of the collection in the widget repo."
    assert last in outcome.output
