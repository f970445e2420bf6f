"""The collection and a foreign project, each in a repository of its own behind a real Git server."""

from __future__ import annotations

import gc
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import mlflow
import mlflow.projects.backend.local
import pytest
from examples import module
from fork_server import forks, infer
from git_server import HERMETIC, GitServer, Repository, contents, copy_collection
from mlflow.entities import Run
from mlflow.projects.submitted_run import LocalSubmittedRun
from mlflow.utils import requirements_utils
from running import COLLECTION, Outcome, Store
from sqlalchemy import Engine

GIT_PROJECT = COLLECTION / "git_project"


@dataclass(frozen=True)
class Served:
    """A repository and its address. `commit`: the one with which it began."""

    repository: Repository
    url: str
    commit: str

    @property
    def tree(self) -> Path:
        """The working tree that pushes to it."""
        return self.repository.tree


@pytest.fixture(scope="session", autouse=True)
def hermetic() -> Iterator[None]:
    """Git without the settings of the person who runs the tests, in this process and in all that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in HERMETIC.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A Git server that lets everybody in."""
    with GitServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="session")
def private(server: GitServer) -> Iterator[GitServer]:
    """The same repositories for those who know the password."""
    with GitServer(server.folder, ("ada", "s3cret")) as private:
        yield private


