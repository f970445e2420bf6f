"""The Jobs API: one-time runs whose commands are really run, each in a private view of the machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sandbox
from cluster_check import check_cluster, runtime
from faults import Faults
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from answers import Refusal, fields, required

KINDS = ("shell_command_task", "spark_python_task")
LOG_SHOWN = 5 * 1024 * 1024  # bytes of a log that runs/get-output gives
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
MLFLOW_RUN = re.compile(r"(?:_mlflow_local_backend_run_id|MLFLOW_RUN_ID)\W+([0-9a-f]{32})")
MLFLOW_EXPERIMENT = re.compile(r"MLFLOW_EXPERIMENT_ID\W+(\d+)")


class Jobs:
    """The runs of jobs, each in a folder `jobs/<run id>/` that holds run.json and log.txt, and survives a restart.

    folder: the workspace's.
    url, token: how a job reaches the workspace.
    """

    def __init__(self, folder: Path, url: str, token: str, faults: Faults) -> None:
        self.folder = folder
        self.url = url
        self.token = token
        self.faults = faults
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._runs: dict[int, dict[str, Any]] = {}
        for path in (folder / "jobs").glob("*/run.json"):
            run = json.loads(path.read_text(encoding="utf-8"))
            self._runs[run["run_id"]] = run
            if "result_state" not in run["state"]:
                self._end(run, "INTERNAL_ERROR", "FAILED", "The workspace ended while the job ran.")

    # What a client asks.

    async def submit(self, request: Request) -> Response:
        """POST jobs/runs/submit: check the description, begin, answer at once with the id of the run."""
        given = await fields(request)
        tasks = given.get("tasks") or [{**given, "task_key": "main"}]
        if len(tasks) != 1:
            raise Refusal("INVALID_PARAMETER_VALUE", "This local workspace runs one task a run.")
        task = tasks[0]
        kinds = [name for name in KINDS if isinstance(task.get(name), dict)]
        if len(kinds) != 1:
            raise Refusal(
                "INVALID_PARAMETER_VALUE", f"A task has one of {' and '.join(KINDS)} in this local workspace."
            )
        check_cluster(task, given.get("environments") or [])
        words = self._words(task, kinds[0])
        with self._lock:
            run_id = max(self._runs, default=0) + 1
            run = self._described(run_id, given, task, kinds[0], words)
            self._runs[run_id] = run
            self._save(run)
        threading.Thread(target=self._work, args=(run, task, words), daemon=True).start()
        return JSONResponse({"run_id": run_id})

    async def get(self, request: Request) -> Response:
        """GET jobs/runs/get."""
        return JSONResponse(self.find((await fields(request)).get("run_id")))

    async def output(self, request: Request) -> Response:
        """GET jobs/runs/get-output: the end of the log, and why the run failed, if it did."""
        run = self.find((await fields(request)).get("run_id"))
        log = self.log_path(run["run_id"]).read_bytes()
        found: dict[str, Any] = {"metadata": run, "logs": log[-LOG_SHOWN:].decode(errors="replace")}
        found["logs_truncated"] = len(log) > LOG_SHOWN
        if run["state"].get("result_state") == "FAILED":
            found["error"] = run["state"]["state_message"]
        return JSONResponse(found)

    async def cancel(self, request: Request) -> Response:
        """POST jobs/runs/cancel: end the job with all its processes; one that has ended stays as it is."""
        run = self.find((await fields(request)).get("run_id"))
        threading.Thread(target=self._cancel, args=(run, "Run cancelled."), daemon=True).start()
        return JSONResponse({})

    async def show(self, request: Request) -> Response:
        """GET jobs/runs/list: the last one first."""
        given = await fields(request)
        runs = self.all()
        if given.get("active_only") == "true":
            runs = [run for run in runs if "result_state" not in run["state"]]
        if given.get("completed_only") == "true":
            runs = [run for run in runs if "result_state" in run["state"]]
        start, limit = int(given.get("page_token") or given.get("offset") or 0), int(given.get("limit") or 20)
        shown: dict[str, Any] = {"runs": runs[start : start + limit], "has_more": len(runs) > start + limit}
        if shown["has_more"]:
            shown["next_page_token"] = str(start + limit)
        return JSONResponse(shown)

    async def log(self, request: Request) -> Response:
        """GET /local/runs/<run id>/log?offset=N: the log from a byte on, to follow it; not of Databricks."""
        run = self.find(request.path_params["run_id"])
        with self.log_path(run["run_id"]).open("rb") as file:
            file.seek(int(request.query_params.get("offset") or 0))
            return PlainTextResponse(file.read())

    def routes(self) -> list[Route]:
        api = "/api/{version:str}/jobs/runs"
        return [
            Route(f"{api}/submit", self.submit, methods=["POST"]),
            Route(f"{api}/get", self.get),
            Route(f"{api}/get-output", self.output),
            Route(f"{api}/cancel", self.cancel, methods=["POST"]),
            Route(f"{api}/list", self.show),
            Route("/local/runs/{run_id}/log", self.log),
        ]

    # What the rest of the workspace asks.

    def all(self) -> list[dict[str, Any]]:
        """Every run, the last one first."""
        return [self._runs[run_id] for run_id in sorted(self._runs, reverse=True)]

    def find(self, run_id: Any) -> dict[str, Any]:
        """A run; raises Refusal (INVALID_PARAMETER_VALUE, as Databricks does) for one that is not there."""
        required({"run_id": run_id}, "run_id")
        if not str(run_id).isdecimal() or int(run_id) not in self._runs:
            raise Refusal("INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")
        return self._runs[int(run_id)]

    def log_path(self, run_id: int) -> Path:
        return self.folder / "jobs" / str(run_id) / "log.txt"

    def stop(self) -> None:
        """End every job, before the workspace itself ends."""
        for run in self.all():
            if "result_state" not in run["state"]:
                self._cancel(run, "Run cancelled: the workspace was stopped.")

    # A run's life.

    def _words(self, task: dict[str, Any], kind: str) -> list[str]:
        """The command of a task, as a list of words."""
        details = task[kind]
        if kind == "shell_command_task":
            words = required(details, "command")
        else:
            file = required(details, "python_file")
            if not file.startswith(("dbfs:/", "/Volumes/", "/Workspace/")):
                right = "python_file must begin with dbfs:/, /Volumes/ or /Workspace/ in this local workspace"
                raise Refusal("INVALID_PARAMETER_VALUE", f"{right}: {file}")
            words = ["python", file.replace("dbfs:/", "/dbfs/", 1), *(details.get("parameters") or [])]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Refusal("INVALID_PARAMETER_VALUE", "The words of a command and parameters must be strings.")
        return words

    def _described(
        self, run_id: int, given: dict[str, Any], task: dict[str, Any], kind: str, words: list[str]
    ) -> dict[str, Any]:
        """A new run in the words of Databricks; `mlflow_run_page` is ours."""
        state = {"life_cycle_state": "PENDING", "state_message": "Waiting for cluster"}
        cluster: dict[str, Any] = {name: task[name] for name in ("new_cluster", "environment_key") if name in task}
        page = f"{self.url}/#run-{run_id}"
        own = {**cluster, kind: task[kind], "task_key": task.get("task_key", "main")}
        return {
            "job_id": run_id,
            "run_id": run_id,
            "number_in_job": 1,
            "run_name": given.get("run_name") or "Untitled",
            "run_type": "SUBMIT_RUN",
            "creator_user_name": "you@example.test",
            "start_time": _milliseconds(),
            "state": state,
            "run_page_url": page,
            "cluster_spec": {**cluster, "libraries": task.get("libraries") or []},
            "task": {kind: task[kind]},
            "tasks": [{**own, "run_id": run_id, "state": state, "run_page_url": page}],
            "mlflow_run_page": self._mlflow_run_page(task[kind], words),
        }

    def _mlflow_run_page(self, details: dict[str, Any], words: list[str]) -> str | None:
        """The page of the MLflow run that a command of `mlflow run -b databricks` names, in itself or in its script."""
        text = json.dumps(details)
        if "python_file" in details:
            script = self.folder / words[1].lstrip("/")
            text += script.read_text(errors="replace") if script.is_file() else ""
        run, experiment = MLFLOW_RUN.search(text), MLFLOW_EXPERIMENT.search(text)
        return f"{self.url}/ml/experiments/{experiment[1]}/runs/{run[1]}" if run and experiment else None

    def _work(self, run: dict[str, Any], task: dict[str, Any], words: list[str]) -> None:
        """Run the command to its end and keep how it ended."""
        private = self.folder / "jobs" / str(run["run_id"])
        begun = time.monotonic()
        with self.log_path(run["run_id"]).open("ab") as log:
            log.write("".join(f"[workspace] {line}\n" for line in _remarks(task)).encode())
            log.flush()
            if self.faults.kill_next_job():
                log.write(b"[workspace] The job dies, as was asked for at /local/faults.\n")
                message = "Could not reach driver of cluster: the job died before its command began."
                self._end(run, "INTERNAL_ERROR", "FAILED", message)
                return
            variables = {
                "DATABRICKS_HOST": self.url,
                "DATABRICKS_TOKEN": self.token,
                "MLFLOW_TRACKING_URI": "databricks",
                **((task.get("new_cluster") or {}).get("spark_env_vars") or {}),
                **((task.get("shell_command_task") or {}).get("env_vars") or {}),
            }
            with self._lock:
                if "result_state" in run["state"]:  # cancelled before it began
                    return
                process = subprocess.Popen(
                    [*sandbox.command(self.folder, private), *words],
                    env=sandbox.environment(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._processes[run["run_id"]] = process
                self._set(run, life_cycle_state="RUNNING", state_message="In run")
            code = process.wait()
        run["execution_duration"] = round(1000 * (time.monotonic() - begun))
        if code == 0:
            self._end(run, "TERMINATED", "SUCCESS", "")
        else:
            last = _last_line(self.log_path(run["run_id"]))
            message = f"Workload failed, see run output for details. Exit code {code}. {last}"
            self._end(run, "TERMINATED", "FAILED", message.strip())

    def _cancel(self, run: dict[str, Any], message: str) -> None:
        self._end(run, "TERMINATED", "CANCELED", message)
        process = self._processes.get(run["run_id"])
        if process and process.poll() is None:
            _end_process(process)

    def _end(self, run: dict[str, Any], life_cycle: str, result: str, message: str) -> None:
        with self._lock:
            if "result_state" not in run["state"]:
                run["end_time"] = _milliseconds()
                self._set(run, life_cycle_state=life_cycle, result_state=result, state_message=message)

    def _set(self, run: dict[str, Any], **state: str) -> None:
        run["state"] = run["tasks"][0]["state"] = state
        self._save(run)

    def _save(self, run: dict[str, Any]) -> None:
        path = self.folder / "jobs" / str(run["run_id"]) / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path(run["run_id"]).touch()
        new = path.with_suffix(".new")
        new.write_text(json.dumps(run, indent=2), encoding="utf-8")
        new.replace(path)


def shown_command(task: dict[str, Any]) -> str:
    """What a task does, without the lines that unpack the project."""
    if "shell_command_task" in task:
        lines = " ".join(task["shell_command_task"]["command"]).strip().splitlines()
        return lines[-1].strip() if lines else ""
    details = task["spark_python_task"]
    return shlex.join(["python", details["python_file"], *(details.get("parameters") or [])])


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the job's group; if that is not enough, SIGKILL, with which its whole private view goes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_group(process, number)
        try:
            process.wait(GRACE)
            return
        except subprocess.TimeoutExpired:
            continue


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _remarks(task: dict[str, Any]) -> list[str]:
    """What the first lines of a log say: the command, and what a real cluster would do otherwise."""
    lines = ["A local workspace for learning and tests, not Databricks.", f"$ {shown_command(task)}"]
    number = runtime(task)
    if "shell_command_task" in task and number is not None and number >= 13:
        lines.append(
            f"Databricks itself runs no shell command task of MLflow on runtime {number}: since 13.0 ML a project "
            "needs databricks_spark_job."
        )
    for library in task.get("libraries") or []:
        package = (library.get("pypi") or {}).get("package", "")
        name, _, wanted = package.partition("==")
        try:
            here = version(name) if name else ""
        except PackageNotFoundError:
            here = "none"
        if wanted and here != wanted:
            lines.append(f"A cluster would install {package}; here is {here}, and nothing is installed.")
    return lines


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else ""


def _milliseconds() -> int:
    return round(time.time() * 1000)
