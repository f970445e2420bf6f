"""The page of the workspace: its jobs, what became of them, their logs and their MLflow runs."""

from __future__ import annotations

import re
import time
from html import escape
from urllib.parse import quote

from jobs import Jobs
from mlflow_databricks_jobs.run_entry_point import UPLOAD
from runner import shown_command
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from answers import Fields

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
OF_BACKEND = re.compile(r"/\.?mlflow-projects/(\w+)")  # the folder of a job, which a tag of its MLflow run names


def page(jobs: Jobs, ui: str) -> Route:
    """GET /: all jobs, the last one first; ui is the address of the MLflow UI."""

    async def show(request: Request) -> Response:
        rows = "\n".join(_row(run, ui) for run in jobs.all())
        return HTMLResponse(PAGE.format(ui=escape(ui), rows=rows or "<tr><td>No job yet.</td></tr>"))

    return Route("/", show)


def _row(run: Fields, ui: str) -> str:
    state, end = run["state"], run.get("end_time") or time.time() * 1000
    tasks = [task for task in run["tasks"] if task["state"].get("result_state") != "EXCLUDED"]
    python, link = (tasks[0].get("spark_python_task") if tasks else None) or {}, ""
    if found := OF_BACKEND.search(python.get("python_file", "")):
        wanted = quote(f"tags.`{UPLOAD}` = '{found[1]}'")
        address = f"{ui}/#/experiments/{python['parameters'][1]}/runs?searchFilter={wanted}"
        link = f'<a href="{escape(address)}">MLflow run</a>'
    return ROW.format(
        number=run["run_id"],
        state=escape(f"{state.get('result_state') or state['life_cycle_state']} {state['state_message']}".strip()),
        start=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["start_time"] / 1000)),
        seconds=round((end - run["start_time"]) / 1000),
        name=escape(run["run_name"]),
        commands="<br>".join(escape(shown_command(task)) for task in tasks),
        run=link,
    )
