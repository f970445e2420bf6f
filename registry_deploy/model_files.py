"""A registered model as files on this machine: download it, find its Python, compare its answers, say why it fails."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.models.flavor_backend_registry import get_flavor_backend

from target import DeploymentError

REGISTERED = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")  # name, alias, version


def download(uri: str, folder: Path) -> Path:
    """Download a model into a folder that is made for it; returns the folder that holds its MLmodel.

    Raises DeploymentError.
    """
    folder.mkdir(parents=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError, requests.RequestException) as error:
        raise DeploymentError(f"model_uri={uri} cannot be downloaded: {reason(error)}") from error


def pin(model_uri: str) -> tuple[str, str, str]:
    """The URI of a registered version, with its number instead of an alias; its name and its number.

    Raises DeploymentError for any other URI, and where the alias is not in the registry.
    """
    parts = REGISTERED.fullmatch(model_uri)
    if parts is None:
        raise DeploymentError(f"model_uri={model_uri!r}: expected models:/name@alias or models:/name/version")
    name, alias, version = parts.groups()
    if alias:
        try:
            version = str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
        except (MlflowException, requests.RequestException) as error:
            raise DeploymentError(f"model_uri={model_uri} cannot be found: {reason(error)}") from error
    return f"models:/{name}/{version}", name, version


def python_of(model: Path, env_manager: str) -> list[str]:
    """The command that runs Python for a model: this program's own, or that of the environment that the model asks for.

    model: folder of the model.
    env_manager: `local` or `uv`; `uv` makes the environment unless it is there.

    Raises DeploymentError where there is no environment.
    """
    if env_manager == "local":
        return [sys.executable]
    # What `mlflow models serve --env-manager uv` does before it starts the server.
    backend = get_flavor_backend(str(model), env_manager=env_manager)
    try:
        activate = backend.prepare_env(str(model)).get_activate_command()
    except Exception as error:  # MLflow raises what uv, the network or its own checks make of it
        raise DeploymentError(f"env_manager={env_manager}: no environment ({reason(error)})") from error
    return ["bash", "-c", " && ".join([*activate, 'exec "$@"']), "bash", "python"]


def same(answer: Any, expected: Any) -> bool:
    """Whether two JSON values are equal; numbers may differ by rounding, which depends on threads and processors."""
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(same(answer[key], expected[key]) for key in answer)
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    if isinstance(answer, float) and isinstance(expected, int | float):
        both_nan = math.isnan(answer) and math.isnan(expected)
        return both_nan or math.isclose(answer, expected, rel_tol=1e-5, abs_tol=1e-8)
    return bool(answer == expected)


def reason(error: object) -> str:
    """Why something failed, in one line: of many lines the first and the last, where MLflow comes to the point."""
    # MLflow repeats the data that it was given before it names the error.
    text = str(error).strip().rpartition("Error: ")[2]
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()] or [type(error).__name__]
    line = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-200:]}"
