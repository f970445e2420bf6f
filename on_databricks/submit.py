"""Run an MLflow Project on Databricks and wait for it: `python on_databricks/submit.py PROJECT --backend_config FILE`.

`mlflow run -b databricks` ends with exit code 0 as soon as the job is submitted, and a mistake often leaves a run that
is RUNNING for ever. This checks first, waits, shows the job's log, and ends with the exit code that the job deserves.
The project is sent by MLflow's own backend.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click
import mlflow
from cluster_config import LAST_FOR_PROJECTS, ClusterConfig, read_cluster_config
from command_line import run_command
from connection import Connection, StopRequestedError, UnansweredError, connect, one_line
from databricks.sdk.errors import DatabricksError, TooManyRequests
from job import Job
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.projects.databricks import DatabricksJobRunner
from mlflow.projects.utils import _fetch_project, get_or_create_run, load_project
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATABRICKS_RUN_URL,
    MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID,
    MLFLOW_DATABRICKS_WEBAPP_URL,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_BACKEND,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
)
from stage import copy_project, libraries_of, mlproject_path, read_mlproject, stage

LEAST_OF_MLFLOW = 30  # seconds of patience in MLflow's own requests, which also close what would stay RUNNING
FAILURES = (MlflowException, DatabricksError, OSError)  # of a request, its time-out among them
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}  # exit codes, as a shell has them


class Stop:
    """Set by Ctrl-C and SIGTERM, once or often: the program then cancels what it has begun, and ends.

    Not a threading.Event: to set one takes its lock, for which a signal would wait for ever while `wait` has it.
    """

    def __init__(self) -> None:
        self.number: int = signal.SIGINT
        self._set = False

    def is_set(self) -> bool:
        """Whether the program was asked to end."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the program is asked to end; returns whether it was."""
        end = time.monotonic() + seconds
        while not self._set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self._set

    def listen(self) -> None:
        """From now on the signals do nothing but set this: until the program ends, there is something to close."""
        for number in STOPPED:
            signal.signal(number, self._heed)

    def _heed(self, number: int, _: FrameType | None) -> None:
        again = self._set
        if not again:
            self.number, self._set = number, True
        line = "Already cancelling; please wait." if again else "Interrupted: cancelling the job."
        os.write(2, f"{line}\n".encode())  # an echo might be interrupted by itself


class Runner(DatabricksJobRunner):
    """MLflow's runner, which waits for a busy workspace with our patience when it submits.

    A retried submission carries the same token, so that the workspace begins one job and not two.
    """

    def __init__(self, tracking_uri: str, connection: Connection) -> None:
        super().__init__(databricks_profile_uri=tracking_uri)
        self.connection = connection

    def _jobs_runs_submit(self, req_body: dict[str, Any]) -> dict[str, Any]:
        if self.connection.stop.is_set():
            raise StopRequestedError
        # After 429 there is no job; after any other answer there may be one, which nobody would cancel.
        body = {**req_body, "idempotency_token": uuid.uuid4().hex}
        return self.connection.call("POST", "/api/2.0/jobs/runs/submit", body=body, stop_on=(TooManyRequests,))


