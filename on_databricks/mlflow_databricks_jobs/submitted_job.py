"""A job that was submitted: wait for it, show its log, cancel it, and see to it that its MLflow run ends."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import PurePosixPath

import click
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, OperationFailed
from databricks.sdk.service.jobs import Run, RunResultState
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from mlflow_databricks_jobs.run_entry_point import UPLOAD

LONGEST = timedelta(days=30)  # Databricks ends a job before


class SubmittedJob(SubmittedRun):
    """The run of a job and the MLflow run that it fills; none of both at first.

    place: the folder of the uploaded project, which is removed when the job has ended; its name tags the MLflow run.
    """

    run_id = ""  # of the MLflow run

    def __init__(self, client: WorkspaceClient, place: str, experiment_id: str) -> None:
        super().__init__()
        self.client = client
        self.place = place
        self.experiment_id = experiment_id
        self.job_run_id = 0
        self._shown = 0
        self._ended = False

    def wait(self) -> bool:
        """Show the job's log until the job ends, and say why it failed if it did; returns whether it ended well.

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
            click.echo(f"The job failed: {self._reason(job)}", err=True)
        self._end("FINISHED" if good else "FAILED")
        return good

    def get_status(self) -> str:
        """The status of the MLflow run that follows from the job's state; ends that run once the job has ended."""
        state = self.client.jobs.get_run(self.job_run_id).state
        if state is None or state.result_state is None:
            return "RUNNING"
        status = "FINISHED" if state.result_state == RunResultState.SUCCESS else "FAILED"
        if not self._ended:
            self._end(status)
        return status

    def cancel(self) -> None:
        """Cancel the job, wait until it has ended, and end its MLflow run, as far as there is one."""
        if self._ended:
            return
        if self.job_run_id:
            with suppress(DatabricksError, OSError, OperationFailed):  # it has ended or cannot be reached
                self.client.jobs.cancel_run(self.job_run_id)
                self.client.jobs.wait_get_run_job_terminated_or_skipped(self.job_run_id, timedelta(minutes=2))
        self._end("FAILED")

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

    def _end(self, status: str) -> None:
        """End the run and remove the upload."""
        self._ended = True
        if self.run_id:
            close_runs(self.run_id, status)
        elif self.job_run_id:  # the answer to the call that began the run may be lost
            own = f"tags.`{UPLOAD}` = '{PurePosixPath(self.place).name}'"
            with suppress(MlflowException):
                for run in MlflowClient().search_runs([self.experiment_id], own):
                    close_runs(run.info.run_id, status)
        with suppress(DatabricksError, OSError):
            if not self.place.startswith("/Volumes/"):
                self.client.workspace.delete(self.place, recursive=True)
                return
            for entry in list(self.client.files.list_directory_contents(self.place)):
                self.client.files.delete(entry.path or "")
            self.client.files.delete_directory(self.place)


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
