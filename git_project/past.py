"""A past run of an MLflow Project: where it came from, whether it can be run again, and what it did outside itself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_REPO_URL,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_PROJECT_ENV,
    MLFLOW_SOURCE_NAME,
)

from children import children_of
from repository import check_repository, without_credentials
from sameness import TEMPORARY
from support.table import bad

DIRTY = "mlflow.source.git.dirty"
RESOLVED = "resolved."  # resolved.version=<commit>: what `version` was when the run was made


@dataclass(frozen=True)
class Past:
    """A run to be reproduced, and the run of a project that it is or lies below.

    run: the one that the user named.
    line: the runs from the one that `mlflow run` made down to it.
    repo: the address of its repository, without a password.
    commit, folder: the full hash and the project's folder in the repository.
    env_manager: what made its environment; empty for local and where it is not recorded.
    dirty: whether the files that ran were not those of the commit; None where that is not recorded.
    checkout: the user's own folder from which it was run; empty where MLflow made a clone.
    parameters: as the user gave them, with those that its script logged.
    resolved: what parameters stood for that mean something else later, such as a branch: tags `resolved.<parameter>`.
    """

    run: Run
    line: list[Run]
    repo: str = ""
    commit: str = ""
    folder: str = ""
    entry_point: str = ""
    env_manager: str = ""
    dirty: bool | None = None
    checkout: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)

    @property
    def project_run(self) -> Run:
        """The run that `mlflow run` made."""
        return self.line[0]


def find(run_id: str, allow_dirty: bool) -> Past:
    """The run to reproduce.

    Raises click.BadParameter for a run that is unknown, deleted, unfinished or failed, that did not come from a commit
    of a repository, or whose files were not those of its commit (unless `allow_dirty`).
    """
    line = [_get(run_id)]
    while MLFLOW_PROJECT_ENTRY_POINT not in line[0].data.tags:
        if MLFLOW_PARENT_RUN_ID not in line[0].data.tags:
            raise bad("run_id", run_id, "is no run of an MLflow Project, nor lies below one.")
        line.insert(0, _get(line[0].data.tags[MLFLOW_PARENT_RUN_ID]))
    for each in (line[0], line[-1]):
        experiment = MlflowClient().get_experiment(each.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            cure = f"mlflow experiments restore -x {experiment.experiment_id} brings it back."
            raise bad("run_id", each.info.run_id, f"lies in a deleted experiment: {cure}")
        if each.info.lifecycle_stage == "deleted":
            raise bad("run_id", each.info.run_id, "is a deleted run: mlflow runs restore brings it back.")
        if each.info.status in ("RUNNING", "SCHEDULED"):
            raise bad("run_id", each.info.run_id, f"is still {each.info.status}: wait until it ends.")
        if each.info.status != "FINISHED":
            raise bad("run_id", each.info.run_id, f"ended as {each.info.status}: there is no result to reproduce.")
    past = _described(line)
    if not past.commit:
        raise bad("run_id", run_id, "has no commit: its project did not lie in a Git repository.")
    if not past.repo:
        raise bad("run_id", run_id, "has no repository: its project was run from a folder that has no remote.")
    if past.dirty and not allow_dirty:
        raise bad(
            "run_id",
            run_id,
            "was run with uncommitted changes (its artifact git.diff), which no commit holds: "
            "-P allow_dirty=true compares it all the same.",
        )
    try:
        check_repository(past.repo)
    except click.BadParameter:
        raise bad("run_id", run_id, f"came from {past.repo}, from which MLflow cannot fetch a commit.") from None
    return past


def _get(run_id: str) -> Run:
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException:
        where = f"{mlflow.get_tracking_uri()}, the store of this folder or of MLFLOW_TRACKING_URI"
        raise bad("run_id", run_id, f"is no run of {where}.") from None


def _described(line: list[Run]) -> Past:
    """The last run of a line, by what MLflow has recorded of the first."""
    tags = line[0].data.tags
    source, _, folder = tags.get(MLFLOW_SOURCE_NAME, "").partition("#")
    return Past(
        line[-1],
        line,
        without_credentials(tags.get(MLFLOW_GIT_REPO_URL, "")),
        tags.get(MLFLOW_GIT_COMMIT, ""),
        folder,
        tags[MLFLOW_PROJECT_ENTRY_POINT],
        tags.get(MLFLOW_PROJECT_ENV, ""),
        tags[DIRTY] == "true" if DIRTY in tags else None,
        source.removeprefix("file://") if source.startswith("file:") else "",
        {name: unquoted(value) for name, value in line[0].data.params.items()},
        {name.removeprefix(RESOLVED): value for name, value in tags.items() if name.startswith(RESOLVED)},
    )


def unquoted(value: str) -> str:
    """A parameter as the user gave it: MLflow records it as it stands on the command line, quoted for the shell."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == value else value


def foreseen(past: Past) -> list[str]:
    """What the past run did outside of itself, as far as was recorded: versions registered, places that it names."""
    found, runs = [], [past.project_run]
    for run in runs:
        runs += children_of(run)  # grows while it is read: the runs below the runs below it
        versions = MlflowClient().search_model_versions(f"run_id = '{run.info.run_id}'")
        found += [f"registered version {each.version} of {each.name}" for each in versions]
    inputs = past.project_run.inputs
    sources = " ".join(item.dataset.source for item in inputs.dataset_inputs) if inputs else ""
    for name, place in past.parameters.items():
        away = place.startswith(("/", "~", "s3:", "gs:", "abfss:", "dbfs:", "hdfs:")) and not TEMPORARY.match(place)
        if away and place not in sources:
            found.append(f"has {name}={place}, a place outside of it, to which it may have written")
    return found