def parse_parameters(given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` as the user gave them; raises click.ClickException for another form and for a name given twice."""
    parameters: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.ClickException(f"-P {text!r} must have the form NAME=VALUE.")
        if name in parameters:
            raise click.ClickException(f"The parameter {name} is given twice.")
        parameters[name] = value
    return parameters


def choose_form(form: str, cluster: ClusterConfig, is_spark_job: bool) -> str:
    """`project` or `spark_job`: how the project is sent.

    Raises click.ClickException for a form that the cluster's runtime or the project does not allow.
    """
    version, runtime = cluster.new_cluster["spark_version"], cluster.runtime
    if is_spark_job:
        if form == "project":
            raise click.ClickException("The project has databricks_spark_job: it is sent by --form spark_job or auto.")
        return "spark_job"
    too_new = runtime is None or runtime > LAST_FOR_PROJECTS
    if form == "project" and runtime is not None and too_new:
        raise click.ClickException(
            f"An ordinary project does not run on the runtime {version}: Databricks ended that with 13.0. "
            f"Give --form auto, which stages it as a Spark job, or a cluster with spark_version {LAST_FOR_PROJECTS}.2."
        )
    if form == "auto":
        return "spark_job" if too_new else "project"
    return form


def fetch(project: str, version: str | None, place: str) -> Path:
    """The folder of a project: the user's own, or a clone of a Git address.

    place: a folder for the clone.

    Raises click.ClickException where it is not to be had.
    """
    local = Path(project).exists()
    if local and version:
        raise click.ClickException(
            f"--version {version} would switch the branch of {project}, your own folder: give its Git address instead."
        )
    if not local and "://" not in project and "@" not in project:
        raise click.ClickException(f"The project {project!r} is neither a folder here nor a Git address.")
    if urlsplit(project).password:
        address = urlsplit(project)
        raise click.ClickException(
            f"The address of {address.hostname}{address.path} holds a password, which the run would keep for all to "
            "read: use a Git credential helper or ssh."
        )
    os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # a question would wait for ever in a batch
    before, tempfile.tempdir = tempfile.tempdir, place  # where MLflow makes a clone, which it does not remove
    try:
        return Path(_fetch_project(project, version))
    except Exception as error:  # MLflow's or GitPython's, in which the line that counts is Git's own
        said = re.search(r"(?:fatal|error): .*", str(error))
        reason = one_line(said[0].strip("'.") if said else error)
        raise click.ClickException(f"The project {project} cannot be fetched: {reason}") from None
    finally:
        tempfile.tempdir = before


def check_entry_point(said: dict[str, Any], entry_point: str, parameters: dict[str, str]) -> None:
    """Raise click.ClickException for an entry point or parameters that an MLproject does not have, or lacks."""
    points = said.get("entry_points") or {}
    if entry_point not in points:
        raise click.ClickException(f"There is no entry point {entry_point!r}; there are {', '.join(points) or 'none'}.")
    known = points[entry_point].get("parameters") or {}
    for name in parameters:
        if name not in known:
            there = ", ".join(known) or "none"
            raise click.ClickException(f"The entry point {entry_point} has no parameter {name!r}; it has {there}.")
    for name, description in known.items():
        default = description.get("default") if isinstance(description, dict) else None
        if default is None and name not in parameters:
            raise click.ClickException(f"The parameter {name} of {entry_point} needs a value: -P {name}=VALUE.")


def find_experiment(name: str | None, experiment_id: str | None) -> str:
    """The id of the experiment, which is made where it is missing.

    Raises click.ClickException where none is given or it cannot be used.
    """
    name = name or (None if experiment_id else os.environ.get("MLFLOW_EXPERIMENT_NAME"))
    experiment_id = experiment_id or (None if name else os.environ.get("MLFLOW_EXPERIMENT_ID"))
    if not name and not experiment_id:
        raise click.ClickException("Give the experiment, such as --experiment_name /Shared/churn.")
    client = MlflowClient()
    on_databricks = mlflow.get_tracking_uri().startswith("databricks")
    if name and on_databricks and not name.startswith("/"):
        raise click.ClickException(
            f"The experiment {name!r} must be a path of the workspace, such as /Shared/{name} or /Users/YOU/{name}."
        )
    shown = name or experiment_id
    try:
        found = client.get_experiment_by_name(name) if name else client.get_experiment(str(experiment_id))
        if found is None:
            return str(client.create_experiment(str(name)))
    except FAILURES as error:
        raise click.ClickException(f"The experiment {shown} cannot be used: {one_line(error)}") from None
    if found.lifecycle_stage != "active":
        raise click.ClickException(f"The experiment {shown} was deleted: restore it or give another one.")
    return str(found.experiment_id)


def close(run_id: str, status: str) -> bool:
    """End a run, and the runs below it, that would stay RUNNING; returns whether that succeeded."""
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
        below = client.search_runs([run.info.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'")
        for child in below:
            if not close(child.info.run_id, status):
                return False
        if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
            client.set_terminated(run_id, status)
    except FAILURES:
        click.echo(f"The run {run_id} could not be closed: it may stay RUNNING.", err=True)
        return False
    return True


def find_begun(experiment_id: str, project: str, begun: int) -> str | None:
    """The run that MLflow created since `begun` (milliseconds) but failed to describe; None if there is none."""
    source = project if "://" in project else os.path.abspath(project)
    try:
        runs = MlflowClient().search_runs(
            [experiment_id], f"attributes.status = 'RUNNING' and attributes.start_time >= {begun}"
        )
    except FAILURES:
        return None
    mine = [run for run in runs if not run.data.params and source in run.data.tags.get(MLFLOW_SOURCE_NAME, source)]
    return mine[0].info.run_id if len(mine) == 1 else None


class Submission:
    """A project that is sent to a workspace, and what has been begun for it there.

    source: what the user called the project: a folder or a Git address.
    folder: where its files lie here.
    """

    def __init__(
        self,
        connection: Connection,
        source: str,
        folder: Path,
        form: str,
        cluster: ClusterConfig,
        experiment_id: str,
        env_manager: str,
    ) -> None:
        self.connection = connection
        self.source = source
        self.folder = folder
        self.form = form
        self.cluster = cluster
        self.experiment_id = experiment_id
        self.env_manager = env_manager
        self.run: Run | None = None
        self.job: Job | None = None

    def begin(self, sent: Path, version: str | None, entry_point: str, parameters: dict[str, str], name: str) -> Job:
        """Create the run and submit the job, both by MLflow's own functions.

        sent: the folder that is uploaded.
        """
        begun = round(time.time() * 1000)
        try:
            self.run = get_or_create_run(
                None, self.source, self.experiment_id, str(self.folder), version, entry_point, parameters
            )
        except FAILURES:
            left = find_begun(self.experiment_id, self.source, begun)
            if left:
                close(left, "FAILED")
            raise
        run_id = self.run.info.run_id
        click.echo(f"Run: {self.run_page()}")
        self._tag({MLFLOW_PROJECT_BACKEND: "databricks", **({MLFLOW_RUN_NAME: name} if name else {})})
        runner = Runner(mlflow.get_tracking_uri(), self.connection)
        if self.form == "spark_job":
            number = runner.run_databricks_spark_job(
                self.source,
                str(sent),
                self.experiment_id,
                self.cluster.new_cluster,
                run_id,
                load_project(str(sent)),
                entry_point,
                parameters,
            )
        else:
            config = {"new_cluster": self.cluster.new_cluster, "libraries": self.cluster.libraries or []}
            number = runner.run_databricks(
                self.source,
                entry_point,
                str(sent),
                parameters,
                self.experiment_id,
                config,
                run_id,
                self.env_manager,
            )
        self.job = Job(self.connection, number)
        return self.job

    def wait(self, job: Job) -> int:
        """Follow the job to its end; returns the exit code."""
        job.look()
        click.echo(f"Job {job.run_id}: {job.page}")
        self._tag(
            {
                MLFLOW_DATABRICKS_RUN_URL: job.page,
                MLFLOW_DATABRICKS_SHELL_JOB_RUN_ID: str(job.run_id),
                MLFLOW_DATABRICKS_WEBAPP_URL: self.connection.host,
            }
        )
        state = job.follow()
        assert self.run
        run_id = self.run.info.run_id
        if state["result_state"] != "SUCCESS":
            cancelled = state["result_state"] == "CANCELED"
            close(run_id, "KILLED" if cancelled else "FAILED")
            said = state.get("state_message") or state["result_state"]
            why = MlflowClient().get_run(run_id).data.tags.get("error") or said
            raise FailureError(
                f"Job {job.run_id} {'was cancelled' if cancelled else 'failed'}: {one_line(why)} {job.page}"
            )
        close(run_id, "FINISHED")  # by MLflow's rule, where the project itself began no run
        status = MlflowClient().get_run(run_id).info.status
        if status != "FINISHED":
            raise FailureError(f"Job {job.run_id} succeeded, but its run ended {status}. {self.run_page()}")
        click.echo(f"Run FINISHED: {self.run_page()}")
        return 0

    def abandon(self, status: str) -> None:
        """Cancel the job if it was begun, and close the run if it was."""
        if self.job and not self.job.cancel():
            where = self.job.page or self.connection.host
            click.echo(f"Job {self.job.run_id} could not be cancelled and may go on: {where}", err=True)
        if self.run and close(self.run.info.run_id, status):
            click.echo(f"Run {status}: {self.run_page()}")

    def run_page(self) -> str:
        """Where the run is seen."""
        assert self.run
        uri = mlflow.get_tracking_uri()
        base = f"{self.connection.host}/ml" if uri.startswith("databricks") else f"{uri.rstrip('/')}/#"
        return f"{base}/experiments/{self.experiment_id}/runs/{self.run.info.run_id}"

    def _tag(self, tags: dict[str, str]) -> None:
        """Tags are a comfort: a workspace that does not take them must not cost the job."""
        assert self.run
        try:
            for key, value in tags.items():
                MlflowClient().set_tag(self.run.info.run_id, key, value)
        except FAILURES as error:
            click.echo(f"The run's tags could not be set: {one_line(error)}")


class FailureError(click.ClickException):
    """A run that was begun and did not end well; unlike a mistake of the user it has exit code 1."""


@contextmanager
def prepared(folder: Path, form: str, cluster: ClusterConfig, is_spark_job: bool) -> Iterator[Path]:
    """A folder with what is uploaded: the project's own files, or those of its Spark-job twin.

    Raises click.ClickException where the project cannot be staged.
    """
    with tempfile.TemporaryDirectory() as place:
        sent = Path(place) / "project"
        if form == "spark_job" and not is_spark_job:
            stage(folder, sent, libraries_of(folder) if cluster.libraries is None else cluster.libraries)
            click.echo(
                f"{mlproject_path(folder)} is staged as a Spark job: runtimes from 13.0 on, such as "
                f"{cluster.new_cluster['spark_version']}, run no project with an environment of its own."
            )
        else:
            copy_project(folder, sent)
        yield sent


@click.command()
@click.argument("project")
@click.option("-e", "--entry_point", default="main", show_default=True)
@click.option("-v", "--version", help="Of a project in Git: branch, tag or full commit.")
@click.option("-P", "--parameter", multiple=True, metavar="NAME=VALUE")
@click.option("--backend_config", type=click.Path(path_type=Path), required=True, help="JSON file: the cluster.")
@click.option("--experiment_name", help="Path in the workspace; default: MLFLOW_EXPERIMENT_NAME.")
@click.option("--experiment_id", help="Instead of the name; default: MLFLOW_EXPERIMENT_ID.")
@click.option("--run_name", default="", help="Name of the run.")
@click.option("--form", type=click.Choice(["auto", "project", "spark_job"]), default="auto", show_default=True)
@click.option("--env_manager", default="local", show_default=True, help="On the cluster, with form project.")
@click.option(
    "--patience", type=click.FloatRange(0), default=300, show_default=True, help="Seconds to wait for a busy workspace."
)
def main(
    project: str,
    entry_point: str,
    version: str | None,
    parameter: tuple[str, ...],
    backend_config: Path,
    experiment_name: str | None,
    experiment_id: str | None,
    run_name: str,
    form: str,
    env_manager: str,
    patience: float,
) -> int:
    """Run the PROJECT, a folder or a Git address (REPOSITORY#FOLDER), on a new Databricks cluster, and wait for it.

    Exit code 0: the run is FINISHED. 1: it is not. 2: something is wrong with the call or the workspace, and no run
    was begun. 130 and 143: interrupted; the job is cancelled.
    """
    if experiment_name and experiment_id:
        raise click.ClickException("Give --experiment_name or --experiment_id, not both.")
    parameters = parse_parameters(parameter)
    cluster = read_cluster_config(backend_config)
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or "databricks"
    if not tracking_uri.startswith(("databricks", "http://", "https://")):
        raise click.ClickException(
            f"MLFLOW_TRACKING_URI={tracking_uri} cannot be reached from a cluster: set it to databricks."
        )
    mlflow.set_tracking_uri(tracking_uri)
    os.environ["MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT"] = str(max(LEAST_OF_MLFLOW, round(patience)))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = fetch(project, version, place)
        said = read_mlproject(folder)
        check_entry_point(said, entry_point, parameters)
        is_spark_job = "databricks_spark_job" in said
        form = choose_form(form, cluster, is_spark_job)
        if form == "spark_job" and not tracking_uri.startswith("databricks"):
            raise click.ClickException(f"A Spark job tracks to Databricks only, not to {tracking_uri}.")
        with prepared(folder, form, cluster, is_spark_job) as sent:
            try:
                load_project(str(sent))
            except MlflowException as error:
                raise click.ClickException(f"{mlproject_path(folder)} is wrong: {one_line(error)}") from None
            stop = Stop()
            connection = connect(tracking_uri, patience, stop)
            try:
                connection.check_storage()
            except UnansweredError as error:
                raise click.ClickException(str(error)) from None
            found = find_experiment(experiment_name, experiment_id)
            submission = Submission(connection, project, folder, form, cluster, found, env_manager)
            stop.listen()
            return _run(submission, stop, sent, version, entry_point, parameters, run_name)


def _run(submission: Submission, stop: Stop, *begin: Any) -> int:
    """Submit and wait; whatever happens, nothing is left that goes on by itself."""
    try:
        job = submission.begin(*begin)
        return submission.wait(job)
    except StopRequestedError:
        submission.abandon("KILLED")
        return STOPPED[signal.Signals(stop.number)]
    except FailureError as error:
        line = error.format_message()
    except (*FAILURES, UnansweredError) as error:
        submission.abandon("FAILED")
        line = one_line(error)
    except BaseException:  # whatever it was, it must not leave a job behind
        submission.abandon("FAILED")
        raise
    click.echo(f"Error: {submission.connection.hide(' '.join(line.split()))}", err=True)
    return 1


if __name__ == "__main__":
    run_command(main)
