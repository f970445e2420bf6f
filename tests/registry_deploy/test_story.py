"""`mlflow run registry_deploy` tells a model's whole life, and again; it leaves nothing running, even after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pages import assert_quoted, steps
from running import COLLECTION, PATIENCE, Outcome, Store, wait_until

EXAMPLE = COLLECTION / "registry_deploy"


def left_behind(folder: Path) -> list[str]:
    """The command lines of processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(process.cwd()).startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def check(outcome: Outcome, store: Store, folder: Path) -> None:
    """The whole story is told; nothing runs any more, nor is left in `folder`."""
    assert outcome.code == 0, outcome.output
    for step in range(1, 11):
        assert f"[{step}/10]" in outcome.output
    assert "churn_story@champion -> version 2, churn_story@previous -> version 1" in outcome.output
    answers = re.search(r"answers: [\d,]+ by version 1, [\d,]+ by version 2; lost: 0", outcome.output)
    assert answers, outcome.output
    aliases = store.client.get_registered_model("churn_story").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"champion": "1"}
    print(answers[0], re.search(r"Told in \d+ s", outcome.output))
    assert outcome.run.data.metrics["requests_lost"] == 0
    assert outcome.run.data.metrics["requests_answered"] > 0
    assert outcome.run.data.tags["mlflow.source.git.dirty"] in ("true", "false")

    children = {child.info.run_name: child for child in store.children(outcome.run)}
    assert set(children) == {"decision_tree", "gradient_boosting", "first champion", "too strict", "challenger"}
    assert children["challenger"].data.tags["decision"] == "promoted"
    assert children["challenger"].data.metrics["improvement_low"] > 0
    assert children["too strict"].data.tags["decision"] == "refused"

    assert "answers at http://127.0.0.1:" in outcome.output
    wait_until(lambda: not left_behind(folder))
    assert not list(folder.rglob("endpoint"))
    assert not list(EXAMPLE.glob("mlflow.db*"))
    assert not (EXAMPLE / "mlruns").exists()


def test_the_story_as_the_page_tells_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    outcome = store.mlflow_run(EXAMPLE, environment={"TMPDIR": str(folder)})
    check(outcome, store, folder)
    assert_quoted(steps(EXAMPLE / "README.md")[0].quoted, outcome.output)


def test_a_model_that_is_no_story_is_left_alone(store: Store) -> None:
    store.client.create_registered_model("not a story")
    outcome = store.mlflow_run(EXAMPLE, "main", {"name": "not a story"})
    assert "'not a story' is a registered model that this story did not make" in outcome.error
    assert outcome.run.info.status == "FAILED"


def test_told_again_and_stopped_by_ctrl_c(store: Store, tmp_path: Path) -> None:
    """Of the same registered model; all that the story started ends with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *steps(EXAMPLE / "README.md")[0].command.split()],  # as the page has it
        cwd=COLLECTION,
        env={**store.environment, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal makes one
    )
    assert process.stdout
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith("[8/10]"):
            break
    else:
        pytest.fail(f"the story ended before its eighth step:\n{told}")
    assert "churn_story@champion -> version 4, churn_story@previous -> version 3" in told
    wait_until(lambda: left_behind(tmp_path))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode
    wait_until(lambda: not left_behind(tmp_path))
