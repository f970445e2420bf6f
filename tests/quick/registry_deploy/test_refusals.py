"""What the registry's verbs say when something is refused: the true reason, and nothing that did not happen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from examples import module
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_ALREADY_EXISTS

model_files: Any = module("registry_deploy", "model_files")
promote: Any = module("registry_deploy", "promote")
registry: Any = module("registry_deploy", "registry")
story: Any = module("registry_deploy", "story")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "Failed to predict.\n\nInput data:\n  a b\n  1 2\nColumn 'c' is missing.",
            "Failed to predict. ... Column 'c'",
        ),
        ("Failed to enforce schema of data '  a\n0 1'. Error: Incompatible types for column a", "Incompatible types"),
        ("", "MlflowException"),
    ],
)
def test_a_message_keeps_the_end_where_mlflow_gives_its_reason(error: str, line: str) -> None:
    told = model_files.reason(MlflowException(error) if error else MlflowException(" "))
    assert told.startswith(line)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("models:/churn@champion", ("churn", "champion", None)),
        ("models:/churn/3", ("churn", None, "3")),
        ("models:/main.default.it's a {model}/12", ("main.default.it's a {model}", None, "12")),
    ],
)
def test_the_parts_of_a_models_uri(uri: str, parts: tuple[str | None, ...]) -> None:
    found = model_files.REGISTERED.fullmatch(uri)
    assert found is not None
    assert found.groups() == parts
    for other in (uri.removeprefix("models:/"), f"{uri}/x", "models:/m-1", "models:/a@b/1"):  # MLflow reads a for a@b
        assert model_files.REGISTERED.fullmatch(other) is None


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (PERMISSION_DENIED, "Error: MLflow: no rights on churn"),
        (RESOURCE_ALREADY_EXISTS, "'--new_name': 'other' cannot be the new name: no rights on churn"),
    ],
)
def test_rename_without_rights_does_not_blame_the_name(code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("no rights on churn", error_code=code)

    monkeypatch.setattr(registry, "find_model", lambda name: None)
    monkeypatch.setattr(registry, "versions", lambda name: [])
    monkeypatch.setattr(registry.MlflowClient, "rename_registered_model", refuse)
    outcome = CliRunner().invoke(registry.registry, ["rename", "--name", "churn", "--new_name", "other"])
    assert outcome.exit_code
    assert line in outcome.output


def test_a_model_without_a_champion_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_model", lambda name: SimpleNamespace(tags={}, aliases={}))
    outcome = CliRunner().invoke(registry.registry, ["history", "--name", "churn"])
    assert (outcome.exit_code, outcome.output) == (0, "churn has never had a champion.\n")


def test_a_story_whose_first_version_is_refused_announces_no_champion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = promote.Row("latency", "94 ms", "-", "<= 60 ms", "FAIL", lever="raise max_latency")
    version = SimpleNamespace(name="tale", version="1")
    monkeypatch.setattr(story, "promote_version", lambda *_: story.Judged(version, [row], "0" * 32))
    with pytest.raises(click.ClickException, match=r"did not promote version 1: latency 94 ms.*\(raise max_latency\)"):
        story.pass_the_gate("tale", version, version, "local")
    assert "champion ->" not in capsys.readouterr().out


def test_latency_is_measured_in_turns_and_each_is_first_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(promote.mlflow, "log_metric", lambda *_, **__: None)

    def contestant(role: str) -> Any:
        def milliseconds(row: int) -> float:
            order.append(f"{role} {row}")
            return len(order)

        asked = SimpleNamespace(milliseconds=milliseconds)
        return SimpleNamespace(role=role, X=range(7), asked=asked, model=SimpleNamespace(model_id="m"))

    times = promote.latencies([contestant("candidate"), contestant("champion")])
    assert [len(each) for each in times] == [60, 60]
    pairs = [order[place : place + 2] for place in range(0, 120, 2)]
    assert all({each.split()[0] for each in pair} == {"candidate", "champion"} for pair in pairs)
    assert all(len({each.split()[1] for each in pair}) == 1 for pair in pairs)  # both get the same row
    assert sum(first.startswith("candidate") for first, _ in pairs) == 30
    assert np.ptp([each.mean() for each in times]) < 1
