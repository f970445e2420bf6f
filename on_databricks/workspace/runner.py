"""Run one task of a job as a process of its own, in a private view of the machine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sandbox
from mlflow.exceptions import ExecutionException
from task_check import cluster_of

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
NOTEBOOK = Path(__file__).with_name("run_notebook.py")


def state(life_cycle: str, result: str, message: str = "") -> dict[str, str]:
    """How a task or a run ended, in the words of Databricks."""
    return {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}


class Runner:
    """Runs tasks.

    folder: the workspace's.
    url, token: how a task reaches the workspace.
    """

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.own = {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": token, "MLFLOW_TRACKING_URI": "databricks"}
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}
        self._stopped: set[Path] = set()
        self._lock = threading.Lock()

    def run(
        self, task: dict[str, Any], settings: dict[str, Any], parameters: dict[str, str], log: Path, deadline: float
    ) -> dict[str, str]:
        """Run a task to its end, again after a failure as often as its `max_retries` says."""
        cluster = cluster_of(task, settings)
        with log.open("ab") as file:
            file.write(b"[workspace] Not Databricks: the packages of this machine stand for those of the cluster.\n")
            file.write(f"[workspace] $ {shown_command(task)}\n".encode())
        if complaint := self._complaint(cluster, task, settings):
            return state("INTERNAL_ERROR", "FAILED", f"Library installation failed: {complaint}")
        for _ in range(1 + max(0, task.get("max_retries") or 0)):
            how = self._attempt(_words(task, parameters), cluster, log, deadline)
            if how["result_state"] != "FAILED":
                break
        return how

    def stop(self, log: Path) -> None:
        """End the task that writes this log, with all its processes, and let it not begin if it has not."""
        with self._lock:
            self._stopped.add(log)
            process = self._processes.get(log)
        if process and process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                    return

    def _attempt(self, words: list[str], cluster: dict[str, Any], log: Path, deadline: float) -> dict[str, str]:
        variables = {**self.own, **(cluster.get("spark_env_vars") or {})}
        with self._lock:
            if log in self._stopped:
                return state("TERMINATED", "CANCELED", "Run cancelled.")
            with log.open("ab") as file:
                process = subprocess.Popen(
                    [*sandbox.command(self.folder, log.parent), *words],
                    env=sandbox.environment(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._processes[log] = process
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.stop(log)
            return state("TERMINATED", "TIMEDOUT", "The run was ended at its timeout_seconds.")
        if code == 0:
            return state("TERMINATED", "SUCCESS")
        if log in self._stopped:
            return state("TERMINATED", "CANCELED", "Run cancelled.")
        message = f"Workload failed, see run output for details. Exit code {code}. {_last_line(log)}"
        return state("TERMINATED", "FAILED", message.strip())

    def _complaint(self, cluster: dict[str, Any], task: dict[str, Any], settings: dict[str, Any]) -> str | None:
        """Why the Python of the runtime cannot install the libraries of a task, if it cannot."""
        from mlflow_databricks_jobs.config import check_pins, python_of_runtime, python_of_serverless

        specs = {each["environment_key"]: each.get("spec") or {} for each in settings.get("environments") or []}
        spec = specs.get(task.get("environment_key")) or {}
        runtime = cluster.get("spark_version") or spec.get("environment_version") or "5"
        python = python_of_runtime(runtime) if cluster else python_of_serverless(runtime)
        libraries = list(spec.get("dependencies") or [])
        for library in task.get("libraries") or []:
            libraries.append(library["pypi"]["package"] if "pypi" in library else f"-r {library.get('requirements')}")
        try:
            check_pins([line for each in libraries for line in self._lines(each)], python, runtime)
        except ExecutionException as error:
            return str(error)
        return None

    def _lines(self, library: str) -> list[str]:
        """A line of requirements, or those of the file of the workspace that it names."""
        if not library.startswith("-r "):
            return [library]
        first, _, rest = library[3:].strip().strip("/").partition("/")
        path = self.folder / ("volumes" if first == "Volumes" else "workspace") / rest
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [line for line in lines if line and not line.lstrip().startswith(("#", "-c "))]


def _words(task: dict[str, Any], parameters: dict[str, str]) -> list[str]:
    """The command of a task; the parameters of a job are widgets of a notebook and win over its own."""
    if notebook := task.get("notebook_task"):
        path = f"/Workspace{notebook['notebook_path'].removeprefix('/Workspace')}"
        return ["python", str(NOTEBOOK), path, json.dumps({**(notebook.get("base_parameters") or {}), **parameters})]
    details = task["spark_python_task"]
    file = details["python_file"].replace("dbfs:/", "/dbfs/", 1)
    place = file if file.startswith(("/dbfs/", "/Volumes/", "/Workspace/")) else f"/Workspace{file}"
    return ["python", place, *(details.get("parameters") or [])]


def shown_command(task: dict[str, Any]) -> str:
    """What a task does, on one line."""
    if "condition_task" in task:
        condition = task["condition_task"]
        return f"{condition['left']} {condition['op']} {condition['right']}"
    if "notebook_task" in task:
        return str(task["notebook_task"]["notebook_path"])
    details = task["spark_python_task"]
    return shlex.join(["python", details["python_file"], *(details.get("parameters") or [])])


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else ""
