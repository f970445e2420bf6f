"""What a tracking server refuses is one line, which names what was asked, by whom, and the right that is missing."""

from __future__ import annotations

import click
import pytest
from mlflow.entities import LoggedModelInput
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST

from support.server_errors import note_models_used, refused_by_server

DENIED = "API request to endpoint {} failed with error code 403 != 200. Response body: 'Permission denied'"


@pytest.fixture(autouse=True)
def alice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")


@pytest.mark.parametrize(
    ("endpoint", "right"),
    [
        ("registered-models/alias", "EDIT (MANAGE to remove an alias) on the registered model"),
        ("model-versions/create", "EDIT on the registered model"),
        ("registered-models/delete", "MANAGE on the registered model"),
        ("runs/create", "EDIT on the experiment"),
        ("runs/search", "READ on the experiment"),
        ("runs/log-inputs", "EDIT on the experiment of the run, or of a model that it uses"),
        ("logged-models/m-1", "EDIT on the experiment"),
    ],
)
def test_the_right_that_is_missing_follows_from_what_was_asked(endpoint: str, right: str) -> None:
    denied = MlflowException(DENIED.format(f"/api/2.0/mlflow/{endpoint}"))
    said = f"http://mlflow.example refuses {endpoint}: user 'alice' lacks the right {right}."
    assert refused_by_server(denied) == said
    assert refused_by_server(click.UsageError(f"MLflow: {denied}")) == said


def test_a_file_that_the_server_does_not_take_or_cannot_store() -> None:
    url = "http://mlflow.example/api/2.0/mlflow-artifacts/artifacts/1/0a/artifacts/model"
    assert refused_by_server(OSError(f"403 Client Error: Forbidden for url: {url}")) == (
        "http://mlflow.example refuses mlflow-artifacts/artifacts: user 'alice' lacks the right EDIT on the experiment."
    )
    away = refused_by_server(OSError(f"500 Server Error for url: {url}"))
    assert away
    assert away.startswith("http://mlflow.example could not do mlflow-artifacts/artifacts: 500 Server Error")


def test_a_server_that_is_away_is_named_with_the_reason() -> None:
    endpoint = "http://mlflow.example/api/2.0/mlflow/runs/get?run_id=1"
    reason = "HTTPConnectionPool: Max retries exceeded (Caused by NewConnectionError('[Errno 111] Connection refused'))"
    assert refused_by_server(MlflowException(f"API request to {endpoint} failed with exception {reason}")) == (
        "http://mlflow.example could not do runs/get: Connection refused."
    )


def test_a_password_that_the_server_does_not_know() -> None:
    unknown = MlflowException(DENIED.format("/api/2.0/mlflow/runs/create").replace("403", "401"))
    assert refused_by_server(unknown) == (
        "http://mlflow.example does not know user 'alice' with this password: "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    )


def test_an_error_of_a_library_around_that_of_the_server_is_looked_through() -> None:
    outer = RuntimeError("the model could not be logged")
    outer.__cause__ = MlflowException(DENIED.format("/api/2.0/mlflow/runs/create"))
    assert "runs/create" in (refused_by_server(outer) or "")


@pytest.mark.parametrize(
    "text", ["k_max=401 is less than k_min=403.", "403 Forbidden: https://example.com/api/2.0/jobs"]
)
def test_any_other_error_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_by_server(click.UsageError(text)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert refused_by_server(MlflowException(DENIED.format("/api/2.0/mlflow/runs/create"))) is None


def test_a_model_of_another_user_is_used_without_a_note_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def log_inputs(client: object, run_id: str, models: list[LoggedModelInput]) -> None:
        asked.append((run_id, [each.model_id for each in models]))
        raise MlflowException(DENIED, error_code=code)

    monkeypatch.setattr("mlflow.MlflowClient.log_inputs", log_inputs)
    code = PERMISSION_DENIED
    note_models_used("0a", ["m-1", "m-2"])
    assert asked == [("0a", ["m-1", "m-2"])]
    code = RESOURCE_DOES_NOT_EXIST
    with pytest.raises(MlflowException):
        note_models_used("0a", ["m-1"])
