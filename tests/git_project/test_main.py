"""`main` runs entry points of a project in Git at one commit, and `predict` uses what came out."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from git_server import GitServer
from running import COLLECTION, PATIENCE, Outcome, Store, wait_until

GIT_PROJECT = COLLECTION / "git_project"
Left = Callable[[], list[object]]


@pytest.fixture(scope="module")
def two(store: Store, collection: Any, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`main` from the Git server, with two entry points at a tag: one of them with a parameter, two at a time."""
    parameters = {"version": "v1", "runs": "[decision_tree: {max_depth: 3}, gaussian_nb]", "jobs": 2}
    temporary = tmp_path_factory.mktemp("temporary")
    outcome = store.mlflow_run(
        f"{collection.url}#git_project", "main", parameters, environment={"TMPDIR": str(temporary)}
    )
    clones = [path.parent for path in temporary.rglob(".git")]
    assert len(clones) == 1, "MLflow leaves its clone of git_project behind, and that is all"
    assert not list(temporary.glob("git_project_*"))
    return outcome


def test_two_entry_points_at_a_tag(two: Outcome, store: Store, collection: Any) -> None:
    assert two.code == 0, two.output
    children = store.children(two.run)
    assert {child.info.run_name for child in children} == {"decision_tree max_depth=3", "gaussian_nb"}
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.source.git.commit"] == collection.commit
        assert child.data.tags["mlflow.source.name"] == f"{collection.url}#classification"
        assert "mlflow.project.env" not in child.data.tags  # that is local, handed on
    table = list(csv.DictReader(store.artifact(two.run, "children.csv").open()))
    assert [row["entry_point"] for row in table] == ["decision_tree", "gaussian_nb"]
    assert [row["parameters"] for row in table] == ["max_depth=3", ""]
    by_id = {child.info.run_id: child for child in children}
    for row in table:
        assert row["commit"] == collection.commit
        assert float(row["roc_auc"]) == by_id[row["run_id"]].data.metrics["roc_auc"]
    assert f"{collection.url}#classification at {collection.commit}\n" in two.output
    assert "\ndecision_tree max_depth=3 FINISHED   0." in two.output
    assert two.run.data.metrics == {"children": 2, "failed": 0}


def test_predict_with_all_and_with_the_best(two: Outcome, store: Store, tmp_path: Path) -> None:
    best = min(store.children(two.run), key=lambda child: child.data.metrics["log_loss"])
    parameters = {"run_id": two.run.info.run_id, "output": tmp_path, "batch_size": 3}
    outcome = store.mlflow_run(
        GIT_PROJECT, "predict", {**parameters, "metric": "log_loss", "greater_is_better": "false"}
    )
    assert outcome.code == 0, outcome.output
    every = pd.read_csv(tmp_path / "predictions.csv")
    alone = pd.read_csv(tmp_path / "best_predictions.csv")
    assert list(every.columns[-2:]) == ["decision_tree max_depth=3", "gaussian_nb"]
    assert len(every) == len(alone) == 4
    assert set(every["gaussian_nb"]) <= {"Yes", "No"}
    assert list(alone["prediction"]) == list(every[best.info.run_name])
    assert store.artifacts(outcome.run) >= {"predictions.csv", "best_predictions.csv"}
    agree = int((every.iloc[:, -2] == every.iloc[:, -1]).sum())
    assert outcome.run.data.metrics == {"instances": 4, "agreed": agree}
    assert f"4 instances, 2 models, which agree on {agree}." in outcome.output
    assert f"Best by log_loss: {best.info.run_name} (" in outcome.output


def test_the_default_is_every_entry_point_that_trains_one_classifier() -> None:
    def entry_points(example: str) -> dict[str, dict]:
        text = (COLLECTION / example / "MLproject").read_text(encoding="utf-8")
        return yaml.safe_load(text)["entry_points"]

    default = entry_points("git_project")["main"]["parameters"]["runs"]["default"].split(",")
    training = [name for name, point in entry_points("classification").items() if "train.py" in point["command"]]
    assert default == training


