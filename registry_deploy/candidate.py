"""A registered version that is about to be deployed in a cloud: its files here, and how it answers here."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pandas
import yaml
from mlflow.models import Model
from mlflow.pyfunc import scoring_server

from model_files import download, pin, reason, same
from target import DeploymentError


@dataclass(frozen=True)
class Candidate:
    """A version, its folder and its conda environment, and what it answers to its own input example in this process."""

    name: str
    version: str
    identity: str  # MLflow's id of the model, which no other model has
    folder: Path
    conda: dict[str, Any]
    example: Any
    expected: list[Any]

    @property
    def title(self) -> str:
        """Its name as messages give it."""
        return f"{self.name} version {self.version}"

    def check(self, answer: Any, where: str) -> None:
        """Raise DeploymentError unless `where` answers the input example as the model does in this process."""
        if not same(answer, self.expected):
            raise DeploymentError(
                f"{self.title}: wrong answer from {where}: {str(answer)[:80]} for the model's input example,"
                f" {str(self.expected)[:80]} here; compare the package versions of the model with those here"
            )


def fetch(model_uri: str, folder: Path) -> Candidate:
    """Pin a model URI to its version, download it into `folder`, and let it answer its own input example.

    Raises DeploymentError where it is no registered version, has no input example or does not work here.
    """
    uri, name, version = pin(model_uri)
    path = download(uri, folder / "model")
    try:
        description = Model.load(str(path))
        example = description.load_input_example(str(path))
        text = io.StringIO()
        if example is not None:
            scoring_server.predictions_to_json(mlflow.pyfunc.load_model(str(path)).predict(example), text)
        conda = yaml.safe_load((path / "conda.yaml").read_text(encoding="utf-8"))
    except Exception as error:  # a model may raise anything while it loads or predicts
        raise DeploymentError(f"{model_uri}: does not work in this environment: {reason(error)}") from error
    if example is None:
        raise DeploymentError(f"{model_uri}: has no input example to test it with; log it with input_example=")
    identity = str(description.model_id or description.model_uuid)
    return Candidate(name, version, identity, path, conda, example, json.loads(text.getvalue())["predictions"])


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


def shares(traffic: Mapping[str, int], colour: str, canary: int) -> dict[str, int]:
    """The traffic after a deploy, in percent: `canary` for a colour and the rest for the one that is live.

    traffic: the colours that have requests now; where there is no other, the colour gets them all.
    """
    other = next((name for name in traffic if name != colour), None)
    return {colour: canary, other: 100 - canary} if other and canary < 100 else {colour: 100}
