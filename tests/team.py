"""Users of a team's server, and what they run on it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fork_server import forks
from mlflow import MlflowClient
from running import COLLECTION, PROGRAMS, Outcome, Store

TEAM_SERVER = COLLECTION / "team_server"
Command = tuple[str, dict[str, Any]]  # compare, or registry list; and options

FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}


@dataclass
class User:
    """A user of the server, and the environment of what the user starts."""

    name: str
    environment: dict[str, str] = field(repr=False)  # a password is in it

    @property
    def client(self) -> MlflowClient:
        """A client of this user: one user at a time in a process, since MLflow reads the environment."""
        os.environ.update(self.environment)
        uri = self.environment["MLFLOW_TRACKING_URI"]
        return MlflowClient(uri, uri)

    def run(self, example: str, *commands: Command, experiment: str = "") -> list[Outcome]:
        """Scripts of an example, with subcommands and options, in one process of this user."""
        given = []
        for script, options in commands:
            module, *words = script.split()
            name = {"deploy": "deployment"}.get(module, module)  # of the module's click command
            given.append([module, name, words + [f"--{key}={value}" for key, value in options.items()]])
        done = subprocess.run(
            ["python", str(PROGRAMS / "several.py")],
            cwd=COLLECTION / example,
            env=self.in_experiment(experiment),
            input=json.dumps(given),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [Outcome(code, output, None) for code, output in json.loads(done.stdout.splitlines()[-1])]

    def mlflow(self, *arguments: str) -> str:
        """What `mlflow ARGUMENT ...` prints, which succeeds."""
        environment = {name: value for name, value in self.in_experiment().items() if name != "MLFLOW_EXPERIMENT_NAME"}
        done = subprocess.run(["mlflow", *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def in_experiment(self, experiment: str = "") -> dict[str, str]:
        """The environment, with an experiment: the user's own where none is named."""
        path = f"{forks()}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**self.environment, "MLFLOW_EXPERIMENT_NAME": experiment or self.name, "PATH": path}


def free_ports() -> int:
    """A port that is free with the five after it, these plus 10,000 too, as the server needs them."""
    mine = os.getpid() % 250
    for block in (*range(mine, 250), *range(mine)):
        port = 20_000 + 10 * block  # these too are none that the system gives away: see running.free_port
        wanted = [port, *(port + step + more for step in range(1, 6) for more in (0, 10_000))]
        try:
            for each in wanted:
                with closing(socket.socket()) as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port
    raise AssertionError("no ports are free")


class StoreOfUser(Store):
    """The team's server as a user sees it, for tests that take a store."""

    def __init__(self, folder: Path, user: User) -> None:
        self.folder, self.user, self.environment = folder, user, user.in_experiment()
        del self.environment["MLFLOW_EXPERIMENT_NAME"]

    @property
    def uri(self) -> str:
        return self.environment["MLFLOW_TRACKING_URI"]

    @property
    def client(self) -> MlflowClient:
        return self.user.client
