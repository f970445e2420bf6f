"""The tour, as a newcomer starts it: from the address of a Git repository, and from a plain folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import yaml
from git_server import HERMETIC, GitServer, Repository, copy_collection
from running import COLLECTION, Outcome, Store

STEPS = ["classification", "clustering", "register", "gate", "deploy", "reproduce"]
RUNS = ["classification", "clustering", "register", "first gate", "challenger", "register again", "gate", "deploy"]
RUNS += ["score", "undeploy", "reproduce"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where deployments keep their state."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of this collection, as it lies on disk, on a Git server."""
    served = tmp_path_factory.mktemp("served")
    repository = Repository(served, tmp_path_factory.mktemp("tree") / "collection", "collection")
    copy_collection(repository.tree)
    repository.commit("The collection")
    with GitServer(served) as server:
        yield server.url("collection")


@pytest.fixture(scope="module")
def tour(store: Store, url: str, state: Path) -> Outcome:
    """`mlflow run <git-url>`."""
    return store.mlflow_run(url, environment={**HERMETIC, "XDG_STATE_HOME": str(state)})


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def processes_of(folder: Path) -> list[str]:
    """The command lines that name a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line:
            found.append(line)
    return found


def test_the_tour_is_one_run_with_its_steps_below_it(tour: Outcome, store: Store) -> None:
    assert tour.code == 0, tour.output
    children = store.children(tour.run)
    assert [run.info.run_name for run in children] == RUNS
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.info.experiment_id for run in children} == {tour.run.info.experiment_id}


def test_each_step_is_introduced_in_two_lines(tour: Outcome) -> None:
    for number, name in enumerate(STEPS, start=1):
        introduced = rf"\n\n\[{number}/6\] {name}: [A-Z].+[.?]\n[A-Z].+\n[A-Z].+\.\n\n    \$ mlflow run "
        assert re.search(introduced, tour.output), name


def test_the_tour_is_readable_among_what_mlflow_says(tour: Outcome) -> None:
    told = tour.output[tour.output.index("[1/6]") : tour.output.index("The tour took")]
    assert not re.search(r"INFO|WARNING|Traceback|See the run", told)
    assert f"/runs/{tour.run.info.run_id}\n" in tour.output.partition("The tour took")[2]


def test_the_champion_is_the_challenger_that_passed_the_gate(tour: Outcome, store: Store) -> None:
    challenger = next(run for run in store.children(tour.run) if run.info.run_name == "challenger")
    champion = store.client.get_model_version_by_alias("churn_tour", "champion")
    assert champion.run_id == challenger.info.run_id
    assert int(store.client.get_registered_model("churn_tour").aliases["previous"]) == 1


def test_what_was_served_is_what_the_model_predicts(tour: Outcome) -> None:
    customers = pd.read_json(COLLECTION / "registry_deploy" / "data" / "new_customers.jsonl", lines=True)
    model = mlflow.pyfunc.load_model("models:/churn_tour@champion")
    numbers = [column.name for column in model.metadata.get_input_schema().inputs if column.type.name == "double"]
    customers = customers.astype(dict.fromkeys(numbers, "float64"))
    scored = tour.output.partition("-e score")[2].partition("-e undeploy")[0]
    assert re.findall(r"^    \d .* (Yes|No)$", scored, re.MULTILINE) == list(model.predict(customers))
    assert len(customers) == 4


def test_the_first_step_is_reproduced(tour: Outcome) -> None:
    assert "\n    Reproduced: all is the same (4 runs, " in tour.output


def test_nothing_is_left_running(tour: Outcome, store: Store, state: Path) -> None:
    assert not store.client.search_runs(["0"], "attributes.status = 'RUNNING'")
    assert not processes_of(state)
    assert not [path for path in state.rglob("*") if path.is_file()]


def test_the_commands_that_are_shown_start_from_the_same_repository(tour: Outcome, url: str) -> None:
    commands = re.findall(r"^    (?:\$ )?(mlflow run .*)$", tour.output, re.MULTILINE)
    assert len(commands) == len(RUNS) + 3
    assert all(re.match(rf"mlflow run '?{re.escape(url)}", command) for command in commands)


def test_the_same_from_a_clone(url: str, state: Path, tmp_path: Path) -> None:
    """`mlflow run .`, as `make tour` has it; a first step, and its reproduction at the clone's own commit."""
    store = Store(tmp_path)
    subprocess.run(
        ["git", "clone", "--quiet", url, tmp_path / "clone"], env={**store.environment, **HERMETIC}, check=True
    )
    command = ["bash", "-c", "cd clone && mlflow run . --env-manager local -P only=classification,reproduce"]
    told = store.run(command, environment={**HERMETIC, "XDG_STATE_HOME": str(state)})
    assert told.code == 0, told.output
    assert [run.info.run_name for run in store.children(told.run)] == ["classification", "reproduce"]
    assert {run.info.status for run in store.client.search_runs(["0"])} == {"FINISHED"}
    assert "\n    Reproduced: all is the same (4 runs, " in told.output
    commands = re.findall(r"^    (?:\$ )?(mlflow run .*)$", told.output, re.MULTILINE)
    assert {command.split()[2] for command in commands} == {"classification", "git_project", "."}


