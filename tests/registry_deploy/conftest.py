"""What the tests of registry_deploy share: its scripts as commands, small logged models, a tracking server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from fork_server import forks
from mlflow.data.pandas_dataset import from_pandas
from mlflow.models import infer_signature
from running import COLLECTION, PATIENCE, PROGRAMS, Outcome, Store, free_port, wait_until
from sklearn.linear_model import LogisticRegression

EXAMPLE = COLLECTION / "registry_deploy"
Run = Callable[..., Outcome]
Log = Callable[..., str]


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 rows: `y` is yes or no, told by `x`, hardly by `z`."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"x": generator.normal(size=500), "z": generator.normal(size=500)})
    table["y"] = np.where(table["x"] + 0.2 * table["z"] + generator.normal(scale=0.5, size=500) > 0, "yes", "no")
    path = tmp_path_factory.mktemp("validation") / "validation.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def log(store: Store, validation: Path) -> Log:
    """Logs a small model of a kind, in a run of its own; returns its URI.

    Kinds: `good` and `same` see x and z, `weak` sees z alone, `wide` asks for a third column, `slow` takes `seconds`.
    """
    table = pd.read_csv(validation)

    def log_model(
        kind: str, *, uri: str = "", seconds: float = 0, experiment: str = "Default", **metrics: float
    ) -> str:
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri or store.uri)
        try:
            found = mlflow.get_experiment_by_name(experiment)
            number = found.experiment_id if found else mlflow.create_experiment(experiment)
            with mlflow.start_run(experiment_id=number) as run:
                X = table[["x", "z"]].assign(extra=1.0) if kind == "wide" else table[["x", "z"]]
                dataset = from_pandas(X, source=str(validation), name="table")
                mlflow.log_input(dataset, context="training")
                pins = [f"{package}=={version(package)}" for package in ("mlflow", "scikit-learn", "skops", "pandas")]
                if kind == "slow":
                    info = mlflow.pyfunc.log_model(
                        name="model",
                        python_model=str(PROGRAMS / "slow_model.py"),
                        model_config={"seconds": seconds},
                        signature=infer_signature(X, np.array(["yes"], object), params={"predict_method": "predict"}),
                        input_example=X.head(2),
                        metadata={"classes": ["no", "yes"]},
                        pip_requirements=pins,
                    )
                else:
                    learned = X.assign(x=0.0) if kind == "weak" else X
                    model = LogisticRegression().fit(learned, table["y"].astype(object))
                    info = mlflow.sklearn.log_model(
                        model,
                        name="model",
                        signature=infer_signature(X, model.predict(X)),
                        input_example=X.head(2),
                        pip_requirements=pins,
                    )
                if metrics:
                    mlflow.log_metrics(metrics, model_id=info.model_id, dataset=dataset)
            return f"runs:/{run.info.run_id}/model"
        finally:
            mlflow.set_tracking_uri(before)

    return log_model


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where local deployments of these tests lie."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def run(store: Store, home: Path) -> Run:
    """Runs a script of the example: `run("promote.py", model_uri="models:/m/1")`."""

    def run_script(script: str, *verb: str, environment: dict[str, str] | None = None, **options: object) -> Outcome:
        command = [f"{forks()}/python", str(EXAMPLE / script), *verb]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        outcome = store.run(command, environment={"XDG_STATE_HOME": str(home), **(environment or {})})
        assert "Traceback" not in outcome.output, outcome.output
        return outcome

    return run_script


class Server:
    """An unmodified `mlflow server` on a database of its own, that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [f"{forks()}/mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
            )
        process = self.process

        def healthy() -> bool:
            assert process.poll() is None, (self.folder / "server.log").read_text()
            with suppress(requests.RequestException):
                return requests.get(f"{self.uri}/health", timeout=PATIENCE).ok
            return False

        wait_until(healthy)

    def stop(self) -> None:
        """End what listens on the port: a signal to the command itself would not reach it."""
        if self.process is not None:
            for each in psutil.net_connections("tcp4"):
                if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == self.port:
                    psutil.Process(each.pid).terminate()
            self.process.wait(PATIENCE)
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server"))
    one.start()
    yield one
    one.stop()
