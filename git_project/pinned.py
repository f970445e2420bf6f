"""A project at one commit of a repository, and what its MLproject file offers there."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repository import checkout
from support.table import bad

SCRIPTS = (".py", ".sh", ".R")  # files that `mlflow run -e` runs without an entry point in MLproject
SOURCES = (*SCRIPTS, ".ipynb", ".yaml", ".yml", ".toml", ".cfg", "")
LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Parameter:
    """A parameter that an entry point declares; `default` is None where it has none."""

    kind: str = "string"
    default: Any = None


@dataclass(frozen=True)
class Project:
    """A project in Git: its repository, a full commit hash, its folder there ("" at the top), and what lies in it.

    entry_points: those of MLproject with the parameters that they declare; none where there is no MLproject.
    environment: which key of MLproject says what it needs (conda_env, python_env, docker_env), or "".
    scripts: the files that can be run as entry points.
    source: the text of its programs.
    pointers: files that Git LFS holds and that are not here, because git-lfs is not.
    """

    repo: str
    commit: str
    folder: str = ""
    entry_points: dict[str, dict[str, Parameter]] | None = None
    environment: str = ""
    scripts: tuple[str, ...] = ()
    source: str = ""
    pointers: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The project as `mlflow run` takes it."""
        return f"{self.repo}#{self.folder}" if self.folder else self.repo

    def declared(self, entry_point: str) -> dict[str, Parameter]:
        """The parameters that an entry point declares; a script declares none."""
        return (self.entry_points or {}).get(entry_point, {})

    def has_option(self, name: str) -> bool:
        """Whether the project's programs have an option of a name that MLproject does not declare."""
        return bool(re.search(rf"--{re.sub('[-_]', '[-_]', re.escape(name))}\b", self.source))

    def check(self, entry_point: str, parameters: dict[str, str]) -> None:
        """Refuse to run what the project does not have at its commit.

        Raises click.BadParameter for an unknown entry point, and for a parameter that lacks a value.
        """
        if entry_point not in (self.entry_points or {}) and entry_point not in self.scripts:
            have = ", ".join([*(self.entry_points or {}), *([] if self.entry_points else self.scripts)]) or "none"
            at = f"of {self.uri} at {self.commit[:12]}"
            raise bad("runs", entry_point, f"is no entry point {at}; it has: {have}.")
        for name, parameter in self.declared(entry_point).items():
            if parameter.default is None and name not in parameters:
                raise bad("runs", entry_point, f"needs a value for its parameter {name}: {{{name}: ...}}.")


def load(repo: str, commit: str, folder: str) -> Project:
    """Read the MLproject file of a project at a commit.

    Raises click.UsageError where the commit, the folder or an MLproject file that can be read is lacking.
    """
    if "." in folder:
        raise bad("project", folder, "holds a dot, which MLflow does not allow in the folder of a project.")
    with tempfile.TemporaryDirectory() as clone:
        checkout(repo, commit, Path(clone))
        root = Path(clone) / folder
        if not root.is_dir():
            have = ", ".join(sorted(path.parent.name for path in Path(clone).glob("*/MLproject")))
            raise bad("project", folder, f"is no folder of {repo} at {commit[:12]}; there are projects in: {have}.")
        try:
            entry_points, environment = _mlproject(root)
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split()).replace(clone, "")
            raise bad("project", folder, f"has an MLproject file that MLflow cannot read: {reason}") from None
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".git" not in path.parts]
        pointers = [] if shutil.which("git-lfs") else [path for path in files if _starts_with(path, LFS)]
        source = [path for path in files if path.suffix in SOURCES and path.stat().st_size < 1_000_000]
        return Project(
            repo,
            commit,
            folder,
            entry_points,
            environment,
            tuple(path.relative_to(root).as_posix() for path in files if path.suffix in SCRIPTS),
            "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in source),
            tuple(path.relative_to(root).as_posix() for path in pointers),
        )


def _mlproject(folder: Path) -> tuple[dict[str, dict[str, Parameter]], str]:
    """The entry points that an MLproject file declares, and which environment it names."""
    file = next((path for path in folder.iterdir() if path.name.lower() == "mlproject"), None)
    said = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file else {}
    entry_points = {}
    for name, entry_point in (said.get("entry_points") or {}).items():
        declared = (entry_point.get("parameters") or {}).items()
        entry_points[str(name)] = {
            str(key): Parameter(
                said if isinstance(said, str) else said.get("type", "string"),
                None if isinstance(said, str) else said.get("default"),
            )
            for key, said in declared
        }
    files = {"python_env": "python_env.yaml", "conda_env": "conda.yaml"}  # MLflow takes them without being told
    named = [key for key in ("docker_env", *files) if key in said]
    return entry_points, next(iter([*named, *(key for key, name in files.items() if (folder / name).exists())]), "")


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