def test_a_private_repository(store: Store, foreign: Any, private: GitServer, installed: dict[str, str]) -> None:
    url = private.url(foreign.repository.bare.stem)
    parameters = {"repo": url, "project": ".", "runs": "main"}
    outcome = store.mlflow_run(GIT_PROJECT, "main", parameters, environment=installed)
    assert outcome.code == 1
    assert outcome.error == (
        f"The repository {url} asks for a user and password, and Git has none: set up a credential helper."
    )
    assert outcome.run.info.status == "FAILED"

    helper = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper"}
    known = {**helper, "GIT_CONFIG_VALUE_0": "!f() { echo username=ada; echo password=s3cret; }; f"}
    outcome = store.mlflow_run(GIT_PROJECT, "main", parameters, environment={**installed, **known})
    assert outcome.code == 0, outcome.output
    (child,) = store.children(outcome.run)
    assert child.data.tags["mlflow.source.git.repoURL"] == url
    assert "s3cret" not in outcome.output

    wrong = {**helper, "GIT_CONFIG_VALUE_0": "!f() { echo username=ada; echo password=w0rd; }; f"}
    outcome = store.mlflow_run(GIT_PROJECT, "main", {"repo": url}, environment=wrong)
    assert outcome.code == 1
    assert outcome.error == f"The repository {url} refuses the user and password that Git's credential helper gave."


