"""Run projects from Git as child runs of the active run: several at a time, none left RUNNING, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus, ViewType
from mlflow.projects.submitted_run import LocalSubmittedRun, SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from repository import Project

PATIENCE = 20.0  # s that an interrupted child has to end by itself


@dataclass
class Child:
    """An entry point to run with its parameters, and what became of it."""

    entry_point: str
    parameters: dict[str, str] = field(default_factory=dict)
    run: Run | None = None
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
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


@dataclass(frozen=True)
class Start:
    """How children are started.

    parent: the active run, below which they stand.
    jobs: how many at a time.
    env_manager: conda, uv, virtualenv or local; None leaves it to MLflow.
    backend, backend_config: as `mlflow run -b` takes them.
    experiment_id: in which they run; otherwise that of the parent.
    ended: called with each child when it ends.
    """

    parent: Run
    jobs: int = 1
    env_manager: str | None = None
    backend: str = "local"
    backend_config: dict[str, Any] = field(default_factory=dict)
    experiment_id: str = ""
    ended: Callable[[Child], None] = lambda child: None


def run_children(project: Project, children: Sequence[Child], how: Start) -> None:
    """Run entry points of a project as child runs, each from a clone of its own at the one commit.

    children: what to run; each is given its run, its seconds and, where it failed, why.

    A child that fails does not stop the others. Must be called within `temporary_folder`, with the parent active. On
    Ctrl-C all are ended.
    """
    waiting = list(children)
    running: list[tuple[Child, SubmittedRun, float]] = []
    try:
        while waiting or running:
            while waiting and len(running) < how.jobs:
                child, started = waiting.pop(0), time.monotonic()
                if submitted := _submit(project, child, how):
                    running.append((child, submitted, started))
            time.sleep(0.3 if how.backend == "local" else 5)
            for entry in list(running):
                child, submitted, started = entry
                status = submitted.get_status()
                if RunStatus.is_terminated(RunStatus.from_string(status)):
                    running.remove(entry)
                    child.seconds = time.monotonic() - started
                    child.run = _finish(submitted, status)
                    if child.status != "FINISHED":
                        child.error = child.run.data.tags.get("error", "see what it printed")
                    how.ended(child)
    finally:
        if running:
            _stop([submitted for _, submitted, _ in running])
        end_below(how.parent)
        for child, submitted, _ in running:
            child.run = MlflowClient().get_run(submitted.run_id)


def _submit(project: Project, child: Child, how: Start) -> SubmittedRun | None:
    """Start a child: MLflow makes its environment first, then a process. None where that failed."""
    known = {run.info.run_id for run in children_of(how.parent)}
    started = time.monotonic()
    try:
        return mlflow.projects.run(
            project.uri,
            child.entry_point,
            project.commit,
            dict(child.parameters),
            experiment_id=how.experiment_id or how.parent.info.experiment_id,
            backend=how.backend,
            backend_config=dict(how.backend_config),
            synchronous=False,
            run_name=child.name[:200],
            env_manager=how.env_manager,
        )
    except Exception as error:  # a manager that is not there, a package that is not there, a full disk ...
        child.error = " ".join(str(error).split())[:500]
        child.seconds = time.monotonic() - started
        end_below(how.parent, known)
        child.run = next((run for run in children_of(how.parent) if run.info.run_id not in known), None)
        how.ended(child)
        return None


def end_below(parent: Run, known: Collection[str] = ()) -> None:
    """Mark what is still RUNNING below a run as FAILED, save the children in `known`: its processes have ended."""
    for run in children_of(parent):
        if run.info.run_id not in known:
            end_below(run)
            if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                MlflowClient().set_terminated(run.info.run_id, "FAILED")


def children_of(run: Run, deleted: bool = False) -> list[Run]:
    """The child runs of a run, in whichever experiment, however many, the first started first.

    deleted: also those that lie among the deleted ones.
    """
    return find_runs(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'", deleted)


def find_runs(condition: str, deleted: bool = False) -> list[Run]:
    """The runs of all experiments for which a condition holds, as MLflow writes one, the first started first."""
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=condition, run_view_type=view, output_format="list"
    )
    return sorted(found, key=lambda each: each.info.start_time)


def _finish(submitted: SubmittedRun, status: str) -> Run:
    """Bring a run whose process has ended with `status` to that status: one that was killed has left it RUNNING."""
    client = MlflowClient()
    run = client.get_run(submitted.run_id)
    if run.info.status != status:
        _signal(submitted, kill=True)  # the entry point outlives an `mlflow run` that was killed
        end_below(run)
        client.set_terminated(submitted.run_id, status)
    return client.get_run(submitted.run_id)


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
    if not isinstance(submitted, LocalSubmittedRun):
        if not kill:
            submitted.cancel()
    elif hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):  # MLflow makes each child the leader of a group of processes
            os.killpg(submitted.command_proc.pid, signal.SIGKILL if kill else signal.SIGINT)
    else:
        submitted.command_proc.terminate()
