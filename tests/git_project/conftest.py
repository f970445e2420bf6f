"""The collection and a foreign project, each in a repository of its own behind a real Git server."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from git_server import HERMETIC, GitServer, Repository, copy_collection
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store

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
        running = store.client.search_runs(["0"], "attributes.status = 'RUNNING'")
        return [*running, *temporary.rglob(".git"), *temporary.glob("git_project_*")]

    return left_behind


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
    def differences(self) -> set[tuple[str, str]]:
        """The kind and name of all that differs."""
        return {(row["kind"], row["name"]) for row in self.report["differences"]}


@pytest.fixture
def reproduce(
    store: Store, installed: dict[str, str], temporary: Path, left_behind: Callable[[], list[object]]
) -> Callable[..., Reproduction]:
    """`mlflow run git_project -e reproduce` on a run, by default with all environments local; it leaves nothing."""

    def reproduce(run: Run | str, environment: dict[str, str] | None = None, **parameters: object) -> Reproduction:
        run_id = run if isinstance(run, str) else run.info.run_id
        parameters = {"run_id": run_id, "env_manager": "local", **parameters}
        environment = {**installed, "TMPDIR": str(temporary), **(environment or {})}
        outcome = store.mlflow_run(GIT_PROJECT, "reproduce", parameters, environment=environment)
        assert not left_behind(), outcome.output
        return Reproduction(outcome, store)

    return reproduce