def test_an_address_that_git_rewrites_and_a_short_commit(
    store: Store, foreign: Any, installed: dict[str, str], reproduce: Any
) -> None:
    url = "https://git.example.test/acme/demo.git"
    rewritten = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{foreign.repository.bare.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    (foreign.tree / "train.py").write_text("raise SystemExit('the newest commit is broken')\n")
    foreign.repository.commit("Broken")
    parameters = {"repo": url, "project": ".", "version": foreign.commit[:7], "runs": "main"}
    outcome = store.mlflow_run(GIT_PROJECT, "main", parameters, environment={**installed, **rewritten})
    assert outcome.code == 0, outcome.output
    (child,) = store.children(outcome.run)
    assert child.data.tags["mlflow.source.git.commit"] == foreign.commit
    assert child.data.tags["mlflow.source.git.repoURL"] == url
    found = reproduce(child, rewritten)
    assert found.outcome.code == 0, found.outcome.output
    assert found.report["repository"] == url


def test_main_is_reproduced_at_the_commit_of_then(
    store: Store, collection: Any, foreign: Any, installed: dict[str, str], reproduce: Any
) -> None:
    """`version=""` means the head of the default branch: that of then, also after it has moved on."""
    parameters = {"repo": foreign.url, "project": ".", "runs": "main"}
    outcome = store.mlflow_run(f"{collection.url}#git_project", "main", parameters, environment=installed)
    assert outcome.code == 0, outcome.output
    (foreign.tree / "train.py").write_text("raise SystemExit('the newest commit is broken')\n")
    foreign.repository.commit("Broken")
    collection.repository.commit("Moved on")
    found = reproduce(outcome.run)
    assert found.outcome.code == 0, found.outcome.output
    assert "\n- version was " + foreign.commit in found.outcome.output
    commits = [row["again"] for row in found.report["rows"] if row["kind"] == "commit" and row["run"]]
    assert commits == [foreign.commit] * 3  # the child, and the two runs below it


@contextmanager
def started(
    store: Store, script: str, parameters: dict[str, object], environment: dict[str, str], run: bool = False
) -> Iterator[Any]:
    """A script of git_project in a group of processes of its own, as a terminal makes one.

    run: whether `mlflow run` starts it, from MLproject.
    """
    command = [sys.executable, str(GIT_PROJECT / f"{script}.py")]
    if run:
        entry_point = {"run": "main"}.get(script, script)
        command[1:] = ["-m", "mlflow", "run", str(GIT_PROJECT), "-e", entry_point, "--env-manager", "local"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"] if run else [f"--{name}={value}"]
    output = Path(environment["TMPDIR"]).with_name("output.txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=store.folder,
            env={**store.environment, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for each in descendants(process.pid):
                each.kill()
            process.kill()


def descendants(pid: int) -> list[psutil.Process]:
    """The processes below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def await_process(pid: int, *words: str) -> psutil.Process:
    """The first process below one in whose command line all the words stand, as soon as there is one."""

    def found() -> psutil.Process | None:
        for process in descendants(pid):
            with suppress(psutil.Error):
                if set(words) <= set(process.cmdline()):
                    return process
        return None

    process = wait_until(found)
    assert process
    return process


def await_running(store: Store, number: int) -> None:
    """Wait until at least so many runs are RUNNING."""
    wait_until(lambda: len(store.client.search_runs(["0"], "attributes.status = 'RUNNING'")) >= number)


def test_children_that_are_killed(
    store: Store,
    foreign: Any,
    installed: dict[str, str],
    temporary: Path,
    left_behind: Left,
    users: dict[str, str],
) -> None:
    """A killed script, and a killed `mlflow run` whose script would live on: their runs fail, the third is kept."""
    environment = {**installed, **users, "TMPDIR": str(temporary), "FOREIGN_SECONDS": "3600"}
    runs = "[slow: {number: 1}, slow: {number: 2}, main]"
    parameters = {"repo": foreign.url, "project": ".", "runs": runs, "jobs": 3, "env_manager": "local"}
    with started(store, "run", parameters, environment) as process:
        script, orphan = (await_process(process.pid, "train.py", number) for number in ("1", "2"))
        await_running(store, 5)  # the parent, its two slow children, and a run that each of these has begun
        script.send_signal(signal.SIGKILL)
        await_process(process.pid, "run", "number=2").send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == 1
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert not left_behind()
    (parent,) = store.client.search_runs(["0"], f"tags.repo = '{foreign.url}'")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["error"] == "2 of 3 failed: slow number=1, slow number=2."
    statuses = {child.info.run_name: child.info.status for child in store.children(parent)}
    assert statuses == {"slow number=1": "FAILED", "slow number=2": "FAILED", "main": "FINISHED"}


@pytest.fixture
def slow(store: Store, foreign: Any, installed: dict[str, str]) -> dict[str, object]:
    """The parameters by which a run is reproduced that will take its time."""
    outcome = store.mlflow_run(foreign.url, "slow", {"number": 1}, environment=installed)
    assert outcome.code == 0, outcome.output
    return {"run_id": outcome.run.info.run_id, "env_manager": "local"}


def test_a_reproduction_that_is_killed_is_not_tried(
    store: Store,
    slow: dict[str, object],
    installed: dict[str, str],
    temporary: Path,
    left_behind: Left,
    users: dict[str, str],
) -> None:
    environment = {**installed, **users, "TMPDIR": str(temporary), "FOREIGN_SECONDS": "3600"}
    with started(store, "reproduce", slow, environment) as process:
        script = await_process(process.pid, "train.py", "1")
        await_running(store, 3)  # the reproduction, its child, and a run that this has begun
        script.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == 3
    assert not left_behind()
    (reproduction,) = store.client.search_runs(["0"], f"tags.reproduces = '{slow['run_id']}'")
    assert (reproduction.info.status, reproduction.data.tags["reproduced"]) == ("FAILED", "not tried")
    assert "reproduced" not in store.client.get_run(str(slow["run_id"])).data.tags


@pytest.mark.parametrize("script", ["run", "reproduce"])
def test_ctrl_c(
    script: str,
    store: Store,
    foreign: Any,
    slow: dict[str, object],
    installed: dict[str, str],
    temporary: Path,
    left_behind: Left,
    users: dict[str, str],
) -> None:
    environment = {**installed, **users, "TMPDIR": str(temporary), "FOREIGN_SECONDS": "3600"}
    runs = "[slow: {number: 1}, slow: {number: 2}, main]"
    two: dict[str, object] = {"repo": foreign.url, "project": ".", "runs": runs, "jobs": 2}
    parameters, numbers = (two, ("1", "2")) if script == "run" else (slow, ("1",))
    with started(store, script, parameters, environment, run=True) as process:
        scripts = [await_process(process.pid, "train.py", number) for number in numbers]
        await_running(store, 1 + 2 * len(numbers))  # the parent, its children, and a run that each of these has begun
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) != 0
        assert not psutil.wait_procs(scripts, timeout=PATIENCE)[1]
    assert not left_behind()
