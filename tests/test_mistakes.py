"""What beginners get wrong ends in one line that says what would be right, and leaves no run RUNNING.

Elsewhere: a Python of another version (test_collection.py), a relative store (quick/test_entry_point.py).
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from git_server import HERMETIC
from mlflow.projects._project_spec import load_project  # which has no public twin
from running import COLLECTION, Outcome, Store, free_port
from sklearn.dummy import DummyClassifier

INSTALL = COLLECTION / "docs" / "install.md"
NO_RUN = "0123456789abcdef0123456789abcdef"
Command = tuple[str, str, list[str]]


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which nothing else happens."""
    return Store(tmp_path_factory.mktemp("store"))


MISTAKES = {
    "a misspelt parameter": (
        "classification -e decision_tree -P max_dept=3",
        "No such option '--max_dept'. Did you mean '--max_depth'?",
    ),
    "a value of the wrong kind": (
        "classification -e knn -P n_neighbors=many",
        "Invalid value for '--n_neighbors': 'many' is not an integer.",
    ),
    "a value out of range": (
        "classification -P test_size=2",
        "Invalid value for '--test_size': 2.0 is not in the range 0<x<1.",
    ),
    "a classifier that there is not": (
        "classification -P models=tree",
        "Invalid value for '--models': 'tree' is not a classifier; choose from: ann, decision_tree,",
    ),
    "a file that does not exist": (
        "classification -P data=my.csv -P target=left",
        "Invalid value for '--data': 'my.csv' does not exist (a relative path starts in the project's folder: give",
    ),
    "a column that does not exist": (
        "classification -e decision_tree -P target=left",
        "Invalid value for '--target': 'left' is not a column of the table; it has: female,",
    ),
    "a target without classes": (
        "classification -e decision_tree -P target=monthly_charges",
        "Invalid value for '--target': 'monthly_charges' is continuous (",
    ),
    "a table of another kind": (
        "clustering -P data={collection}/registry_deploy/data/new_customers.jsonl -P columns=age",
        "Invalid value for '--columns': 'age' is not a column of the table; it has: female,",
    ),
    "the run of a model that does not exist": (
        f"classification -e predict -P model_uri=runs:/{NO_RUN}/model",
        f"Invalid value for '--model_uri': 'runs:/{NO_RUN}/model' cannot be loaded: Run with id={NO_RUN} not found",
    ),
    "a version that does not exist": (
        "classification -e predict -P model_uri=models:/churn/9",
        "Invalid value for '--model_uri': 'models:/churn/9' cannot be loaded: Registered Model with name=churn",
    ),
    "promote before register": (
        "registry_deploy -e promote",
        "Invalid value for '--model_uri': 'models:/churn@challenger' ",
    ),
    "an experiment that does not exist": (
        "registry_deploy -e register -P experiment=nowhere",
        "Invalid value for '--experiment': ",
    ),
    "a port that is taken": (
        "registry_deploy -e deploy -P endpoint=mine -P model_uri={model} -P port={taken}",
        "port={taken} of 127.0.0.1 is taken by another program: choose another",
    ),
    "score before deploy": ("registry_deploy -e score -P endpoint=nobody", "nobody is not deployed in "),
    "a run that cannot be reproduced": (
        f"git_project -e reproduce -P run_id={NO_RUN}",
        f"Invalid value for '--run_id': '{NO_RUN}' ",
    ),
    "a misspelt step of the tour": (". -P only=classify", "Invalid value for '--only': 'classify' "),
    "a new project in a relative folder": (
        ". -e new_project -P name=mine -P data=classification/data/churn.csv -P target=churn -P output=mine",
        "Invalid value for '--output': 'mine' is relative: give the full path, \"$PWD/mine\".",
    ),
}


