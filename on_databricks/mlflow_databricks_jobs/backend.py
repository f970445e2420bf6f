"""The backend itself: check, upload, submit, create the run, wait."""

from __future__ import annotations

import getpass
import io
import logging
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click
import mlflow
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError
from databricks.sdk.service.compute import ClusterSpec, Environment, Library
from databricks.sdk.service.jobs import JobEnvironment, JobRunAs, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat
from git import InvalidGitRepositoryError, Repo
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.utils import fetch_and_validate_project, load_project
from mlflow.utils import mlflow_tags as tags
from mlflow.utils.git_utils import get_git_commit, get_git_repo_url

from mlflow_databricks_jobs.config import JobConfig, check_pins, python_of_job, read_config
from mlflow_databricks_jobs.project import command_of, pack, requirement_files, requirements_of
from mlflow_databricks_jobs.run_entry_point import UPLOAD
from mlflow_databricks_jobs.submitted_job import SubmittedJob, one_line

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
        config, params = read_config(backend_config), params or {}
        job, good = None, True
        with Interrupts() as interrupts:
            try:
                client = connect(tracking_uri)
                experiment_id = checked_experiment(experiment_id)
                folder = fetched(project_uri, version, entry_point, params)
                project = load_project(str(folder))
                requirements = checked_requirements(project, config, client)
                packed = pack(folder, command_of(project, entry_point, params, folder))
                job = SubmittedJob(client, place_of(client, config), experiment_id)
                upload(client, job.place, packed, requirements)
                named = tags_of(project_uri, folder, version, entry_point) | {UPLOAD: Path(job.place).name}
                name = f"{project.name or folder.name} {entry_point}"
                with interrupts.put_off():  # otherwise there might be a job, or a run, of which nobody knows
                    job.job_run_id = submit(client, config, name, [job.place, experiment_id], requirements)
                    # After its job, which looks for it: so no run is left RUNNING, whenever this process is killed.
                    job.run_id = MlflowClient().create_run(experiment_id, tags=named).info.run_id
                MlflowClient().log_batch(job.run_id, params=parameters_of(project, entry_point, params))
                describe(job, config, experiment_id)
                if waits(config):
                    good = job.wait()
            except BaseException as error:  # Ctrl-C too
                with interrupts.put_off():
                    if job:
                        job.cancel()
                if isinstance(error, FAILURES):
                    raise ExecutionException(one_line(error)) from None
                raise
        if not good:
            raise ExecutionException(f"The run {job.run_id} failed.")
        return job


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


def fetched(uri: str, version: str | None, entry_point: str, params: dict[str, str]) -> Path:
    """The folder of a project, fetched if it has a Git URL, once its entry point is known to be there."""
    if version and Path(uri.partition("#")[0]).exists():
        where = f"{uri}, your own folder"
        raise ExecutionException(f"--version {version} would switch the branch of {where}: give a Git URL.")
    return Path(fetch_and_validate_project(uri, version, entry_point, params))


def checked_experiment(experiment_id: str | None) -> str:
    """The id of an experiment that takes runs."""
    if not experiment_id:
        raise ExecutionException("Give the experiment, a path of the workspace: --experiment-name /Shared/churn")
    experiment = MlflowClient().get_experiment(experiment_id)
    if experiment.lifecycle_stage != "active":
        raise ExecutionException(f"The experiment {experiment.name} was deleted: restore it, or give another one.")
    return str(experiment_id)


def checked_requirements(project: Any, config: JobConfig, client: WorkspaceClient) -> list[str]:
    """What the project pins and the job installs, once the Python of the job is known to take it."""
    python, name = python_of_job(config, client)
    requirements = [] if config.libraries is not None else requirements_of(project)
    named = [each["pypi"]["package"] for each in config.libraries or [] if "pypi" in each]
    check_pins([*requirements, *named], python, name)
    return requirements


def place_of(client: WorkspaceClient, config: JobConfig) -> str:
    """A new folder for a project, as a job sees it: in a Volume, or in your own folder of the workspace."""
    own = uuid.uuid4().hex
    if config.volume:
        return f"{config.volume.rstrip('/')}/mlflow-projects/{own}"
    return f"/Workspace/Users/{client.current_user.me().user_name}/.mlflow-projects/{own}"


def upload(client: WorkspaceClient, place: str, packed: bytes, requirements: list[str]) -> None:
    """Put a project into its folder; raises ExecutionException where it is too large for a workspace file."""
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


