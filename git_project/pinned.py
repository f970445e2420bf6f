"""A project at one commit of a repository, and what its MLproject file offers there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow.exceptions import MlflowException
from mlflow.projects.utils import load_project

from repository import checkout
from support.table import bad


@dataclass(frozen=True)
class Project:
    """A project in Git: its repository, a full commit hash, its folder there ("" at the top), and what MLproject says.

    entry_points: for each entry point its parameters, with their defaults (None where there is none).
    has_environment: whether it says what it needs: conda.yaml, python_env.yaml or an image.
    """

    repo: str
    commit: str
    folder: str
    entry_points: dict[str, dict[str, Any]]
    has_environment: bool

    @property
    def uri(self) -> str:
        """The project as `mlflow run` takes it."""
        return f"{self.repo}#{self.folder}" if self.folder else self.repo

    def check(self, entry_point: str, parameters: dict[str, str]) -> None:
        """Refuse to run what the project does not have at its commit.

        Raises click.BadParameter for an unknown entry point, an unknown parameter and one that lacks a value.
        """
        at = f"of {self.uri} at {self.commit[:12]}"
        if entry_point not in self.entry_points:
            have = ", ".join(self.entry_points) or "none"
            raise bad("runs", entry_point, f"is no entry point {at}; it has: {have}.")
        declared = self.entry_points[entry_point]
        for name in parameters:
            if name not in declared:
                have = ", ".join(declared) or "none"
                raise bad("runs", name, f"is no parameter of the entry point {entry_point} {at}; it has: {have}.")
        for name, default in declared.items():
            if default is None and name not in parameters:
                raise bad("runs", entry_point, f"needs a value for its parameter {name}: {{{name}: ...}}.")


def load(repo: str, commit: str, folder: str) -> Project:
    """Read the MLproject file of a project at a commit.

    Raises click.UsageError where the commit, the folder or an MLproject file that MLflow can read is lacking.
    """
    if "." in folder:
        raise bad("project", folder, "holds a dot, which MLflow does not allow in the folder of a project.")
    with tempfile.TemporaryDirectory() as clone:
        checkout(repo, commit, Path(clone))
        if not (Path(clone) / folder).is_dir():
            have = ", ".join(sorted(path.parent.name for path in Path(clone).glob("*/MLproject")))
            raise bad("project", folder, f"is no folder of {repo} at {commit[:12]}; there are projects in: {have}.")
        try:
            spec = load_project(str(Path(clone) / folder))
            entry_points = {
                name: {parameter.name: parameter.default for parameter in entry.parameters.values()}
                for name, entry in spec._entry_points.items()  # MLflow offers no other way to list them
            }
        except (MlflowException, yaml.YAMLError, AttributeError) as error:
            reason = " ".join(str(error).split()).replace(clone, "")
            raise bad("project", folder, f"has an MLproject file that MLflow cannot read: {reason}") from None
    return Project(repo, commit, folder, entry_points, bool(spec.env_config_path or spec.docker_env))
