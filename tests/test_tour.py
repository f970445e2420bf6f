"""The tour as a newcomer starts it: from the address of a Git repository; and ended by Ctrl-C.

What its steps ask of the examples is in quick/docs/test_tour.py; what these do, in the tests of each.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fork_server import forks
from git_server import HERMETIC, GitServer, Repository, copy_collection
from running import COLLECTION, PATIENCE, Outcome, Store, wait_until

STEPS = ["classification", "register", "reproduce"]
RUNS = ["classification", "register", "first gate", "reproduce"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """This collection, as it lies on disk."""
    tree = tmp_path_factory.mktemp("tree") / "collection"
    repository = Repository(tmp_path_factory.mktemp("served"), tree, "collection")
    copy_collection(tree)
    repository.commit("The collection")
    return repository


@pytest.fixture(scope="module")
def url(repository: Repository) -> Iterator[str]:
    """Its address on a Git server."""
    with GitServer(repository.bare.parent) as server:
        yield server.url("collection")


@pytest.fixture(scope="module")
def tour(store: Store, url: str) -> Outcome:
    """`mlflow run <git-url>`, the steps that hand runs and models from one example to another."""
    return store.mlflow_run(url, "main", {"only": ",".join(STEPS)}, environment=HERMETIC)


def test_the_tour_is_one_run_with_its_steps_below_it(tour: Outcome, store: Store) -> None:
    assert tour.code == 0, tour.output
    assert tour.run.info.run_name == "tour"
    children = store.children(tour.run)
    assert [run.info.run_name for run in children] == RUNS
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.info.experiment_id for run in children} == {tour.run.info.experiment_id}


def test_the_tour_is_readable_among_what_mlflow_says(tour: Outcome) -> None:
    told = tour.output[tour.output.index("[1/3]") : tour.output.index("The tour took")]
    # A fork has loaded MLflow already, with INFO lines that a real interpreter leaves out.
    assert not re.search(r"WARNING|Traceback|See the run", told)
    for number, name in enumerate(STEPS, start=1):
        assert re.search(rf"\n\n\[{number}/3\] {name}: .+\n.+\n.+\n\n    \$ mlflow run .+\n    \S", f"\n\n{told}"), name
    assert f"/runs/{tour.run.info.run_id}?workflowType" in tour.output.partition("The tour took")[2]


def test_the_first_classifier_passes_the_gate(tour: Outcome, store: Store) -> None:
    trained = store.children(tour.run)[0]
    champion = store.client.get_model_version_by_alias("churn_tour", "champion")
    assert trained.data.tags["best_model_uri"].split("/")[1] == champion.run_id


def test_the_first_step_is_reproduced(tour: Outcome) -> None:
    assert re.search(r"\n    Reproduced: .*\(4 runs, ", tour.output)


def test_the_commands_that_are_shown_start_from_the_same_repository(tour: Outcome, url: str) -> None:
    commands = re.findall(r"^    (?:\$ )?(mlflow run .*)$", tour.output, re.MULTILINE)
    assert len(commands) == len(RUNS) + 3
    assert all(re.match(rf"mlflow run '?{re.escape(url)}", command) for command in commands)


def test_the_whole_tour_is_reproduced_after_the_branch_has_moved_on(
    tour: Outcome, store: Store, repository: Repository
) -> None:
    """With the reproduction within it. Of the other steps: quick/docs/test_tour.py, "asks for the same"."""
    (repository.tree / "tour.py").write_text("raise SystemExit('the newest commit is broken')\n")
    repository.commit("Moved on")
    command = ["python", str(COLLECTION / "git_project" / "reproduce.py"), "--run_id", tour.run.info.run_id]
    path = f"{forks()}{os.pathsep}{store.environment['PATH']}"
    outcome = store.run([*command, "--env_manager", "local"], environment={**HERMETIC, "PATH": path})
    assert outcome.code == 0, outcome.output
    assert re.search(r"\nReproduced: what was compared is the same \(13 runs, ", outcome.output)
    assert len(store.client.search_model_versions("name = 'churn_tour'")) == 1


# Stand-ins for two examples, so that the moment of the Ctrl-C is certain: what they deploy is a file. MLflow puts the
# parameters behind a command; # hides them.
STAND_INS = {
    "classification": {"main": 'python -c \'import mlflow; mlflow.set_tag("best_model_uri", "models:/m-1")\''},
    "clustering": {"main": "false #"},
    "registry_deploy": {
        "register": "true",
        "promote": "true",
        "deploy": "touch ../deployed #",
        "score": "touch ../scoring; sleep 3600 #",
        "undeploy": "touch ../cleaning; while ! [ -e ../impatient ]; do sleep 0.1; done; rm ../deployed #",
    },
}


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with the tour and stand-ins for the examples."""
    copy_tour(tmp_path)
    for example, entry_points in STAND_INS.items():
        (tmp_path / example).mkdir()
        project = {"name": example, "entry_points": {name: {"command": text} for name, text in entry_points.items()}}
        (tmp_path / example / "MLproject").write_text(yaml.safe_dump(project))
    return tmp_path


def copy_tour(folder: Path) -> None:
    for name in ("tour.py", "MLproject"):
        shutil.copy(COLLECTION / name, folder)
    shutil.copytree(COLLECTION / "support", folder / "support", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "conda.yaml").write_text("dependencies: [python=3.11]\n")


def test_a_step_that_fails_is_named_and_the_others_are_played(stand_ins: Path, store: Store) -> None:
    outcome = store.mlflow_run(stand_ins, "main", {"only": "classification,clustering,register,reproduce"})
    assert outcome.code == 1
    assert outcome.error == "1 of 4 steps failed: clustering."
    assert re.search(r"\n    Failed: clustering: Run \(ID '\w+'\) failed\n", outcome.output)
    assert "\n    Left out: this folder is not in a Git repository" in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.error
    children = {run.info.run_name: run.info.status for run in store.children(outcome.run)}
    finished = dict.fromkeys(["classification", "register", "first gate"], "FINISHED")
    assert children == {**finished, "clustering": "FAILED"}


def test_ctrl_c_takes_the_deployment_down(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    only = "only=classification,register,deploy"
    command = [sys.executable, "-m", "mlflow", "run", str(stand_ins), "--env-manager", "local", "-P", only]
    process = subprocess.Popen(command, cwd=store.folder, env=store.environment, process_group=0)
    wait_until((stand_ins / "scoring").exists)
    assert (stand_ins / "deployed").exists()
    os.killpg(process.pid, signal.SIGINT)
    wait_until((stand_ins / "cleaning").exists)
    os.killpg(process.pid, signal.SIGINT)  # from an impatient user; it ends `mlflow run`, not the clean-up
    (stand_ins / "impatient").touch()
    assert process.wait(PATIENCE) != 0
    wait_until(lambda: not (stand_ins / "deployed").exists())
    wait_until(lambda: not store.client.search_runs(["0"], "attributes.status = 'RUNNING'"))
