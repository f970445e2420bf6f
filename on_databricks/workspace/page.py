"""The page of the workspace: its jobs, what became of them, their logs and their MLflow runs."""

from __future__ import annotations

import re
import time
from html import escape
from typing import Any

from jobs import Jobs
from runner import shown_command
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<title>Local workspace</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
  table {{ border-collapse: collapse; table-layout: fixed; width: 100%; }}
  td, th {{ border-bottom: 1px solid #ccc; overflow-wrap: anywhere; padding: .4rem .6rem; text-align: left;
    vertical-align: top; }}
  td div {{ max-height: 6rem; overflow: auto; }}
  tr:target {{ background: #fff6cc; }}
</style>
<h1>Local workspace</h1>
<p>A tool for learning and tests: it speaks a part of the Databricks API on this machine. It is not Databricks.
<a href="{ui}">Runs and models in the MLflow UI</a></p>
<table>
<tr><th style="width: 3rem">Run</th><th>State</th><th style="width: 9rem">Started</th>
<th style="width: 5rem">Seconds</th><th style="width: 45%">Tasks</th><th style="width: 6rem"></th></tr>
{rows}
</table>
</html>
"""
ROW = """<tr id="run-{number}"><td>{number}</td><td><div>{state}</div></td><td>{start}</td><td>{seconds}</td>
<td><div>{name}<br><code>{commands}</code></div></td>
<td><a href="/local/runs/{number}/log">log</a><br>{run}</td></tr>"""
OF_BACKEND = re.compile(r"/\.?mlflow-projects/")


class Page:
    """GET /: all jobs, the last one first.

    ui: the address of the MLflow UI.
    """

    def __init__(self, jobs: Jobs, ui: str) -> None:
        self.jobs = jobs
        self.ui = ui

    async def show(self, request: Request) -> Response:
        rows = [self._row(run) for run in self.jobs.all()]
        return HTMLResponse(PAGE.format(ui=escape(self.ui), rows="\n".join(rows) or "<tr><td>No job yet.</td></tr>"))

    def _row(self, run: dict[str, Any]) -> str:
        state, mlflow_run = run["state"], self._mlflow_run(run)
        end = run.get("end_time") or time.time() * 1000
        tasks = [task for task in run["tasks"] if task["state"].get("result_state") != "EXCLUDED"]
        return ROW.format(
            number=run["run_id"],
            state=escape(f"{state.get('result_state') or state['life_cycle_state']} {state['state_message']}".strip()),
            start=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["start_time"] / 1000)),
            seconds=round((end - run["start_time"]) / 1000),
            name=escape(run["run_name"]),
            commands="<br>".join(escape(shown_command(task)) for task in tasks),
            run=f'<a href="{escape(mlflow_run)}">MLflow run</a>' if mlflow_run else "",
        )

    def _mlflow_run(self, run: dict[str, Any]) -> str | None:
        """The page of the MLflow run that a job of `-b databricks-jobs` fills."""
        for task in run["tasks"]:
            said = task.get("spark_python_task") or {}
            if OF_BACKEND.search(said.get("python_file", "")):
                return f"{self.jobs.url}/ml/experiments/0/runs/{said['parameters'][1]}"
        return None

    def routes(self) -> list[Route]:
        return [Route("/", self.show)]
