"""The backend itself: check, create the run, upload, submit, wait."""

from __future__ import annotations

import io
import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError
from databricks.sdk.service.compute import ClusterSpec, Environment, Library
from databricks.sdk.service.jobs import JobEnvironment, JobRunAs, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.utils import fetch_and_validate_project, get_or_create_run, load_project
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATABRICKS_RUN_URL,
    MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID,
    MLFLOW_DATABRICKS_WEBAPP_URL,
    MLFLOW_PROJECT_ENTRY_POINT,
)

from mlflow_databricks_jobs.config import JobConfig, check_pins, python_of, read_config
from mlflow_databricks_jobs.project import command_of, pack, requirement_files, requirements_of
from mlflow_databricks_jobs.submitted_job import SubmittedJob, close_runs, one_line, remove_upload

PATIENCE = 300  # seconds for which the SDK asks a busy workspace again
KNOCKING = 30  # seconds until a workspace must have let us in
LARGEST = 10 * 1024 * 1024  # bytes that the import of a workspace file takes
RUNNER = Path(__file__).with_name("run_entry_point.py")
FAILURES = (DatabricksError, MlflowException, OSError, ValueError)  # of a request, its time-out among them


class JobsBackend(AbstractBackend):
    """`-b databricks-jobs`: each run of a project is a one-time run of Lakeflow Jobs."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, str] | None,
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str | None,
    ) -> SubmittedJob:
        """Submit an entry point; `mlflow run` on the command line also waits here, because MLflow does not.

        Raises ExecutionException, one line, for whatever goes wrong. No run is RUNNING and no job active afterwards.
        """
        params, config = params or {}, read_config(backend_config)
        try:
            ready = prepare(project_uri, entry_point, params, version, config, tracking_uri, experiment_id)
        except FAILURES as error:
            raise ExecutionException(one_line(error)) from None
        client, project, folder = ready.client, ready.project, ready.folder

        run_id, place, job, good = "", "", None, True
        try:
            place = place_of(client, config)
            upload(client, place, pack(folder, ready.command), ready.requirements)
            name = f"{project.name or folder.name} {entry_point}"
            with uninterrupted():  # otherwise there might be a run, or a job, of which nobody knows
                run_id = create_run(project_uri, ready.experiment_id, folder, version, entry_point, params)
                words = [place, run_id, ready.experiment_id]
                job = submit(client, config, name, words, ready.requirements)
            describe(client, job, config)
            if waits(config):
                good = job.wait()
        except BaseException as error:  # Ctrl-C too
            undo(client, job, place, run_id)
            if isinstance(error, FAILURES):
                raise ExecutionException(one_line(error)) from None
            raise
        if not good:
            raise ExecutionException(f"The run {run_id} failed.")
        return job


def undo(client: WorkspaceClient, job: SubmittedJob | None, place: str, run_id: str) -> None:
    """Cancel the job, or remove the upload where there is none, and end the run; empty texts where there is nothing."""
    with uninterrupted():
        if job:
            job.cancel()
        elif place:
            remove_upload(client, place)
        if run_id:
            close_runs(run_id, "FAILED")


@dataclass(frozen=True)
class Ready:
    """What was found in order before a run exists: the workspace, the project, and how its entry point is started."""

    client: WorkspaceClient
    experiment_id: str
    folder: Path
    project: Any
    command: dict[str, Any]
    requirements: list[str]


def prepare(
    project_uri: str,
    entry_point: str,
    params: dict[str, str],
    version: str | None,
    config: JobConfig,
    tracking_uri: str,
    experiment_id: str | None,
) -> Ready:
    """Check all that can be known before a run exists. Raises one of FAILURES for what is wrong."""
    client = connect(tracking_uri)
    experiment_id = checked_experiment(experiment_id)
    if version and Path(project_uri.partition("#")[0]).exists():
        raise ExecutionException(
            f"--version {version} would switch the branch of {project_uri}, your own folder: give a Git URL."
        )
    folder = Path(fetch_and_validate_project(project_uri, version, entry_point, params))
    project = load_project(str(folder))
    python, runtime = python_of(config, client)
    requirements = [] if config.libraries is not None else requirements_of(project)
    named = [each["pypi"]["package"] for each in config.libraries or [] if "pypi" in each]
    check_pins([*requirements, *named], python, runtime)
    command = command_of(project, entry_point, params, folder)
    return Ready(client, experiment_id, folder, project, command, requirements)


def connect(tracking_uri: str) -> WorkspaceClient:
    """The workspace that MLflow's tracking URI means, `databricks` or `databricks://PROFILE`, once it has let us in."""
    if tracking_uri != "databricks" and not tracking_uri.startswith("databricks://"):
        raise ExecutionException(
            f"The tracking URI {tracking_uri} cannot be reached from Databricks: export MLFLOW_TRACKING_URI=databricks"
        )
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    profile = tracking_uri.removeprefix("databricks").removeprefix("://")
    settings: dict[str, Any] = {"profile": profile} if profile else {}
    config = Config(retry_timeout_seconds=min(KNOCKING, PATIENCE), http_timeout_seconds=60, **settings)
    try:
        WorkspaceClient(config=config).current_user.me()
    except OSError as error:
        raise ExecutionException(f"The workspace {config.host} does not answer: {one_line(error)}") from None
    return WorkspaceClient(config=Config(retry_timeout_seconds=PATIENCE, http_timeout_seconds=60, **settings))