@pytest.fixture(scope="module")
def places(own_store: Store) -> Iterator[dict[str, object]]:
    """What the commands and errors name: a registered model, a port on which another program listens, folders."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(own_store.uri)
    with mlflow.start_run():
        X = pd.DataFrame({"x": [0.0, 1.0]})
        fitted = DummyClassifier().fit(X, [0, 1])
        mlflow.sklearn.log_model(
            fitted, name="model", registered_model_name="mine", input_example=X, pip_requirements=[]
        )
    mlflow.set_tracking_uri(before)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        yield {"collection": COLLECTION, "folder": own_store.folder, "model": "models:/mine/1", "taken": port}


# One of each project that is run as a user runs it: what becomes of the run is the same for all.
RUN = {
    "a value out of range",
    "a table of another kind",
    "promote before register",
    "a run that cannot be reproduced",
    "a misspelt step of the tour",
    "a new project in a relative folder",
}


@pytest.mark.parametrize("mistake", sorted(RUN))
def test_a_mistake_ends_in_one_line_and_fails_its_run(
    mistake: str, own_store: Store, places: dict[str, object]
) -> None:
    command, error = MISTAKES[mistake]
    example, *words = command.format(**places).split()
    words = ["run", str(COLLECTION / example), *words, "--env-manager", "local"]
    environment = {**own_store.environment, "XDG_STATE_HOME": str(own_store.folder)}
    outcome = own_store.mlflow(words, environment=environment)
    assert outcome.code == 1
    assert outcome.error.startswith(error.format(**places))
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.error
    assert not own_store.client.search_runs(["0"], "attributes.status = 'RUNNING'")


@pytest.fixture(scope="module")
def others(own_store: Store, places: dict[str, object]) -> dict[str, Outcome]:
    """The mistakes that no run is made for: the commands that MLproject makes of them, one process a project."""
    by_example: dict[str, dict[str, Command]] = {}
    for mistake, (command, _) in MISTAKES.items():
        if mistake not in RUN:
            example, *words = command.format(**places).split()
            by_example.setdefault(example, {})[mistake] = script(COLLECTION / example, words)
    environment = {**own_store.environment, "XDG_STATE_HOME": str(own_store.folder)}
    found: dict[str, Outcome] = {}
    for example, commands in by_example.items():
        outcomes = own_store.run_several(COLLECTION / example, list(commands.values()), environment=environment)
        found |= dict(zip(commands, outcomes, strict=True))
    return found


def script(project: Path, words: list[str]) -> Command:
    """The script that `mlflow run PROJECT [-e ENTRY_POINT] [-P NAME=VALUE ...]` starts: module, command, arguments."""
    entry_point = words[words.index("-e") + 1] if "-e" in words else "main"
    parameters = dict(word.split("=", 1) for word in words if "=" in word)
    called = load_project(str(project)).get_entry_point(entry_point).compute_command(parameters, None)
    _, file, *arguments = shlex.split(called)
    module = file.removesuffix(".py")
    return module, {"deploy": "deployment"}.get(module, module), arguments


@pytest.mark.parametrize("mistake", [mistake for mistake in MISTAKES if mistake not in RUN])
def test_a_mistake_ends_in_one_line(mistake: str, others: dict[str, Outcome], places: dict[str, object]) -> None:
    assert others[mistake].code == 2
    assert others[mistake].error.startswith(MISTAKES[mistake][1].format(**places))


MISTAKES_OF_MLFLOW = {
    "another folder": ("run classification --env-manager local", "fatal: "),
    "a misspelt entry point": (
        "run {collection}/clustering -e kmean",
        "Could not find kmean among entry points ['main', ",
    ),
    "a parameter without its value": (
        "run {collection}/clustering -P k_max",
        "Invalid format for -P parameter: 'k_max'.",
    ),
}


@pytest.mark.parametrize(("command", "error"), MISTAKES_OF_MLFLOW.values(), ids=MISTAKES_OF_MLFLOW)
def test_what_mlflow_says_itself_is_explained(
    command: str, error: str, own_store: Store, places: dict[str, object], tmp_path: Path
) -> None:
    environment = {**own_store.environment, **HERMETIC}
    words = command.format(**places).split()
    outcome = own_store.mlflow(words, environment=environment, folder=tmp_path)
    assert outcome.code
    assert error in outcome.output
    assert error.strip("[") in INSTALL.read_text(encoding="utf-8")
    assert not own_store.client.search_runs(["0"], "attributes.status = 'RUNNING'")


def test_without_conda_mlflow_says_so_and_the_page_says_what_becomes_of_the_run(own_store: Store) -> None:
    environment = {**own_store.environment, "MLFLOW_CONDA_HOME": "/nowhere"}
    outcome = own_store.mlflow(["run", str(COLLECTION / "clustering")], environment=environment)
    assert outcome.code
    page = INSTALL.read_text(encoding="utf-8")
    for said in ("Could not find Conda executable at ", "MLflow leaves the run RUNNING; delete it in the UI"):
        assert said in page
    assert "Could not find Conda executable at /nowhere" in outcome.output
    [left] = own_store.client.search_runs(["0"], "attributes.status = 'RUNNING'")
    own_store.client.delete_run(left.info.run_id)


def test_a_server_that_is_away_is_named_at_once(tmp_path: Path) -> None:
    """MLflow would ask it again for minutes, silently."""
    away = f"http://127.0.0.1:{free_port()}"
    shutil.copy(COLLECTION / "Makefile", tmp_path)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}  # of `make test`
    environment = {**own, "MLFLOW_TRACKING_URI": away}
    command = ["make", "store", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == f"MLFLOW_TRACKING_URI={away} does not answer: start that server, or unset the variable.\n"
