"""The pages say what happens: their commands are run in a fresh copy, and what they print is what the page quotes.

`pages.py` tells how a page is read. The French pages are held equal to the English ones in quick/docs/test_pages.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from fork_server import forks
from git_server import HERMETIC, GitServer, Repository, copy_collection
from mlflow import MlflowClient
from pages import assert_quoted, steps
from running import COLLECTION, Store

ADDRESS = "https://git.example.com/you/collection.git"  # of the collection, on every page
FRONT_PAGE = COLLECTION / "README.md"
# The run with whose model a page begins: the example and the entry point.
TRAINED = {
    "classification": ("classification", "logistic_regression"),
    "clustering": ("clustering", "kmeans"),
    "registry_deploy": ("classification", "decision_tree"),
}
# By the test_main.py of each and registry_deploy/test_story.py, which compare what is printed as well.
TYPED = {f"mlflow run {page} --env-manager local" for page in TRAINED}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What has Git find the collection, tagged v1, at the address that the pages use."""
    folder = tmp_path_factory.mktemp("served")
    repository = Repository(folder, tmp_path_factory.mktemp("tree"), "collection")
    copy_collection(repository.tree)
    repository.commit("The collection", tag="v1")
    with GitServer(folder) as server:
        yield {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{server.url('collection')}.insteadOf",
            "GIT_CONFIG_VALUE_0": ADDRESS,
            "NO_PROXY": "127.0.0.1",
        }


@pytest.mark.parametrize("page", ["classification", "clustering", "git_project", "registry_deploy"])
def test_the_page_of_an_example_does_what_it_says(
    page: str, served: dict[str, str], penguins: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(page)
    copy_collection(folder)
    prepare(folder, penguins)
    store = Store(tmp_path_factory.mktemp("store"))
    environment = {**store.environment, **served, "XDG_STATE_HOME": str(folder)}
    known: dict[str, str] = {}
    if page in TRAINED:
        example, entry_point = TRAINED[page]
        known["<run id>"] = store.mlflow_run(folder / example, entry_point).run.info.run_id
    typed = TYPED | {step.command for step in steps(FRONT_PAGE)}  # by the test of the front page below
    for step in steps(folder / page / "README.md"):
        if step.command in typed:
            continue
        command = step.command.replace("/full/path/of", str(folder))
        for placeholder in re.findall("<run id.*?>", command):
            command = command.replace(placeholder, known[placeholder])
        done = store.mlflow(as_the_shell_reads(command, folder), environment=environment, folder=folder)
        assert (done.code == 0) != any(line.startswith("Error:") for line in step.quoted), done.output
        assert_quoted(step.quoted, done.output)
        if model := re.search(r"runs:/([0-9a-f]{32})/", done.output):
            known.setdefault("<run id>", model[1])
        if done.begun:
            called = re.search(r" -e (\w+)", command)
            known[f"<run id of {called[1] if called else 'main'}>"] = done.begun.info.run_id


def prepare(folder: Path, penguins: Path) -> None:
    """The tables that the pages of the examples take from their reader."""
    shutil.copy(penguins, folder)
    table = pd.DataFrame(
        {"customer_id": range(200), "amount": [row % 50 for row in range(200)], "left": ["no", "yes"] * 100}
    )
    table.to_csv(folder / "my.csv", index=False)
    table.drop(columns="left").assign(other=[row % 7 for row in range(200)]).to_parquet(folder / "table.parquet")


def as_the_shell_reads(command: str, folder: Path) -> list[str]:
    """The arguments that a command line gives to `mlflow`."""
    assert command.startswith("mlflow ")
    script = f'mlflow() {{ printf "%s\\0" "$@"; }}\n{command}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


# What a command changes in the shell, so that the next one, which has a shell of its own, begins with it too.
LASTING = ("source ", "export ", "cd ")


def terminal(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a terminal on a machine with Python, git and make, without what the tests themselves use."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "VIRTUAL_", "PYTEST_"))}
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if part != here)
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **HERMETIC, **environment}


def follow(page: Path, folder: Path, environment: dict[str, str], fast: bool = False) -> None:
    """Type the commands of a page into a terminal, in a folder; each prints what the page quotes.

    `<run id>` in a command is the run whose model was printed last. The environment that is made first is the one that
    runs these tests: .ci/run makes one from nothing. fast: once it is active, programs start at once (fork_server.py).
    """
    lasting: list[str] = []
    run_id = ""
    for step in steps(page):
        command = "\n".join([*lasting, step.command.replace("<run id>", run_id)])
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=terminal(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{step.command}\n{done.stdout}"
        assert_quoted(step.quoted, done.stdout)
        if step.command.startswith(LASTING):
            lasting.append(step.command)
        if fast and step.command.startswith("source "):
            lasting.append(f"export PATH={forks()}:$PATH")
        if step.command.startswith("git clone"):
            (folder / "collection" / ".venv").symlink_to(Path(sys.executable).parent.parent)
        run_id = (re.findall(r"runs:/([0-9a-f]{32})/", done.stdout) or [run_id])[-1]


def test_a_newcomer_with_the_front_page_alone_serves_a_model_and_reproduces_a_run(
    served: dict[str, str], tmp_path: Path
) -> None:
    try:
        follow(FRONT_PAGE, tmp_path, {**served, "XDG_STATE_HOME": str(tmp_path)}, fast=True)
    finally:
        for process in psutil.process_iter(["cmdline"]):  # what serves on, where a step before the last one failed
            if str(tmp_path) in " ".join(process.info["cmdline"] or []):
                process.kill()
    clone = tmp_path / "collection"
    database = f"sqlite:///{clone / 'mlflow.db'}"
    runs = MlflowClient(database, database).search_runs(["0"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert (clone / "mlruns").is_dir()
    assert not list((clone / "classification").glob("mlflow.db*"))


def test_installing_as_the_page_says(tmp_path: Path) -> None:
    """With uv, which makes the environment of the example."""
    copy_collection(tmp_path)
    made = {"MLFLOW_ENV_ROOT": str(tmp_path / "environments"), "PIP_NO_COMPILE": "1"}  # used once
    follow(COLLECTION / "docs" / "install.md", tmp_path, made)
    assert list((tmp_path / "environments").iterdir())