def checked_experiment(experiment_id: str | None) -> str:
    """The id of an experiment that takes runs."""
    if not experiment_id:
        raise ExecutionException("Give the experiment, a path of the workspace: --experiment-name /Shared/churn")
    experiment = MlflowClient().get_experiment(experiment_id)
    if experiment.lifecycle_stage != "active":
        raise ExecutionException(f"The experiment {experiment.name} was deleted: restore it, or give another one.")
    return str(experiment_id)


def create_run(
    uri: str, experiment_id: str, folder: Path, version: str | None, entry_point: str, params: dict[str, str]
) -> str:
    """Create the run as MLflow's own backends do, and return its id."""
    begun = round(time.time() * 1000)
    try:
        run = get_or_create_run(None, uri, experiment_id, str(folder), version, entry_point, params)
        return str(run.info.run_id)
    except MlflowException:
        # MLflow creates a run and then logs its parameters. Where that fails, nobody knows the run's id.
        found = MlflowClient().search_runs(
            [experiment_id],
            f"attributes.status = 'RUNNING' and attributes.start_time >= {begun} "
            f"and tags.`{MLFLOW_PROJECT_ENTRY_POINT}` = '{entry_point}'",
        )
        for orphan in found:
            if not orphan.data.params:
                close_runs(orphan.info.run_id, "FAILED")
        raise


def place_of(client: WorkspaceClient, config: JobConfig) -> str:
    """A new folder for a project, as a job sees it: in a Volume, or in your own folder of the workspace."""
    own = uuid.uuid4().hex
    if config.volume:
        return f"{config.volume.rstrip('/')}/mlflow-projects/{own}"
    return f"/Workspace/Users/{client.current_user.me().user_name}/.mlflow-projects/{own}"


def upload(client: WorkspaceClient, place: str, packed: bytes, requirements: list[str]) -> None:
    """Put a project into its folder.

    Raises ExecutionException for a project that is too large for a workspace file.
    """
    files = {"project.tar.gz": packed, RUNNER.name: RUNNER.read_bytes()}
    files |= {name: text.encode() for name, text in requirement_files(requirements).items()}
    if place.startswith("/Volumes/"):
        client.files.create_directory(place)
        for name, content in files.items():
            client.files.upload(f"{place}/{name}", io.BytesIO(content), overwrite=True)
        return
    if len(packed) > LARGEST:
        raise ExecutionException(
            f"The project is {len(packed) / 2**20:.0f} MB packed, and a workspace file takes 10: "
            'give {"volume": "/Volumes/<catalog>/<schema>/<volume>"} in the backend configuration.'
        )
    client.workspace.mkdirs(place)
    for name, content in files.items():
        client.workspace.upload(f"{place}/{name}", content, format=ImportFormat.AUTO, overwrite=True)


def submit(
    client: WorkspaceClient, config: JobConfig, name: str, words: list[str], requirements: list[str]
) -> SubmittedJob:
    """Begin the job; a request that the SDK repeats carries the same token, so that there is one job and not two.

    words: for run_entry_point.py: the folder of the project, the ids of its run and of the experiment.
    """
    place, run_id, _ = words
    task = SubmitTask(
        task_key="project",
        spark_python_task=SparkPythonTask(python_file=f"{place}/{RUNNER.name}", parameters=words),
        max_retries=config.max_retries,
    )
    environments = None
    if config.serverless:
        wanted = [f"-r {place}/requirements.txt"] if requirements else []
        spec = Environment(environment_version=config.environment_version, dependencies=wanted)
        environments, task.environment_key = [JobEnvironment("project", spec)], "project"
    else:
        if config.new_cluster:
            tags = {**(config.new_cluster.get("custom_tags") or {}), **(config.tags or {})}
            task.new_cluster = ClusterSpec.from_dict({**config.new_cluster, "custom_tags": tags})
        task.existing_cluster_id = config.existing_cluster_id or None
        if config.libraries is not None:
            task.libraries = [Library.from_dict(each) for each in config.libraries]
        elif requirements:
            task.libraries = [Library(requirements=f"{place}/requirements.txt")]
    submitted = client.jobs.submit(
        run_name=name,
        tasks=[task],
        environments=environments,
        timeout_seconds=config.timeout_seconds or None,
        run_as=JobRunAs.from_dict(config.run_as) if config.run_as else None,
        idempotency_token=uuid.uuid4().hex,
    )
    return SubmittedJob(client, submitted.run_id, run_id, place)


def describe(client: WorkspaceClient, job: SubmittedJob, config: JobConfig) -> None:
    """Say where the job and the run are, and note it with the run."""
    page = client.jobs.get_run(job.job_run_id).run_page_url or ""
    found = MlflowClient()
    tags = {
        MLFLOW_DATABRICKS_RUN_URL: page,
        MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID: str(job.job_run_id),
        MLFLOW_DATABRICKS_WEBAPP_URL: client.config.host,
        **(config.tags or {}),
    }
    for key, value in tags.items():
        found.set_tag(job.run_id, key, value)
    run = found.get_run(job.run_id)
    click.echo(f"Job: {page}")
    click.echo(f"Run: {client.config.host}/ml/experiments/{run.info.experiment_id}/runs/{job.run_id}")


def waits(config: JobConfig) -> bool:
    """Whether to wait in `run`: on the command line, where MLflow says SYNCHRONOUS: False and ends at once."""
    if config.wait is not None:
        return config.wait
    context = click.get_current_context(silent=True)
    return context is not None and getattr(context.command.callback, "__module__", "") == "mlflow.cli"


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of a block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = []

    def heed(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        click.echo("Please wait.", err=True)

    before = signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
