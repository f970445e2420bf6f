"""Where a version came from, and how its own project is run again: at its commit, on other rows."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.projects.utils import load_project
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_PROJECT_ENV,
    MLFLOW_SOURCE_NAME,
)

from reference import Served
from support.entry_point import FOLDER
from support.table import is_url


def logged_table(name: str) -> str:
    """Where a project can read a file that the active run has logged: a copy of it, where only the server can."""
    uri = str(mlflow.get_artifact_uri(name))
    if uri.startswith("mlflow-artifacts:"):
        return str(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    return uri.removeprefix("file://")


@dataclass(frozen=True)
class Origin:
    """The `mlflow run` that a model came from.

    repo: address or folder of the repository. folder: of the project in it, "" at the top.
    commit: empty where none is recorded: then the folder is run as it is.
    parameters: as they were given. model_run: the name of the run that logged the model, if it lay below.
    """

    repo: str
    folder: str
    commit: str
    entry_point: str
    parameters: dict[str, str]
    model_run: str = ""

    @property
    def project(self) -> str:
        """The repository and the folder in it."""
        return f"{self.repo}#{self.folder}" if self.folder else self.repo

    @property
    def line(self) -> str:
        """The project and what pins it, in one line."""
        at = f"at {self.commit[:12]}" if self.commit else "as its files are now: no Git commit is recorded"
        return f"{self.project} -e {self.entry_point}, {at}"


def origin_of(served: Served) -> Origin:
    """The project that made a version.

    Raises click.ClickException where no `mlflow run` made it, or the project's folder is gone.
    """
    run, above = served.run, ""
    while MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags and MLFLOW_PARENT_RUN_ID in run.data.tags:
        run, above = MlflowClient().get_run(run.data.tags[MLFLOW_PARENT_RUN_ID]), str(served.run.info.run_name)
    tags = run.data.tags
    if MLFLOW_PROJECT_ENTRY_POINT not in tags:
        raise click.ClickException(f"{served.uri} was not made by `mlflow run`: its training cannot be run again.")
    repo, _, folder = tags[MLFLOW_SOURCE_NAME].partition("#")
    repo, commit = repo.removeprefix("file://"), tags.get(MLFLOW_GIT_COMMIT, "")
    if not _is_remote(repo):
        if not Path(repo).exists():
            raise click.ClickException(f"The project of {served.uri} lay in {repo}, which is gone.")
        top = _git("-C", repo, "rev-parse", "--show-toplevel")[0] if commit else ""
        if top:
            folder = (Path(repo) / folder).resolve().relative_to(Path(top).resolve()).as_posix().strip(".")
        repo, commit = top or repo, commit if top else ""
    return Origin(repo, folder, commit, tags[MLFLOW_PROJECT_ENTRY_POINT], dict(run.data.params), above)


def folder_of(place: str) -> Path:
    """A neighbour of this example, from a path relative to it. Raises click.UsageError where it is not there."""
    path = (FOLDER / place).resolve()
    if not path.is_dir():
        raise click.UsageError(f"{path} is not there: give its Git URL, https://host/repository.git#{path.name}.")
    return path


def project_of(place: str, entry_point: str, parameters: dict[str, str]) -> Origin:
    """A neighbour of this example as a project at a commit: the one that this run came from, where it came from Git.

    place: a folder, relative to this example's, or a Git URL with #folder. Says what is not pinned.

    Raises click.UsageError where there is none.
    """
    if _is_remote(place):
        repo, _, folder = place.partition("#")
        listed, why = _git("ls-remote", "--", repo, "HEAD")
        if not listed:
            raise click.UsageError(f"{repo} cannot be read: {why or 'it has no commit'}")
        return Origin(repo, folder, listed.split()[0], entry_point, parameters)
    path = folder_of(place)
    top, head = (_git("-C", str(path), "rev-parse", what)[0] for what in ("--show-toplevel", "HEAD"))
    if not top or not head:
        return Origin(str(path), "", "", entry_point, parameters)
    active = mlflow.active_run()
    source = MlflowClient().get_run(active.info.run_id).data.tags.get(MLFLOW_SOURCE_NAME, "") if active else ""
    repo = source.partition("#")[0] if _is_remote(source) else top  # MLflow's clone is gone after the run
    if _git("-C", str(path), "status", "--porcelain", "--", ".")[0]:
        click.echo(f"{path.name} has changes that are not committed: they are not in what is trained.")
    return Origin(repo, path.relative_to(Path(top).resolve()).as_posix(), head, entry_point, parameters)


def train_again(origin: Origin, data_parameter: str, data: str, run_name: str) -> tuple[str, Run]:
    """Run a project at its commit on other rows, with its own parameters; the URI of the model and the run.

    data_parameter: the name of its parameter that takes the table. data: the table.

    Raises click.ClickException where it fails or logs no model, or several.
    """
    with tempfile.TemporaryDirectory() as clone:
        place = Path(checked_out(origin, Path(clone)) if origin.commit else origin.repo) / origin.folder
        if not place.is_dir():
            raise click.ClickException(f"{origin.line}: there is no folder {origin.folder or place}.")
        try:
            declared = load_project(str(place)).get_entry_point(origin.entry_point).parameters
        except MlflowException as error:
            raise click.ClickException(f"{origin.line}: {str(error).splitlines()[0]}") from None
        if data_parameter not in declared:
            raise click.ClickException(f"{origin.line} has no parameter {data_parameter}: name it by data_parameter.")
        given = {name: _unquoted(value) for name, value in origin.parameters.items() if name in declared}
        given |= {data_parameter: data} | ({"drop": ""} if "drop" in given else {})  # what it dropped is not there
        run = run_project(str(place), origin.entry_point, given, run_name)
    # The clone is gone: the run names the repository, so that its model can be trained again as well.
    source = origin.project if _is_remote(origin.repo) else f"file://{origin.project}"
    MlflowClient().set_tag(run.info.run_id, MLFLOW_SOURCE_NAME, source)
    return _model_of(run, origin), run


def _unquoted(value: str) -> str:
    """A parameter as it was given: MLflow logs it as it stands in the command."""
    try:
        return " ".join(shlex.split(value))
    except ValueError:  # the project itself has logged it
        return value


def checked_out(origin: Origin, folder: Path) -> Path:
    """A commit of a repository in an empty folder, without its history. Never in the user's own working tree."""
    for command in (
        ["init", "--quiet", str(folder)],
        ["-C", str(folder), "remote", "add", "origin", "--", origin.repo],
        ["-C", str(folder), "fetch", "--quiet", "--depth=1", "origin", origin.commit],
        ["-C", str(folder), "checkout", "--quiet", "FETCH_HEAD"],
    ):
        if why := _git(*command)[1]:
            raise click.ClickException(f"{origin.repo} does not give the commit {origin.commit}: {why}")
    return folder


