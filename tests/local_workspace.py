"""Start the local workspace as a reader starts it, and ask of it what a client asks and what only a test does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from fork_server import forks
from mlflow import MlflowClient
from running import COLLECTION, PATIENCE, free_port, wait_until

SERVE = f"{sys.executable} {COLLECTION}/on_databricks/workspace/serve.py"
# What a cluster needs at least.
CLUSTER = {"spark_version": "17.3.x-cpu-ml-scala2.13", "node_type_id": "Standard_DS3_v2", "num_workers": 0}
EXISTING = "0101-120000-local001"  # a cluster that the workspace has from the beginning
CODES = {403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 503: "TEMPORARILY_UNAVAILABLE"}


@dataclass
class Workspace:
    """A workspace that runs; what a client of it needs, and what only a test asks of it.

    folder: what it keeps. command: that starts it, from the folder above; otherwise one with a free port.
    environment: of a process that uses it, and nothing else of this one's MLflow.
    """

    folder: Path
    command: str = ""
    url: str = ""
    token: str = ""
    printed: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, again on the same port."""
        port = free_port()
        while not self.command and free_port() != port + 1:
            port = free_port()
        self.command = self.command or f"{SERVE} --port {port} --folder {self.folder}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DATABRICKS_"))}
        kept |= {"MLFLOW_DISABLE_TELEMETRY": "true", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{forks()}{os.pathsep}{kept['PATH']}"  # its bwrap
        log = self.folder.with_suffix(".log")
        with log.open("w") as file:
            place = self.folder.parent
            self.process = process = subprocess.Popen(
                self.command.split(), cwd=place, env=kept, stdout=file, stderr=file, text=True
            )

        def ready() -> bool:
            self.printed = log.read_text()
            assert process.poll() is None, self.printed
            return "Ctrl-C" in self.printed

        wait_until(ready)
        exports = dict(re.findall(r"^export (\w+)=(.*)$", self.printed, re.MULTILINE))
        self.url, self.token = exports["DATABRICKS_HOST"], exports["DATABRICKS_TOKEN"]
        self.environment = {**kept, **exports}

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def call(self, method: str, path: str, *, token: str | None = None, **arguments: Any) -> requests.Response:
        """One request, with the token of the workspace unless another is given; the empty one is none."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, self.url + path, headers=headers, timeout=PATIENCE, **arguments)

    def runs(self) -> list[dict[str, Any]]:
        """All runs of jobs, the last one first."""
        return self.call("GET", "/api/2.1/jobs/runs/list", params={"limit": 1000}).json()["runs"]

    def log(self, run_id: int) -> str:
        """What a job has printed."""
        return self.call("GET", f"/local/runs/{run_id}/log").text

    def wait(self, run_id: int) -> dict[str, Any]:
        """A run of a job, once it has ended."""

        def ended() -> dict[str, Any] | None:
            run = self.call("GET", "/api/2.1/jobs/runs/get", params={"run_id": run_id}).json()
            return run if "result_state" in run["state"] else None

        return wait_until(ended) or {}

    def submit(self, program: str, **more: Any) -> int:
        """Run a Python program as a job; returns its run id."""
        file = self.folder / "workspace" / "Shared" / f"{zlib.crc32(program.encode())}.py"
        file.write_text(program)
        python = {"python_file": f"/Workspace/Shared/{file.name}"}
        task = {"task_key": "program", "new_cluster": CLUSTER, "spark_python_task": python, **more}
        answer = self.call("POST", "/api/2.2/jobs/runs/submit", json={"tasks": [task]})
        assert answer.ok, answer.text
        return answer.json()["run_id"]

    @property
    def client(self) -> MlflowClient:
        """A client of the MLflow server behind the workspace; it needs no variables (see `connected`)."""
        port = int(self.url.rpartition(":")[2]) + 1
        return MlflowClient(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")

    def typed(self, command: str, folder: Path, **environment: str) -> str:
        """What a command prints that a person types who has exported the three variables; it must end well.

        environment: more variables; an empty one is none. `mlflow` and `python` start at once.
        """
        variables = {**self.environment, "PATH": f"{forks()}{os.pathsep}{self.environment['PATH']}", **environment}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={name: value for name, value in variables.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout


@dataclass
class Fault:
    """Requests of this process to a route that get an error instead of an answer, for ever or some times."""

    route: str
    status: int
    times: int = 10**6

    def meets(self, request: requests.PreparedRequest) -> bool:
        """Whether a request is to get the error."""
        if not self.times or not urlsplit(request.url or "").path.startswith(self.route):
            return False
        self.times -= 1
        return True

    def answer(self, request: requests.PreparedRequest) -> requests.Response:
        """The error, as a workspace gives it."""
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = self.status, request, request.url or ""
        answer._content = json.dumps({"error_code": CODES[self.status], "message": "A fault."}).encode()
        return answer
