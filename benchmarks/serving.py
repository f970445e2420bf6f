"""What a one-row request costs, by the form of the model: requests a processor second, and how long a client waits.

All forms answer behind MLflow's own scoring server, started as `registry_deploy -e deploy` starts it, and must give the
same labels:

    DataFrame  the scikit-learn Pipeline as it was logged; the request is a row of a table
    tensor     its classifier alone, with a tensor of numbers as signature: the client imputes, scales and encodes
    ONNX       the Pipeline as `registry_deploy -e export_onnx` registers it; the request is one list a column

A server has what its model's requirements bring, and a processor of its own, as a replica has; the client has another.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import skops.io
from measuring import COLLECTION, announced, mlflow_run, must, surroundings
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

TURNS = 10  # of each form in a round: a shared machine is now slow, now fast, from one second to the next
WARM_UP = 20
REQUESTS = {"DataFrame": 60, "tensor": 300, "ONNX": 300}  # a turn: half a second or more each
FORMS = tuple(REQUESTS)


@contextmanager
def served(model: Path, environment: dict[str, str], folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """MLflow's scoring server with a model; its port and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    if "httptools" not in (model / "requirements.txt").read_text():
        command += ["--http", "h11", "--loop", "asyncio"]  # what uvicorn uses where they are not installed
    with open(folder / f"server-{port}.log", "w+") as log:
        with _processor(0):
            process = subprocess.Popen(
                [*command, "mlflow.pyfunc.scoring_server.app:app"],
                env={**environment, "__pyfunc_model_path__": str(model)},
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            deadline = time.monotonic() + 120
            while not _pings(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    sys.exit(f"the server of {model} does not answer:\n{log.read()}")
                time.sleep(0.2)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _processor(place: int) -> Iterator[None]:
    """This process, and what it starts meanwhile, on one of its processors: rounds then differ less."""
    if not hasattr(os, "sched_setaffinity"):  # macOS has no such thing
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[place % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _pings(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False


def _processor_seconds(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def ask(
    port: int, process: psutil.Process, bodies: list[str], expected: list[object], requests: int
) -> tuple[float, list[float]]:
    """Send so many requests one after the other; check every answer.

    Returns processor seconds of the server, and the seconds that the client waited for each answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    waited = []
    before = 0.0
    for number in range(WARM_UP + requests):
        if number == WARM_UP:
            before = _processor_seconds(process)
        place = number % len(bodies)
        started = time.perf_counter()
        connection.request("POST", "/invocations", bodies[place], {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        waited.append(time.perf_counter() - started)
        assert answer == {"predictions": [expected[place]]}, (answer, expected[place])
    return _processor_seconds(process) - before, waited[WARM_UP:]


def measure(folder: Path, rounds: int, classifier: str) -> list[dict[str, dict[str, float]]]:
    """What each round found with the three servers of a classifier, by form."""
    environment, client = surroundings(folder)
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    run_id = announced(must(mlflow_run("classification", classifier), environment, folder))
    uri = f"models:/{client.get_run(run_id).outputs.model_outputs[0].model_id}"
    must(mlflow_run("registry_deploy", "register", model_uri=uri, name="churn"), environment, folder)
    # It compares the answers of both forms on all rows, and registers ONNX under the alias `onnx` where they agree.
    must(mlflow_run("registry_deploy", "export_onnx", model_uri="models:/churn@challenger"), environment, folder)

    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    pipeline = mlflow.sklearn.load_model(uri)
    inputs = mlflow.models.get_model_info(uri).signature.inputs
    rows = pd.read_csv(COLLECTION / "registry_deploy" / "data" / "churn_validation.csv").dropna()
    kinds = {column.name: "float64" if column.type.name == "double" else object for column in inputs.inputs}
    X = rows[list(kinds)].astype(kinds).head(200)
    expected = pipeline.predict(X).tolist()
    encoded = np.asarray(pipeline[:-1].transform(X), dtype="float64")
    tensor = ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, encoded.shape[1]))]))
    mlflow.sklearn.save_model(
        pipeline[-1],
        folder / "tensor",
        signature=tensor,
        pip_requirements=["mlflow", "scikit-learn"],
        skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(pipeline[-1])),
    )

    downloaded = {
        form: Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder / form)))
        for form, source in (("DataFrame", uri), ("ONNX", "models:/churn@onnx"))
    }
    records = X.to_dict(orient="records")
    bodies = {
        "DataFrame": [
            json.dumps({"dataframe_split": {"columns": list(X), "data": [[*row.values()]]}}) for row in records
        ],
        "tensor": [json.dumps({"inputs": [row]}) for row in encoded.tolist()],
        "ONNX": [json.dumps({"inputs": {name: [value] for name, value in row.items()}}) for row in records],
    }
    with (
        served(downloaded["DataFrame"], environment, folder) as frame_server,
        served(folder / "tensor", environment, folder) as tensor_server,
        served(downloaded["ONNX"], environment, folder) as onnx_server,
    ):
        servers = dict(zip(FORMS, (frame_server, tensor_server, onnx_server), strict=True))
        with _processor(1):
            return [_round(servers, bodies, expected) for _ in range(rounds)]


def _round(
    servers: dict[str, tuple[int, psutil.Process]], bodies: dict[str, list[str]], expected: list[object]
) -> dict[str, dict[str, float]]:
    """By form: requests a processor second of the server, and p50 and p99 of the client's waiting, ms."""
    seconds, waited = dict.fromkeys(FORMS, 0.0), {form: list[float]() for form in FORMS}
    for _ in range(TURNS):
        for form, requests in REQUESTS.items():
            used, each = ask(*servers[form], bodies[form], expected, requests)
            seconds[form] += used
            waited[form] += each
    found = {}
    for form, all_waited in waited.items():
        p50, p99 = np.percentile(1000 * np.array(all_waited), [50, 99]).tolist()
        rate = len(all_waited) / seconds[form]
        found[form] = {"requests_per_cpu_second": rate, "p50": p50, "p99": p99}
    return found
