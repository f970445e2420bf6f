"""Run MLflow Projects as a user does, with the real `mlflow run`, and look at what they leave in the tracking store."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fork_server import forks
from mlflow import MlflowClient
from mlflow.entities import Dataset, LoggedModel, Run

COLLECTION = Path(__file__).resolve().parent.parent

PROGRAMS = COLLECTION / "tests" / "programs"

PATIENCE = 900.0  # s until a test gives up; no test passes or fails by how fast the machine is
Truth = TypeVar("Truth")
_PORTS = itertools.count()

# Java's quick compiler alone, and Spark's classes unverified: its sessions of a few seconds take half the time.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
SHORT_SPARK = f'--driver-java-options "{JAVA}" --conf spark.sql.shuffle.partitions=2'


@dataclass
class Outcome:
    """What a finished `mlflow run` printed and left behind."""

    code: int
    output: str
    begun: Run | None  # None where no run was begun

    @property
    def run(self) -> Run:
        assert self.begun, self.output
        return self.begun

    @property
    def error(self) -> str:
        """The one line that begins with "Error:"."""
        lines = [line for line in self.output.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.output
        return lines[0].removeprefix("Error: ")


@dataclass
class Store:
    """A tracking store of its own (SQLite, artifacts beside it), and the environment of processes that use it."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        with chdir(self.folder):  # where a new store puts its artifacts
            self.client.search_experiments()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_"))}
        interpreter = str(Path(sys.executable).parent)
        self.environment = {
            **kept,
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes more a server, none of use here
            "OMP_WAIT_POLICY": "passive",  # a thread that waits leaves its core to other tests
            "PYSPARK_SUBMIT_ARGS": f"{SHORT_SPARK} pyspark-shell",
            "PATH": f"{interpreter}{os.pathsep}{kept['PATH']}",
        }

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    def children(self, run: Run) -> list[Run]:
        """The child runs of a run, the first started first."""
        found = self.client.search_runs(
            [run.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{run.info.run_id}'",
            order_by=["attributes.start_time ASC"],
        )
        return list(found)

    def model(self, run: Run) -> LoggedModel:
        """The model that a run logged."""
        return self.client.get_logged_model(model_logged(run))

    def artifacts(self, run: Run) -> set[str]:
        """The names of the files and folders at the top of a run's artifacts."""
        return {item.path for item in self.client.list_artifacts(run.info.run_id)}

    def artifact(self, run: Run, name: str) -> Path:
        """A local copy of an artifact."""
        return Path(self.client.download_artifacts(run.info.run_id, name))

    def mlflow_run(
        self,
        project: str | Path,
        entry_point: str = "main",
        parameters: Mapping[str, object] | None = None,
        *arguments: str,
        env_manager: str | None = "local",
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """`mlflow run PROJECT -e ENTRY_POINT -P NAME=VALUE ...`, from the store's folder."""
        command = ["run", str(project), "-e", entry_point, *arguments]
        for name, value in (parameters or {}).items():
            command += ["-P", f"{name}={value}"]
        if env_manager:
            command += ["--env-manager", env_manager]
        return self.mlflow(command, environment={**self.environment, **(environment or {})})

    def mlflow(
        self,
        arguments: list[str],
        *,
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> Outcome:
        """`mlflow ARGUMENT ...` from a folder, that of the store where none is named; the programs start at once.

        What a newcomer types, Ctrl-C and `-b databricks` start real ones, as a user does: see `run`.
        """
        environment = {**environment, "PATH": f"{forks()}{os.pathsep}{environment['PATH']}"}
        return self._outcome(["mlflow", *arguments], environment, folder or self.folder)

    def run(self, command: list[str], *, environment: Mapping[str, str] | None = None) -> Outcome:
        """Any command, from the store's folder; the run is the one that `mlflow run` announces, if it does."""
        return self._outcome(command, {**self.environment, **(environment or {})}, self.folder)

    def _outcome(self, command: list[str], environment: Mapping[str, str], folder: Path) -> Outcome:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        announced = re.search(r"in run with ID '([0-9a-f]{32})'", done.stdout)
        return Outcome(done.returncode, done.stdout, self.client.get_run(announced[1]) if announced else None)

    def run_several(
        self,
        example: Path,
        commands: list[tuple[str, str, list[str]]],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """Scripts of an example, (module, name of its command, arguments), in one process: a start costs seconds."""
        done = subprocess.run(
            ["python", str(PROGRAMS / "several.py")],
            cwd=example,
            env={
                **self.environment,
                **(environment or {}),
                "PATH": f"{forks()}{os.pathsep}{self.environment['PATH']}",
            },
            input=json.dumps(commands),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [Outcome(code, output, None) for code, output in json.loads(done.stdout.splitlines()[-1])]


def wait_until(condition: Callable[[], Truth]) -> Truth:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Not one of those that the system gives to connections, or to who asks for any port: it would give this one away
    before a server has started to listen on it. Each process of the tests has a hundred of its own.
    """
    while True:
        port = 10_000 + 100 * (os.getpid() % 100) + next(_PORTS) % 100
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def datasets(run: Run) -> list[Dataset]:
    """The tables that a run names as its inputs."""
    assert run.inputs, "the run names no inputs"
    return [each.dataset for each in run.inputs.dataset_inputs]


def models_used(run: Run) -> list[str]:
    """The ids of the models that a run names as its inputs."""
    assert run.inputs, "the run names no inputs"
    return [each.model_id for each in run.inputs.model_inputs]


def model_logged(run: Run) -> str:
    """The id of the model that a run logged."""
    assert run.outputs, "the run logged no model"
    return run.outputs.model_outputs[0].model_id


def model_uri(run: Run) -> str:
    """The URI of the model that a run logged under the name `model`."""
    return f"runs:/{run.info.run_id}/model"


def metrics_without_times(run: Run) -> dict[str, Any]:
    """The metrics of a run that do not depend on how busy the machine is."""
    return {name: value for name, value in run.data.metrics.items() if not name.endswith("_seconds")}