def _model_of(run: Run, origin: Origin) -> str:
    """The URI of the one model that a run logged or, where the original lay below, the run of the same name there."""
    filter_string = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'"
    children = mlflow.search_runs([run.info.experiment_id], filter_string, output_format="list")
    runs = [each for each in children if each.info.run_name == origin.model_run] if origin.model_run else [run]
    logged = [output.model_id for each in runs for output in (each.outputs.model_outputs if each.outputs else [])]
    if len(logged) != 1:
        raise click.ClickException(f"{origin.line} logged {len(logged)} models where one was expected.")
    return f"models:/{logged[0]}"


def run_project(uri: str, entry_point: str, parameters: dict[str, Any], run_name: str) -> Run:
    """Run an entry point of a project below the active run, with the environment manager of this run.

    uri: a folder, relative to this example's, or a Git URL with #folder.

    Raises click.ClickException with the reason that it gave where it fails.
    """
    run, ended = try_project(uri, entry_point, parameters, run_name)
    if not ended:
        why = run.data.tags.get("error", f"see run {run.info.run_id}")
        raise click.ClickException(f"{run_name} failed: {why}")
    return run


def try_project(uri: str, entry_point: str, parameters: dict[str, Any], run_name: str) -> tuple[Run, bool]:
    """As `run_project`, for an entry point that may end with a verdict: the run, and whether its exit code was 0."""
    active = mlflow.active_run()
    if active is None:
        raise RuntimeError("no active run")
    place = uri if _is_remote(uri) else str(folder_of(uri))
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # the children's own words, without MLflow's account
    try:
        submitted = mlflow.projects.run(
            place,
            entry_point,
            parameters={name: str(value) for name, value in parameters.items()},
            experiment_id=active.info.experiment_id,
            env_manager=MlflowClient().get_run(active.info.run_id).data.tags.get(MLFLOW_PROJECT_ENV, "local"),
            run_name=run_name,
            synchronous=False,
        )
        ended = submitted.wait()
    except MlflowException as error:  # ExecutionException too
        raise click.ClickException(f"{run_name}: {str(error).splitlines()[0]}") from None
    return MlflowClient().get_run(submitted.run_id), ended


def _is_remote(repo: str) -> bool:
    return (is_url(repo) and not repo.startswith("file:")) or repo.startswith("git@")


def _git(*arguments: str) -> tuple[str, str]:
    """What git prints, and why it failed: empty where it did not."""
    try:
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=environment)
    except OSError as error:
        return "", str(error)
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or ["git failed"])[-1]
    return done.stdout.strip(), ""