def submit(client: WorkspaceClient, config: JobConfig, name: str, words: list[str], requirements: list[str]) -> int:
    """Begin the job; a request that the SDK repeats carries the same token, so that there is one job and not two.

    words: for run_entry_point.py: the folder of the project and the id of the experiment.
    """
    place = words[0]
    task = SubmitTask(
        task_key="project",
        spark_python_task=SparkPythonTask(python_file=f"{place}/{RUNNER.name}", parameters=words),
        existing_cluster_id=config.existing_cluster_id or None,
        max_retries=config.max_retries,
    )
    environments = None
    if config.serverless:
        wanted = [f"-r {place}/requirements.txt"] if requirements else []
        spec = Environment(environment_version=config.environment_version, dependencies=wanted)
        environments, task.environment_key = [JobEnvironment("project", spec)], "project"
    elif config.libraries is not None:
        task.libraries = [Library.from_dict(each) for each in config.libraries]
    elif requirements:
        task.libraries = [Library(requirements=f"{place}/requirements.txt")]
    if config.new_cluster:
        own = {**(config.new_cluster.get("custom_tags") or {}), **(config.tags or {})}
        task.new_cluster = ClusterSpec.from_dict({**config.new_cluster, "custom_tags": own})
    submitted = client.jobs.submit(
        run_name=name,
        tasks=[task],
        environments=environments,
        timeout_seconds=config.timeout_seconds or None,
        run_as=JobRunAs.from_dict(config.run_as) if config.run_as else None,
        idempotency_token=uuid.uuid4().hex,
    )
    return submitted.run_id


def tags_of(uri: str, folder: Path, version: str | None, entry_point: str) -> dict[str, str]:
    """The tags that MLflow's own backends give the run of a project."""
    given: dict[str, str | None] = {
        tags.MLFLOW_USER: getpass.getuser(),
        tags.MLFLOW_SOURCE_NAME: os.path.abspath(uri) if os.path.exists(uri) else uri,
        tags.MLFLOW_SOURCE_TYPE: "PROJECT",
        tags.MLFLOW_PROJECT_ENTRY_POINT: entry_point,
        tags.MLFLOW_GIT_COMMIT: get_git_commit(str(folder)),
        tags.MLFLOW_GIT_REPO_URL: get_git_repo_url(str(folder)),
    }
    if parent := mlflow.active_run():
        given[tags.MLFLOW_PARENT_RUN_ID] = parent.info.run_id
    with suppress(InvalidGitRepositoryError):
        repository = Repo(folder, search_parent_directories=True)
        if os.path.exists(uri):
            within = os.path.relpath(uri, str(repository.working_tree_dir))
            given[tags.MLFLOW_SOURCE_NAME] = f"file://{repository.working_tree_dir}#{within}".removesuffix("#.")
        if version in {head.name for head in repository.heads}:
            given[tags.MLFLOW_GIT_BRANCH] = version
    return {name: value for name, value in given.items() if value}


def parameters_of(project: Any, entry_point: str, params: dict[str, str]) -> list[Param]:
    """What `mlflow run` logs of the parameters: those given, and the defaults of the others."""
    given = project.get_entry_point(entry_point).compute_parameters(params, None)
    return [Param(name, value) for group in given for name, value in group.items()]


def describe(job: SubmittedJob, config: JobConfig, experiment_id: str) -> None:
    """Say where the job and the run are, and note it with the run."""
    page, host = job.client.jobs.get_run(job.job_run_id).run_page_url or "", job.client.config.host
    noted = {
        tags.MLFLOW_DATABRICKS_RUN_URL: page,
        tags.MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID: str(job.job_run_id),
        tags.MLFLOW_DATABRICKS_WEBAPP_URL: host,
        **(config.tags or {}),
    }
    for key, value in noted.items():
        MlflowClient().set_tag(job.run_id, key, value)
    click.echo(f"Job: {page}")
    click.echo(f"Run: {host}/ml/experiments/{experiment_id}/runs/{job.run_id}")


def waits(config: JobConfig) -> bool:
    """Whether to wait in `run`: on the command line, where MLflow says SYNCHRONOUS: False and ends at once."""
    if config.wait is not None:
        return config.wait
    context = click.get_current_context(silent=True)
    return context is not None and getattr(context.command.callback, "__module__", "") == "mlflow.cli"


class Interrupts:
    """Ctrl-C interrupts a block once, so that what follows it goes on to its end, and never what puts it off."""

    def __init__(self) -> None:
        self._seen = self._held = False

    def __enter__(self) -> Interrupts:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._heed)
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        first, self._seen = not self._seen, True
        if first and not self._held:
            raise KeyboardInterrupt
        click.echo("Please wait.", err=True)

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Put Ctrl-C off to the end of a block."""
        seen, self._held = self._seen, True
        yield
        self._held = False
        if self._seen and not seen:
            raise KeyboardInterrupt
