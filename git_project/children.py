"""Run projects from Git as child runs of the active run: several at a time, none left RUNNING, nothing left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from mlflow.projects.submitted_run import LocalSubmittedRun, SubmittedRun

from repository import Project
from support.table import bad

PATIENCE = 20.0  # s that an interrupted child has to end by itself


@dataclass
class Child:
    """An entry point to run with its parameters, and what became of it."""

    entry_point: str
    parameters: dict[str, str] = field(default_factory=dict)
    submitted: SubmittedRun | None = None  # what MLflow started
    started: float = 0.0  # s of `time.monotonic`
    run: Run | None = None  # once it has ended
    seconds: float = 0.0
    error: str = ""

    @property
    def name(self) -> str:
        """The entry point and the parameters that were given: `knn n_neighbors=5`."""
        return " ".join([self.entry_point, *(f"{key}={value}" for key, value in self.parameters.items())])

    @property
    def status(self) -> str:
        """The status of its run; where there is none, FAILED or, when it was never its turn, NOT RUN."""
        if self.run:
            return self.run.info.status
        return "FAILED" if self.error else "NOT RUN"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for all that is temporary within the block, with MLflow's clones, which it would leave behind."""
    with tempfile.TemporaryDirectory(prefix="git_project_", ignore_cleanup_errors=True) as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            with environment(TMPDIR=folder):
                yield Path(folder)
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables of the environment that hold within the block."""
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
        os.environ.update(before)


def run_children(
    project: Project,
    children: Sequence[Child],
    parent: Run,
    jobs: int = 1,
    ended: Callable[[int, Child], None] = lambda number, child: None,
    **options: Any,
) -> None:
    """Run entry points of a project as children of the active run, each from a clone of its own at the one commit.

    children: what to run; each is given its run, its seconds and, where it failed, why.
    jobs: how many at a time.
    ended: called with each child when it ends, and with how many have ended.
    options: experiment_id, env_manager, backend and backend_config, as `mlflow.projects.run` takes them.

    A child that fails does not stop the others. Must be called within `temporary_folder`. On Ctrl-C all are ended.
    """
    options = {"experiment_id": parent.info.experiment_id, "backend": "local", **options}
    waiting, running, done = list(children), list[Child](), itertools.count(1)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(waiting.pop(0))
                _submit(project, running[-1], parent, options)
            time.sleep(0.3 if options["backend"] == "local" else 5)
            for child in [each for each in running if _has_ended(each)]:
                running.remove(child)
                child.seconds = time.monotonic() - child.started
                ended(next(done), child)
    finally:
        _stop([child.submitted for child in running if child.submitted])
        end_below(parent)
        for child in running:
            child.run = MlflowClient().get_run(child.submitted.run_id) if child.submitted else child.run


def _submit(project: Project, child: Child, parent: Run, options: dict[str, Any]) -> None:
    """Start a child: MLflow makes its environment first, then a process."""
    child.started, known = time.monotonic(), [run.info.run_id for run in children_of(parent)]
    how = {"synchronous": False, "run_name": child.name[:200], **options}
    try:
        child.submitted = mlflow.projects.run(
            project.uri, child.entry_point, project.commit, dict(child.parameters), **how
        )
    except Exception as error:  # a manager that is not there, a package that is not there, a full disk ...
        child.error = " ".join(str(error).split())[:500]
        end_below(parent, known)
        child.run = next((run for run in children_of(parent) if run.info.run_id not in known), None)


def _has_ended(child: Child) -> bool:
    """Whether the process of a child is gone; its run gets its status, as one that was killed has left it RUNNING."""
    if child.submitted is None:
        return True
    client, status = MlflowClient(), child.submitted.get_status()
    if not RunStatus.is_terminated(RunStatus.from_string(status)):
        return False
    child.run = client.get_run(child.submitted.run_id)
    if child.run.info.status != status:
        _signal(child.submitted, kill=True)  # the entry point outlives an `mlflow run` that was killed
        end_below(child.run)
        client.set_terminated(child.submitted.run_id, status)
        child.run = client.get_run(child.submitted.run_id)
    if status != "FINISHED":
        child.error = child.run.data.tags.get("error", "see what it printed")
    return True


def end_below(parent: Run, known: Sequence[str] = ()) -> None:
    """Mark what is still RUNNING below a run as FAILED, save the children in `known`: its processes have ended."""
    for run in children_of(parent):
        if run.info.run_id not in known:
            end_below(run)
            if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                MlflowClient().set_terminated(run.info.run_id, "FAILED")


def get_run(run_id: str) -> Run:
    """The run of an id, which may also stand in `runs:/<id>/...` or in the address of its page.

    Raises click.BadParameter where the tracking store has none.
    """
    bare = re.sub(r"(runs:/+|.*/runs/)([^/?#]+).*", r"\2", run_id.strip())
    try:
        return MlflowClient().get_run(bare)
    except MlflowException:
        where = f"{mlflow.get_tracking_uri()}, the store of this folder or of MLFLOW_TRACKING_URI"
        form = "" if re.fullmatch("[0-9a-f]{32}", bare) else "; give the 32 digits of its id, or runs:/<id>"
        raise bad("run_id", run_id, f"is no run of {where}{form}.") from None


def tree_of(run: Run) -> list[Run]:
    """A run and all the runs below it, the upper ones first."""
    runs = [run]
    for each in runs:
        runs += children_of(each)  # grows while it is read
    return runs


def children_of(run: Run, deleted: bool = False) -> list[Run]:
    """The child runs of a run, in whichever experiment, however many, the first started first.

    deleted: also those that lie among the deleted ones.
    """
    return find_runs(f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", deleted)


def find_runs(condition: str, deleted: bool = False) -> list[Run]:
    """The runs of all experiments for which a condition holds, as MLflow writes one, the first started first."""
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=condition, run_view_type=view, output_format="list"
    )
    return sorted(found, key=lambda each: each.info.start_time)


def _stop(submitted: list[SubmittedRun]) -> None:
    """Interrupt children as Ctrl-C does, so that they can end their own runs, and kill what is then still there."""
    for each in submitted:
        _signal(each)
    patience = time.monotonic() + PATIENCE
    for each in submitted:
        if isinstance(each, LocalSubmittedRun):
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.command_proc.wait(max(0, patience - time.monotonic()))
        _signal(each, kill=True)


def _signal(submitted: SubmittedRun, kill: bool = False) -> None:
    if isinstance(submitted, LocalSubmittedRun) and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):  # MLflow makes each child the leader of a group of processes
            os.killpg(submitted.command_proc.pid, signal.SIGKILL if kill else signal.SIGINT)
    elif not kill:
        submitted.cancel()
