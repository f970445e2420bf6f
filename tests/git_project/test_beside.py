"""`reproduce` on scripts that begin runs beside their own: how many there were, and whose they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from git_server import GitServer, Repository
from mlflow.entities import Run
from running import Store

PROJECTS = Path(__file__).with_name("projects")
REPRODUCED, NOT_REPRODUCED = 0, 1
Start = Callable[..., Run]
ALL = "Reproduced: all is the same (3 runs, 3 commits, 3 parameters, 3 metrics)."


@pytest.fixture
def loop(server: GitServer, in_process: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs a project that loops over `start_run`, so many times, from a repository of its own."""
    name = f"loop-{tmp_path.name}"
    repository = Repository(server.folder, tmp_path / "tree", name)
    shutil.copytree(PROJECTS / "loop", repository.tree, dirs_exist_ok=True)
    repository.commit("A loop")

    def loop(runs: int = 3) -> Run:
        monkeypatch.setenv("RUNS", str(runs))
        return mlflow.get_run(mlflow.projects.run(server.url(name), "train.py", env_manager="local").run_id)

    return loop


@pytest.mark.parametrize(
    ("before", "now", "among"),
    [(3, 1, False), (3, 2, True), (1, 3, True), (2, 3, False)],
)
def test_fewer_or_more_runs_than_before_is_a_difference(
    before: int, now: int, among: bool, loop: Start, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [loop(before)] if among else []
    original = loop(before)
    others += [loop(before)] if among else []
    monkeypatch.setenv("RUNS", str(now))
    found = in_process(original)
    assert found.outcome.code == NOT_REPRODUCED, found.page
    assert found.differences == {("run", "status")}
    assert sum(row["same"] is False for row in found.report["rows"]) == abs(before - now)


def test_as_many_runs_as_before(loop: Start, in_process: Any) -> None:
    loop()
    original = loop()
    loop()
    for _ in range(2):
        found = in_process(original)
        assert found.report["verdict"] == ALL, found.page
        assert "Beside its own run the script began 2; beside the original were 2." in found.page
    again = mlflow.get_run(found.report["again"])
    assert in_process(again).report["verdict"] == ALL


def test_runs_that_were_deleted_are_still_compared(loop: Start, in_process: Any, store: Store) -> None:
    original = loop()
    store.client.delete_run(beside(store, original)[0].info.run_id)
    assert in_process(original).report["verdict"] == ALL


def test_on_a_server_with_accounts(loop: Start, in_process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There `mlflow run` records the user of the machine, and `start_run` that of the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    original = loop()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    assert in_process(original).report["verdict"] == ALL


def begin(store: Store, like: Run, start: int, end: int, **tags: str) -> None:
    """A run of the commit of another one, of which no more is known than when it was."""
    kept = ("mlflow.user", "mlflow.source.git.commit", "mlflow.source.git.repoURL")
    tags = {name: like.data.tags[name] for name in kept} | tags
    made = store.client.create_run(like.info.experiment_id, start, tags).info.run_id
    store.client.set_terminated(made, end_time=end)


def beside(store: Store, run: Run) -> list[Run]:
    """The runs that lie below none, of the commit of a run and begun after it."""
    tag = f"tags.`mlflow.source.git.commit` = '{run.data.tags['mlflow.source.git.commit']}'"
    found = store.client.search_runs(
        [run.info.experiment_id], f"{tag} and attributes.start_time > {run.info.start_time}"
    )
    return sorted(found, key=lambda each: each.info.start_time)


@pytest.mark.parametrize("runs", [3, 1])
def test_a_run_of_the_project_at_the_same_time_is_not_mixed_in(
    runs: int, loop: Start, in_process: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing records which of the two began the runs beside them: none is called the same, or another."""
    original = loop()
    second, third = beside(store, original)
    start = second.info.start_time
    project = {"mlflow.project.entryPoint": "train.py", "mlflow.source.name": original.data.tags["mlflow.source.name"]}
    begin(store, original, original.info.start_time + 1, third.info.end_time + 50, **project)
    begin(store, original, start + 1, start + 2, **{"mlflow.source.name": "train.py"})
    monkeypatch.setenv("RUNS", str(runs))
    found = in_process(original)
    assert found.outcome.code == REPRODUCED, found.page
    left_out = 2 if runs == 3 else 3
    assert f"not compared: {left_out} runs" in found.report["verdict"]
    assert "another run of the project was made at the same time" in found.page


def test_runs_by_hand_soon_after_are_said_and_decide_nothing(loop: Start, in_process: Any, store: Store) -> None:
    original = loop(1)
    end = original.info.end_time
    begin(store, original, end + 1_100, end + 1_200, **{"mlflow.source.name": "train.py"})
    begin(store, original, end - 1, end + 1_200, **{"mlflow.source.name": "train.py", "mlflow.user": "another"})
    begin(store, original, end - 1, end + 1_200, **{"mlflow.source.name": "evaluate.py"})
    time.sleep(1.2)
    begin(store, original, end + 40_000_000, end + 41_000_000, **{"mlflow.source.name": "train.py"})
    found = in_process(original)
    assert found.outcome.code == REPRODUCED, found.page
    assert found.report["verdict"].endswith("not compared: 3 runs.")
