"""The page of the workspace: its jobs, what became of them, their logs and their MLflow runs."""

from __future__ import annotations

import time
from html import escape
from typing import Any

from jobs import Jobs, shown_command
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
  table {{ border-collapse: collapse; width: 100%; }}
  td, th {{ border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top; }}
  code {{ overflow-wrap: anywhere; }}
  tr:target {{ background: #fff6cc; }}
</style>
<h1>Local workspace</h1>
<p>A tool for learning and tests: it speaks a part of the Databricks API on this machine. It is not Databricks.
<a href="{ui}">Runs and models in the MLflow UI</a></p>
<table>
<tr><th>Job</th><th>State</th><th>Started</th><th>Seconds</th><th>Command</th><th></th></tr>
{rows}
</table>
</html>
"""
ROW = """<tr id="run-{number}"><td>{number}</td><td>{state}</td><td>{start}</td><td>{seconds}</td>
<td>{name}<br><code>{command}</code></td><td><a href="/local/runs/{number}/log">log</a><br>{run}</td></tr>"""


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
        state, mlflow_run = run["state"], run["mlflow_run_page"]
        end = run.get("end_time") or time.time() * 1000
        return ROW.format(
            number=run["run_id"],
            state=escape(f"{state.get('result_state') or state['life_cycle_state']} {state['state_message']}".strip()),
            start=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["start_time"] / 1000)),
            seconds=round((end - run["start_time"]) / 1000),
            name=escape(run["run_name"]),
            command=escape(shown_command(run["task"])),
            run=f'<a href="{escape(mlflow_run)}">MLflow run</a>' if mlflow_run else "",
        )

    def routes(self) -> list[Route]:
        return [Route("/", self.show)]