@pytest.fixture(scope="session")
def collection(server: GitServer, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """This collection as it lies on disk, with the tag v1 on its first commit and another commit behind it."""
    repository = Repository(server.folder, tmp_path_factory.mktemp("trees") / "collection", "collection")
    copy_collection(repository.tree)
    commit = repository.commit("The collection", tag="v1")
    (repository.tree / "CHANGES").write_text("Nothing that matters.\n")
    repository.commit("More")
    return Served(repository, server.url("collection"), commit)


@pytest.fixture
def foreign(server: GitServer, tmp_path: Path) -> Served:
    """The foreign project at the top of a repository of its own."""
    name = f"foreign-{tmp_path.name}-{os.getpid()}"
    repository = Repository(server.folder, tmp_path / "tree", name)
    shutil.copytree(Path(__file__).with_name("foreign"), repository.tree, dirs_exist_ok=True)
    shutil.copy(COLLECTION / "requirements.txt", repository.tree / "pins.txt")
    return Served(repository, server.url(name), repository.commit("Foreign"))


AVERAGES = {
    "1.0": "def average(values):\n    return sum(values) / len(values)\n",
    "1.1": "def average(values):\n    return sorted(values)[len(values) // 2]\n",
}


def _publish(version: str, folder: Path) -> Path:
    path = folder / f"foreign_averages-{version}-py3-none-any.whl"
    info = f"foreign_averages-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("foreign_averages.py", f"__version__ = {version!r}\n\n\n{AVERAGES[version]}")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: foreign-averages\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="session")
def publish() -> Callable[[str, Path], Path]:
    """Puts a wheel of the package that the foreign project needs into a folder."""
    return _publish


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What lets the foreign project run with --env-manager local: its package on the path (Python reads wheels)."""
    wheel = _publish("1.0", tmp_path_factory.mktemp("wheels"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(wheel), os.environ.get("PYTHONPATH")]))}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files, in which nothing lies that another test left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def left_behind(store: Store, temporary: Path) -> Callable[[], list[object]]:
    """What should not be there: runs of the store that are still RUNNING, and clones among the temporary files."""

    def left_behind() -> list[object]:
        experiments = [each.experiment_id for each in store.client.search_experiments()]
        running = store.client.search_runs(experiments, "attributes.status = 'RUNNING'")
        return [*running, *temporary.rglob(".git"), *temporary.glob("git_project_*")]

    return left_behind


@pytest.fixture
def users(store: Store, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a command that a Git hook starts. What they name is the user's, and stays as it is.

    That is a repository with GIT_DIR set and a file that is not committed, and the environments that MLflow has made;
    and so do the registry and the packages that are installed here.
    """
    mine, environments = Repository(tmp_path, tmp_path / "mine", "mine"), tmp_path / "environments"
    (mine.tree / "notes.txt").write_text("not committed\n")
    environments.mkdir()
    (environments / "marker").write_text("made earlier\n")

    def state() -> list[object]:
        registry = [str(each) for each in store.client.search_registered_models()]
        versions = [str(each) for each in store.client.search_model_versions()]
        installed = sorted((each.name, each.version) for each in distributions())
        return [contents(mine.tree), contents(mine.bare), contents(environments), registry, versions, installed]

    before = state()
    yield {
        "GIT_DIR": str(mine.tree / ".git"),
        "GIT_WORK_TREE": str(mine.tree),
        "MLFLOW_ENV_ROOT": str(environments),
    }
    assert state() == before


RUN_ENTRY_POINT: Callable[..., LocalSubmittedRun] = mlflow.projects.backend.local._run_entry_point


def _forked(command: str, work_dir: str, experiment_id: str, run_id: str) -> LocalSubmittedRun:
    """Start an entry point, `python SCRIPT ...`, as MLflow does, in a fork of this process: no import takes seconds.

    A thread has no active run; a fork must not use the connections to the database that it inherits.
    """
    if not command.startswith("python "):
        return RUN_ENTRY_POINT(command, work_dir, experiment_id, run_id)
    child = os.fork()
    if child:
        waiting = subprocess.Popen([sys.executable, "-ISc", "pass"])
        _, status = os.waitpid(child, 0)
        waiting.wait()
        waiting.returncode = os.waitstatus_to_exitcode(status)
        return LocalSubmittedRun(run_id, waiting)
    code = 1

    def run() -> None:
        nonlocal code
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()

    for provider in mlflow.tracking.context.registry._run_context_provider_registry:
        getattr(provider, "_cache", {}).clear()  # it knows the commit of the tests' own repository
    for engine in [each for each in gc.get_objects() if isinstance(each, Engine)]:
        engine.dispose(close=False)
    os.chdir(work_dir)
    os.environ |= {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": experiment_id}
    sys.argv = shlex.split(command)[1:]
    sys.path.insert(0, work_dir)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@pytest.fixture
def in_process(store: Store, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Callable[..., Reproduction]:
    """`reproduce` in this process, and the projects in forks of it: the real functions on real runs."""
    monkeypatch.setattr(mlflow.projects.backend.local, "_run_entry_point", _forked)
    monkeypatch.setattr(mlflow.projects, "run", partial(_run_at_once, mlflow.projects.run))
    inferred = partial(infer, requirements_utils._run_command, f"{forks()}/python")
    monkeypatch.setattr(requirements_utils, "_run_command", inferred)
    monkeypatch.setenv("PATH", f"{forks()}{os.pathsep}{os.environ['PATH']}")  # of what a project starts itself
    monkeypatch.setenv("TMPDIR", str(temporary))
    (temporary.parent / "originals").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary.parent / "originals"))  # MLflow leaves its clones there
    command = module("git_project", "reproduce").reproduce

    def reproduce(run: Run, **options: object) -> Reproduction:
        options = {"run_id": run.info.run_id, "env_manager": "local", **options}
        with monkeypatch.context() as ours:
            ours.setattr(tempfile, "tempdir", str(temporary))
            code = command.main([f"--{name}={value}" for name, value in options.items()], standalone_mode=False)
        made = mlflow.last_active_run()
        assert made
        return Reproduction(Outcome(code or 0, "", store.client.get_run(made.info.run_id)), store)

    return reproduce


def _run_at_once(real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return real(*arguments, **{**options, "synchronous": True})


@dataclass
class Reproduction:
    """What `reproduce` did, and its report."""

    outcome: Outcome
    store: Store

    @property
    def report(self) -> dict[str, Any]:
        """The report as JSON."""
        return json.loads(self.store.artifact(self.outcome.run, "report.json").read_text())

    @property
    def page(self) -> str:
        """The report as a page."""
        return self.store.artifact(self.outcome.run, "report.md").read_text()

    @property
    def differences(self) -> set[tuple[str, str]]:
        """The kind and name of all that differs."""
        return {(row["kind"], row["name"]) for row in self.report["rows"] if row["same"] is False}


@pytest.fixture
def reproduce(
    store: Store, installed: dict[str, str], temporary: Path, left_behind: Callable[[], list[object]]
) -> Callable[..., Reproduction]:
    """`python reproduce.py` on a run, by default with all environments local: its exit code is the verdict.

    It leaves nothing behind, and the registry as it was.
    """

    def reproduce(run: Run | str, environment: dict[str, str] | None = None, **options: object) -> Reproduction:
        options = {"run_id": run if isinstance(run, str) else run.info.run_id, "env_manager": "local", **options}
        command = ["python", str(GIT_PROJECT / "reproduce.py"), *(f"--{name}={each}" for name, each in options.items())]
        path = f"{forks()}{os.pathsep}{store.environment['PATH']}"
        registered = len(store.client.search_model_versions())
        environment = {**installed, "PATH": path, "TMPDIR": str(temporary), **(environment or {})}
        outcome = store.run(command, environment=environment)
        assert not left_behind(), outcome.output
        assert len(store.client.search_model_versions()) == registered
        found = re.search(r"^Report: runs:/(\w{32})/report.md$", outcome.output, re.MULTILINE)
        return Reproduction(replace(outcome, begun=store.client.get_run(found[1]) if found else None), store)

    return reproduce
