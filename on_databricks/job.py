"""Follow a job of a Databricks workspace to its end: its state, its log, and its cancelling."""

from __future__ import annotations

import time
from typing import Any

import click
from connection import BUSY, Connection, StopRequestedError, UnansweredError
from databricks.sdk.errors import DatabricksError

SHORTEST, LONGEST = 1.0, 5.0  # seconds between two looks at a job
SECONDS_TO_CANCEL = 60
LINES_AT_END = 40  # of a log that could not be followed


class Job:
    """One run of a job.

    run_id: the number that Databricks gave it.
    """

    def __init__(self, connection: Connection, run_id: int) -> None:
        self.connection = connection
        self.run_id = run_id
        self.page = ""
        self._task_run_id = run_id
        self._shown = ""

    def look(self, stop_on: tuple[type[Exception], ...] = BUSY) -> dict[str, Any]:
        """The state of the job; `result_state` is in it once the job has ended."""
        found = self.connection.call("GET", "/api/2.0/jobs/runs/get", query={"run_id": self.run_id}, stop_on=stop_on)
        self.page = found.get("run_page_url", "")
        tasks = found.get("tasks") or [{}]
        self._task_run_id = tasks[0].get("run_id", self.run_id)  # whose output can be asked for
        return dict(found["state"])

    def follow(self) -> dict[str, Any]:
        """Wait for the end; print a line when the state changes, and the log as far as the workspace gives it.

        Raises StopRequestedError, UnansweredError, DatabricksError.
        """
        before, pause = "", SHORTEST
        while True:
            state = self.look()
            ended = "result_state" in state
            if ended:
                self._show_log(at_end=True)
            if state["life_cycle_state"] != before:
                before = state["life_cycle_state"]
                words = (state.get("result_state", ""), state.get("state_message", ""))
                click.echo(" ".join([time.strftime("%H:%M:%S"), f"job {self.run_id}", before, *filter(None, words)]))
                pause = SHORTEST
            if ended:
                return state
            if before == "RUNNING":
                self._show_log(at_end=False)
            if self.connection.stop.wait(pause):
                raise StopRequestedError
            pause = min(1.5 * pause, LONGEST)

    def cancel(self) -> bool:
        """Cancel the job and wait until it has ended; returns whether it has."""
        try:
            self.connection.call("POST", "/api/2.0/jobs/runs/cancel", body={"run_id": self.run_id}, stop_on=())
            end = time.monotonic() + SECONDS_TO_CANCEL
            while "result_state" not in self.look(stop_on=()):
                if time.monotonic() > end:
                    return False
                time.sleep(SHORTEST)
        except (DatabricksError, UnansweredError):
            return False
        return True

    def _show_log(self, at_end: bool) -> None:
        """Print what the log has more than before; a workspace that gives none yet is asked again later."""
        try:
            output = self.connection.client.api_client.do(
                "GET", "/api/2.0/jobs/runs/get-output", query={"run_id": self._task_run_id}
            )
        except Exception as error:  # a log that is not to be had must not end the waiting for the job
            if at_end:
                click.echo(f"The job's log is not to be had: {error}")
            return
        log = self.connection.hide(str(output.get("logs") or "") if isinstance(output, dict) else "")
        if log.startswith(self._shown):
            new = log[len(self._shown) :]
        else:  # Databricks gives the end of a long log only
            new = "...\n" + "\n".join(log.splitlines()[-LINES_AT_END:])
        new = new if at_end else new[: new.rfind("\n") + 1]  # whole lines
        if new:
            self._shown += new
            if not log.startswith(self._shown):
                self._shown = log
            click.echo(new, nl=not new.endswith("\n"))
