"""A job that was submitted: wait for it, show its log, cancel it, and see to it that its MLflow run ends."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import click
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, OperationFailed
from databricks.sdk.service.jobs import Run, RunResultState
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

LONGEST = timedelta(days=30)  # Databricks ends a job before


class SubmittedJob(SubmittedRun):
    """The run of a job and the MLflow run that it fills.

    place: the folder with the uploaded project, which is removed when the job has ended.
    """

    def __init__(self, client: WorkspaceClient, job_run_id: int, run_id: str, place: str) -> None:
        super().__init__()
        self.client = client
        self.job_run_id = job_run_id
        self.place = place
        self.failure = ""
        self._run_id = run_id
        self._shown = 0
        self._ended = False

    @property
    def run_id(self) -> str:
        """The id of the MLflow run."""
        return self._run_id

    def wait(self) -> bool:
        """Show the job's log until the job ends; returns whether it ended well, otherwise `failure` says why.

        Raises ExecutionException, after the job was cancelled, where the workspace no longer answers.
        """
        jobs = self.client.jobs
        try:
            job = jobs.wait_get_run_job_terminated_or_skipped(self.job_run_id, LONGEST, self._show_log)
        except OperationFailed:  # INTERNAL_ERROR: the job ended without a verdict
            job = jobs.get_run(self.job_run_id)
        except (DatabricksError, OSError) as error:
            self.cancel()
            raise ExecutionException(f"The job was cancelled: {one_line(error)}") from None
        self._show_log(job)
        good = bool(job.state and job.state.result_state == RunResultState.SUCCESS)
        if not good:
            self.failure = f"The job failed: {self._reason(job)}"
            click.echo(self.failure, err=True)
        close_runs(self.run_id, "FINISHED" if good else "FAILED")
        self._clean()
        return good

    def get_status(self) -> str:
        """The status of the MLflow run that follows from the job's state."""
        state = self.client.jobs.get_run(self.job_run_id).state
        if state is None or state.result_state is None:
            return RunStatus.to_string(RunStatus.RUNNING)
        return RunStatus.to_string(
            RunStatus.FINISHED if state.result_state == RunResultState.SUCCESS else RunStatus.FAILED
        )

    def cancel(self) -> None:
        """Cancel the job, wait until it has ended, and end its MLflow run."""
        if self._ended:
            return
        with suppress(
            DatabricksError, OSError, OperationFailed
        ):  # what cannot be cancelled has ended or cannot be reached
            self.client.jobs.cancel_run(self.job_run_id)
            self.client.jobs.wait_get_run_job_terminated_or_skipped(self.job_run_id, timedelta(minutes=2))
        close_runs(self.run_id, "FAILED")
        self._clean()

    def _show_log(self, job: Run) -> None:
        """Print what the task has written since the last time, as far as the workspace gives it before the end."""
        with suppress(DatabricksError):
            for task in job.tasks or []:
                log = self.client.jobs.get_run_output(task.run_id or 0).logs or ""
                click.echo(log[self._shown :], nl=False)
                self._shown = len(log)

    def _reason(self, job: Run) -> str:
        """Why the job failed; its task knows more of it than the job."""
        for task in job.tasks or []:
            with suppress(DatabricksError):
                if error := self.client.jobs.get_run_output(task.run_id or 0).error:
                    return one_line(error)
        return one_line(job.state.state_message if job.state else "")

    def _clean(self) -> None:
        self._ended = True
        remove_upload(self.client, self.place)


def remove_upload(client: WorkspaceClient, place: str) -> None:
    """Remove the folder of an uploaded project, as far as there is one."""
    with suppress(DatabricksError, OSError):
        if not place.startswith("/Volumes/"):
            client.workspace.delete(place, recursive=True)
            return
        for entry in list(client.files.list_directory_contents(place)):
            client.files.delete(entry.path or "")
        client.files.delete_directory(place)


def close_runs(run_id: str, status: str) -> None:
    """End an MLflow run that is still RUNNING, and the runs below it."""
    client = MlflowClient()
    with suppress(MlflowException):  # of a run that was deleted meanwhile
        run = client.get_run(run_id)
        for child in client.search_runs([run.info.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'"):
            close_runs(child.info.run_id, "FAILED")
        if not RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
            client.set_terminated(run_id, status)


def one_line(error: object) -> str:
    """What an error says, as one line that ends with a full stop, without the settings that the SDK repeats in it."""
    text = " ".join(str(error).split()).partition(" Config: ")[0]
    return text if text.endswith(".") else f"{text}."
