"""A registered version that is about to be deployed: its files here, and how it answers its own input example here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pandas
from mlflow.models import Model
from mlflow.pyfunc import scoring_server

from model_files import download, pin, python_of, reason, same
from processes import without_credentials
from target import DeploymentError


@dataclass(frozen=True)
class Candidate:
    """A version, its files, and what it answers without a server to its own input example.

    uri: pinned, never an alias. identity: MLflow's id of the model, which no other model has.
    folder: for what belongs to it; path: the folder that holds its MLmodel. python: runs Python in its environment.
    request: its input example as a request, None where it has none.
    """

    uri: str
    name: str
    version: str
    identity: str
    folder: Path
    path: Path
    python: list[str]
    request: str | None
    expected: Any

    @property
    def title(self) -> str:
        """Its name as messages give it."""
        return f"{self.name} version {self.version}"

    def check(self, answer: Any, where: str) -> None:
        """Raise DeploymentError unless `where` answers the input example as the model does without a server."""
        if not same(answer, self.expected):
            told, right = json.dumps(answer)[:200], json.dumps(self.expected)[:200]
            raise DeploymentError(
                f"{self.title}: wrong answer from {where}: {told} for the model's input example,"
                f" {right} here; compare the package versions of the model with those here"
            )


def fetch(model_uri: str, folder: Path, env_manager: str = "local") -> Candidate:
    """Pin a model URI to its version, download it into `folder`, and let it answer its own input example.

    env_manager: `local` for this environment, `uv` for the one that the model asks for.

    Raises DeploymentError where it is no registered version, or does not work.
    """
    uri, name, version = pin(model_uri)
    path = download(uri, folder / "model")
    python = python_of(path, env_manager)
    try:
        description = Model.load(str(path))
        example, request, expected = description.load_input_example(str(path)), None, None
        if isinstance(example, pandas.DataFrame | numpy.ndarray):
            request = serving_input(example)  # MLflow's own form fails where only some times have a part of a second
        elif example is not None:
            request = description.get_serving_input(str(path))
        if request is not None:
            expected = predictions_of(_answer(path, request, python, folder))
    except Exception as error:  # a model may raise anything while it loads or predicts
        lacks = env_manager == "local" and "No module named" in str(error)
        hint = "; env_manager=uv runs the model with its own packages" if lacks else ""
        why = f"does not work in this environment: {reason(error).rstrip('.')}{hint}"
        raise DeploymentError(f"{model_uri}: {why}") from error
    identity = str(description.model_id or description.model_uuid)
    return Candidate(uri, name, version, identity, folder, path, python, request, expected)


def _answer(path: Path, request: str, python: list[str], folder: Path) -> Any:
    """What a model answers to a request without a server, in its own environment."""
    if python == [sys.executable]:
        model = mlflow.pyfunc.load_model(str(path))
        schema = model.metadata.get_input_schema()
        return json.loads(scoring_server.invocations(request, "application/json", model, schema).response)
    asked, answered = folder / "example.json", folder / "expected.json"
    asked.write_text(request)
    script = Path(__file__).with_name("local_scoring") / "expected.py"
    command = [*python, str(script), str(path), str(asked), str(answered)]
    done = subprocess.run(command, env=without_credentials(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(answered.read_text())


def predictions_of(answer: Any) -> Any:
    """The predictions in the answer of MLflow's scoring server."""
    return answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer


def payload(instances: Any) -> Any:
    """Instances as JSON can hold them: every digit of a float, null for a missing value, all types of a signature.

    instances: a DataFrame becomes columns, index and data; a dictionary of arrays (a model of `export_onnx`) one list
    for each name; an array nested lists.
    """
    if isinstance(instances, pandas.DataFrame):
        sent = instances.astype(object).where(instances.notna(), None)
        for name, times in instances.select_dtypes("datetime").items():
            # In one form, because the server reads the first and expects the others to be like it.
            sent[name] = times.to_numpy("datetime64[ns]").astype(str)
        return json.loads(json.dumps(sent.to_dict("split"), default=_plain))
    if isinstance(instances, dict):
        return {name: payload(values) for name, values in instances.items()}
    values = numpy.asarray(instances).astype(object)
    values[values != values] = None
    return values.tolist()


def serving_input(instances: Any) -> str:
    """The request to MLflow's scoring server with a table, an array, or arrays by name."""
    return json.dumps({"dataframe_split" if isinstance(instances, pandas.DataFrame) else "inputs": payload(instances)})


def _plain(value: Any) -> Any:
    """What JSON does not have, as MLflow's server reads it: numpy's arrays and numbers, and bytes."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else getattr(value, "tolist", value.__str__)()
