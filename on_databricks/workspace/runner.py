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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sandbox
from faults import Faults
from mlflow.exceptions import ExecutionException
from task_check import cluster_of

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
NOTEBOOK = Path(__file__).with_name("run_notebook.py")


@dataclass(frozen=True)
class Ended:
    """How a task ended, in the words of Databricks; the outcome is that of a condition."""

    life_cycle: str
    result: str
    message: str
    outcome: str = ""


class Runner:
    """Runs tasks.

    folder: the workspace's.
    url, token: how a task reaches the workspace.
    """

    def __init__(self, folder: Path, url: str, token: str, faults: Faults) -> None:
        self.folder = folder
        self.url = url
        self.token = token
        self.faults = faults
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}
        self._stopped: set[Path] = set()
        self._lock = threading.Lock()

    def run(self, task: dict[str, Any], settings: dict[str, Any], log: Path, deadline: float) -> Ended:
        """Run a task to its end, again after a failure as often as its `max_retries` says."""
        cluster = cluster_of(task, settings)
        words = self._words(task, settings)
        libraries = self._libraries(task, settings)
        with log.open("ab") as file:
            file.write(b"[workspace] Not Databricks: the packages of this machine stand for those of the cluster.\n")
            file.write(f"[workspace] $ {shown_command(task)}\n".encode())
        if self.faults.kill_next_job():
            message = "Could not reach driver of cluster: the job died before its command began."
            return Ended("INTERNAL_ERROR", "FAILED", message)
        if complaint := _complaint(libraries, cluster, task, settings):
            return Ended("INTERNAL_ERROR", "FAILED", f"Library installation failed: {complaint}")
        for _ in range(1 + max(0, task.get("max_retries") or 0)):
            how = self._attempt(words, cluster, log, deadline)
            if how.result != "FAILED":
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

    def _attempt(self, words: list[str], cluster: dict[str, Any], log: Path, deadline: float) -> Ended:
        variables = {
            "DATABRICKS_HOST": self.url,
            "DATABRICKS_TOKEN": self.token,
            "MLFLOW_TRACKING_URI": "databricks",
            **(cluster.get("spark_env_vars") or {}),
        }
        with self._lock:
            if log in self._stopped:
                return Ended("TERMINATED", "CANCELED", "Run cancelled.")
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
            return Ended("TERMINATED", "TIMEDOUT", "The run was ended at its timeout_seconds.")
        if code == 0:
            return Ended("TERMINATED", "SUCCESS", "")
        if log in self._stopped:
            return Ended("TERMINATED", "CANCELED", "Run cancelled.")
        message = f"Workload failed, see run output for details. Exit code {code}. {_last_line(log)}"
        return Ended("TERMINATED", "FAILED", message.strip())

    def _words(self, task: dict[str, Any], settings: dict[str, Any]) -> list[str]:
        """The command of a task."""
        if "notebook_task" in task:
            notebook = task["notebook_task"]
            path = f"/Workspace{notebook['notebook_path'].removeprefix('/Workspace')}"
            defaults = {each["name"]: each.get("default", "") for each in settings.get("parameters") or []}
            given = {**defaults, **(notebook.get("base_parameters") or {})}
            return ["python", str(NOTEBOOK), path, json.dumps(given)]
        details = task["spark_python_task"]
        file = details["python_file"].replace("dbfs:/", "/dbfs/", 1)
        place = file if file.startswith(("/dbfs/", "/Volumes/", "/Workspace/")) else f"/Workspace{file}"
        return ["python", place, *(details.get("parameters") or [])]

    def _libraries(self, task: dict[str, Any], settings: dict[str, Any]) -> list[str]:
        """What Databricks would install for a task, as lines of a requirements.txt."""
        lines: list[str] = []
        for library in task.get("libraries") or []:
            if "pypi" in library:
                lines.append(library["pypi"]["package"])
            elif "requirements" in library:
                lines += self._requirements(library["requirements"])
        for each in settings.get("environments") or []:
            if task.get("environment_key") == each["environment_key"]:
                for line in each.get("spec", {}).get("dependencies") or []:
                    lines += self._requirements(line[3:]) if line.startswith("-r ") else [line]
        return [line for line in lines if line]

    def _requirements(self, place: str) -> list[str]:
        root = {"Volumes": "volumes", "Workspace": "workspace"}
        first, _, rest = place.strip().strip("/").partition("/")
        path = self.folder / root.get(first, "workspace") / rest
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [line for line in lines if not line.lstrip().startswith("#")]


def _complaint(
    libraries: list[str], cluster: dict[str, Any], task: dict[str, Any], settings: dict[str, Any]
) -> str | None:
    """Why the Python of the runtime cannot install the libraries, if it cannot."""
    from mlflow_databricks_jobs.config import PYTHON_OF_SERVERLESS, check_pins, python_of_runtime

    if cluster:
        runtime = cluster["spark_version"]
        python = python_of_runtime(runtime)
    else:
        specs = {each["environment_key"]: each["spec"] for each in settings.get("environments") or []}
        runtime = (specs.get(task.get("environment_key")) or {}).get("environment_version") or "5"
        python = PYTHON_OF_SERVERLESS.get(runtime, "3.12")
    try:
        check_pins(libraries, python, runtime)
    except ExecutionException as error:
        return str(error)
    return None


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