def test_a_step_that_the_tour_does_not_have(url: str, store: Store) -> None:
    outcome = store.mlflow_run(url, "main", {"only": "classification,clusterin"}, environment=HERMETIC)
    assert outcome.code == 1
    assert outcome.error == (f"Invalid value for '--only': 'clusterin' is no step; choose from: {', '.join(STEPS)}.")
    assert outcome.run.info.status == "FAILED"


def test_a_step_without_the_one_that_it_needs(store: Store) -> None:
    outcome = store.run([sys.executable, str(COLLECTION / "tour.py"), "--only", "clustering,deploy"])
    assert outcome.code == 2
    needed = "'deploy' needs what an earlier step makes: say only=classification,register,deploy."
    assert outcome.error == f"Invalid value for '--only': {needed}"


def test_a_step_that_fails_is_named_and_the_others_go_on(store: Store, tmp_path: Path) -> None:
    copy_collection(tmp_path)  # a plain folder: no Git
    (tmp_path / "clustering" / "data" / "customers.csv").write_text("tenure,monthly_charges\n")
    outcome = store.mlflow_run(tmp_path, "main", {"only": "classification,clustering,reproduce"})
    assert outcome.code == 1
    assert outcome.error == "1 of 3 steps failed: clustering."
    assert "\n    Error: Invalid value for '--data': 'data/customers.csv' has a header but no rows.\n" in outcome.output
    assert re.search(r"\n    Failed: clustering: Run \(ID '\w+'\) failed\n", outcome.output)
    assert "\n    Left out: this folder is not in a Git repository" in outcome.output
    assert outcome.run.info.status == "FAILED"
    children = {run.info.run_name: run.info.status for run in store.children(outcome.run)}
    assert children == {"classification": "FINISHED", "clustering": "FAILED"}


# Stand-ins for two examples, so that the moment of the Ctrl-C is certain: what they deploy is a file. MLflow puts the
# parameters behind a command; # hides them.
STAND_INS = {
    "classification": {"main": 'python -c \'import mlflow; mlflow.set_tag("best_model_uri", "models:/m-1")\''},
    "registry_deploy": {
        "register": "true",
        "promote": "true",
        "deploy": "touch ../deployed #",
        "score": "touch ../scoring; sleep 60 #",
        "undeploy": "sleep 1; rm ../deployed #",
    },
}


def test_ctrl_c_takes_the_deployment_down(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shutil.copy(COLLECTION / "tour.py", tmp_path)
    shutil.copy(COLLECTION / "MLproject", tmp_path)
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.11]\n")
    for example, entry_points in STAND_INS.items():
        (tmp_path / example).mkdir()
        project = {"name": example, "entry_points": {name: {"command": text} for name, text in entry_points.items()}}
        (tmp_path / example / "MLproject").write_text(yaml.safe_dump(project))
    only = "only=classification,register,deploy"
    command = [sys.executable, "-m", "mlflow", "run", str(tmp_path), "--env-manager", "local", "-P", only]
    process = subprocess.Popen(command, cwd=store.folder, env=store.environment, process_group=0)
    wait_until((tmp_path / "scoring").exists)
    assert (tmp_path / "deployed").exists()
    for _ in range(2):  # the second from an impatient user; it ends `mlflow run`, not the clean-up
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
    assert process.wait(60) != 0
    wait_until(lambda: not (tmp_path / "deployed").exists())
    wait_until(lambda: not store.client.search_runs(["0"], "attributes.status = 'RUNNING'"))
