"""Run one task of a job as a process of its own, in a private view of the machine made by bubblewrap.

A job has its own /databricks and /tmp, and the workspace's /dbfs, /Volumes and /Workspace. The rest of the machine is
there to be read: the Python that serves stands for the cluster's runtime.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import click
from mlflow.exceptions import ExecutionException
from task_check import cluster_of

from answers import Fields

PROGRAM = "bwrap"
GRACE = 5.0  # seconds between SIGTERM and SIGKILL, and for which SIGKILL is sent
HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache"
OWN = ("dbfs", "databricks", "Volumes", "Workspace", "tmp", "proc", "dev")
# What a job inherits: the way to the outside, and where packages come from.
INHERITED = (
    *("HOME", "USER", "LANG", "LC_ALL", "JAVA_HOME", "PYENV_ROOT", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENV_ROOT"),
    *("SSL_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_", "UV_", "CONDA_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)


def check() -> None:
    """Raise click.ClickException where a private view cannot be made."""
    if not shutil.which(PROGRAM):
        raise click.ClickException("bwrap is missing: a job runs in a private view that it makes. Install bubblewrap.")
    tried = subprocess.run([*alone(), "true"], capture_output=True, text=True)
    if tried.returncode:
        reason = " ".join(tried.stderr.split())
        raise click.ClickException(f"bwrap cannot make a private view on this machine: {reason}")


def alone() -> list[str]:
    """The beginning of a command whose processes all end with it, and with this process, whatever they do."""
    return [PROGRAM, "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"]


def private_view(folder: Path, private: Path) -> list[str]:
    """The beginning of a command that sees a job's view.

    folder: the workspace's. private: the job's own; its /databricks and /tmp are made here.
    """
    words = [PROGRAM, "--unshare-pid", "--proc", "/proc", "--dev-bind", "/dev", "/dev", "--die-with-parent"]
    for path in sorted(Path("/").iterdir()):
        if path.name not in OWN:
            words += ["--symlink", str(path.readlink())] if path.is_symlink() else ["--ro-bind", str(path)]
            words.append(str(path))
    # Where uv, pip and MLflow keep environments.
    places = {str(place): place for place in (CACHE, Path.home() / ".mlflow")}
    places |= {f"/{name}": private / name for name in ("databricks", "tmp")}
    places |= {f"/{name}": folder / name.lower() for name in ("dbfs", "Volumes", "Workspace")}
    for inside, outside in places.items():
        outside.mkdir(parents=True, exist_ok=True)
        words += ["--bind", str(outside), inside]
    for place in {Path(sys.prefix), Path(sys.base_prefix), HERE}:
        if place.parts[1] == "tmp":  # hidden by the job's own /tmp otherwise
            words += ["--ro-bind", str(place), str(place)]
    return [*words, "--chdir", "/databricks"]


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The variables of a job: few of this process's, then `extra`."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    # The last folder has an rsync for MLflow's own backend.
    places = [Path(sys.prefix) / "bin", os.environ["PATH"], Path(sys.base_prefix) / "bin", HERE / "bin"]
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    return {
        **kept,
        "PATH": os.pathsep.join(map(str, places)),
        "TMPDIR": "/tmp",
        "DB_HOME": "/databricks",
        "MPLCONFIGDIR": str(CACHE / "matplotlib"),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",  # the log is read while it is written
        **extra,
    }


def state(life_cycle: str, result: str, message: str = "") -> Fields:
    """How a task or a run ended, in the words of Databricks."""
    return {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}


CANCELED = state("TERMINATED", "CANCELED", "Run cancelled.")


class Runner:
    """Runs tasks.

    folder: the workspace's. url, token: how a task reaches it.
    """

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.own = {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": token, "MLFLOW_TRACKING_URI": "databricks"}
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}
        self._stopped: set[Path] = set()
        self._lock = threading.Lock()

    def run(self, task: Fields, settings: Fields, parameters: dict[str, str], log: Path, deadline: float) -> Fields:
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
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(GRACE)
            deadline = time.monotonic() + GRACE  # a dead process that nobody collects is there for ever
            with suppress(ProcessLookupError):  # bwrap may be gone before those that it has begun
                while time.monotonic() < deadline:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.poll()
                    time.sleep(0.05)

    def _attempt(self, words: list[str], cluster: Fields, log: Path, deadline: float) -> Fields:
        variables = {**self.own, **(cluster.get("spark_env_vars") or {})}
        with self._lock, log.open("ab") as file:
            if log in self._stopped:
                return CANCELED
            process = self._processes[log] = subprocess.Popen(
                [*private_view(self.folder, log.parent), *words],
                env=environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.stop(log)
            return state("TERMINATED", "TIMEDOUT", "The run was ended at its timeout_seconds.")
        if code == 0:
            return state("TERMINATED", "SUCCESS")
        if log in self._stopped:
            return CANCELED
        last = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-1][:500]
        return state("TERMINATED", "FAILED", f"Workload failed, see run output for details. Exit code {code}. {last}")

    def _complaint(self, cluster: Fields, task: Fields, settings: Fields) -> str | None:
        """Why the Python of the runtime cannot install the libraries of a task, if it cannot."""
        from mlflow_databricks_jobs.config import PYTHON, check_pins, python_of
        from mlflow_databricks_jobs.project import flat

        specs = {each["environment_key"]: each.get("spec") or {} for each in settings.get("environments") or []}
        spec = specs.get(task.get("environment_key")) or {}
        runtime, serverless = cluster.get("spark_version"), str(spec.get("environment_version") or "5")
        lines = list(spec.get("dependencies") or [])
        for library in task.get("libraries") or []:
            lines.append(library["pypi"]["package"] if "pypi" in library else f"-r {library.get('requirements')}")
        for name in ("Workspace", "Volumes"):
            lines = [line.replace(f"-r /{name}/", f"-r {self.folder / name.lower()}/") for line in lines]
        try:
            python = python_of(runtime) if runtime else PYTHON.get(serverless, "3.12")
            check_pins([each for line in lines for each in flat(line, self.folder)], python, runtime or serverless)
        except ExecutionException as error:
            return str(error)
        return None


def _words(task: Fields, parameters: dict[str, str]) -> list[str]:
    """The command of a task; the parameters of a job are widgets of a notebook and win over its own."""
    if notebook := task.get("notebook_task"):
        path = f"/Workspace{notebook['notebook_path'].removeprefix('/Workspace')}"
        widgets = json.dumps({**(notebook.get("base_parameters") or {}), **parameters})
        return ["python", str(HERE / "run_notebook.py"), path, widgets]
    details = task["spark_python_task"]
    file = details["python_file"].replace("dbfs:/", "/dbfs/", 1)
    place = file if file.startswith(("/dbfs/", "/Volumes/", "/Workspace/")) else f"/Workspace{file}"
    return ["python", place, *(details.get("parameters") or [])]


def shown_command(task: Fields) -> str:
    """What a task does, on one line."""
    if condition := task.get("condition_task"):
        return f"{condition['left']} {condition['op']} {condition['right']}"
    if notebook := task.get("notebook_task"):
        return str(notebook["notebook_path"])
    details = task["spark_python_task"]
    return shlex.join(["python", details["python_file"], *(details.get("parameters") or [])])
