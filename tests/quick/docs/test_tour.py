"""The steps of the tour: which are played, what they ask of the examples, and why one is left out."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from mlflow.entities import Run, RunData, RunInfo, RunTag
from pages import load

COLLECTION = Path(__file__).resolve().parents[3]

RUNS = ["classification", "clustering", "register", "first gate", "challenger", "register again", "gate", "deploy"]
RUNS += ["score", "undeploy", "reproduce", "watch"]


@pytest.fixture(scope="module")
def tour() -> ModuleType:
    return load(COLLECTION / "tour.py")


def run(**tags: str) -> Run:
    """A finished run with these tags; two underscores stand for a dot."""
    info = RunInfo("0123456789abcdef" * 2, "0", "me", "FINISHED", 0, 1, "active")
    return Run(info, RunData(tags=[RunTag(key.replace("__", "."), value) for key, value in tags.items()]))


class Asked:
    """A tour that notes what its steps ask for, in place of running it."""

    def __init__(self) -> None:
        self.parent = run(mlflow__source__name="https://git.example.com/you/collection.git")
        self.manager = "uv"
        self.runs: dict[str, Run] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def run(self, run_name: str, example: str, entry_point: str = "main", /, **parameters: Any) -> None:
        parameters.pop("apart", None)
        self.asked.append((example, entry_point, parameters))
        address = "https://git.example.com/you/collection.git"
        self.runs[run_name] = run(
            best_model_uri="models:/m-1", mlflow__source__git__commit="1" * 40, mlflow__source__git__repoURL=address
        )


def test_each_step_asks_for_entry_points_and_parameters_that_the_examples_have(tour: ModuleType) -> None:
    asked = Asked()
    for step in tour.STEPS.values():
        step.play(asked)
    assert list(asked.runs) == RUNS
    for example, entry_point, parameters in asked.asked:
        project = yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))
        declared = project["entry_points"][entry_point].get("parameters", {})
        assert parameters.keys() <= declared.keys(), f"{example} {entry_point}"
        required = {name for name, described in declared.items() if "default" not in described}
        assert required <= parameters.keys(), f"{example} {entry_point}"


def test_each_tour_asks_for_the_same(tour: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on another machine; else it could not be reproduced: what is of one tour alone is the id of its run."""
    first, second = Asked(), Asked()
    second.parent.info._run_id = "fedcba98" * 4
    for asked in (first, second):
        for step in tour.STEPS.values():
            step.play(asked)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert repr(second.asked).replace("fedcba98", "01234567") == repr(first.asked)


def test_a_deployment_that_fails_is_taken_down(tour: ModuleType) -> None:
    class Failing(Asked):
        def run(self, run_name: str, example: str, entry_point: str = "main", /, **parameters: Any) -> None:
            super().run(run_name, example, entry_point, **parameters)
            if run_name == "score":
                raise tour.StepFailedError(run_name)

    asked = Failing()
    with pytest.raises(tour.StepFailedError):
        tour.STEPS["deploy"].play(asked)
    assert [entry_point for _, entry_point, _ in asked.asked] == ["deploy", "score", "undeploy"]


def test_each_step_is_introduced_in_two_lines(tour: ModuleType) -> None:
    for step in tour.STEPS.values():
        assert re.fullmatch(r"[A-Z].+[.?]", step.title)
        assert re.fullmatch(r"[A-Z].+\n[A-Z].+\.", step.introduction)


def test_steps_are_played_in_the_order_of_the_tour(tour: ModuleType) -> None:
    assert tour.chosen("") == list(tour.STEPS)
    assert tour.chosen(" register ,classification") == ["classification", "register"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (
            "clusterin",
            "'clusterin' is not a step: choose from classification, clustering, register, gate, deploy, reproduce, "
            "watch.",
        ),
        (
            "clustering,deploy",
            "'deploy' needs the results of earlier steps: give only=classification,register,deploy.",
        ),
    ],
)
def test_a_step_that_cannot_be_played_is_refused(tour: ModuleType, only: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as error:
        tour.chosen(only)
    assert error.value.message == message


def test_a_failed_step_stops_only_those_that_need_it(
    tour: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise tour.StepFailedError("register: Run (ID '1') failed")

    def left_out(_: object) -> None:
        raise tour.LeftOutError("this folder is not in a Git repository")

    played: list[str] = []
    plays: dict[str, Any] = {name: lambda _, name=name: played.append(name) for name in tour.STEPS}
    plays |= {"register": fails, "reproduce": left_out}
    for name, step in tour.STEPS.items():
        monkeypatch.setitem(tour.STEPS, name, step._replace(play=plays[name]))
    assert tour.play(Asked(), list(tour.STEPS)) == ["register", "gate", "deploy", "watch"]
    assert played == ["classification", "clustering"]
    printed = capsys.readouterr().out
    assert "\n    Failed: register: Run (ID '1') failed\n" in printed
    assert printed.count("\n    Left out: it needs register, which failed.\n") == 3
    assert "\n    Left out: this folder is not in a Git repository\n" in printed


def test_a_run_is_reproducible_from_a_clean_commit_of_a_repository_with_an_address(tour: ModuleType) -> None:
    address = "https://git.example.com/you/collection.git"
    from_git = run(mlflow__source__name=f"{address}#classification")
    commit = {"mlflow__source__git__commit": "1" * 40}
    clean = {**commit, "mlflow__source__git__repoURL": address}
    assert tour.why_not_reproducible(run(**clean), from_git) == ""
    why = {
        "not in a Git repository": run(),
        "uncommitted changes": run(**clean, mlflow__source__git__dirty="true"),
        "no address": run(**commit),
    }
    for reason, trained in why.items():
        assert reason in tour.why_not_reproducible(trained, from_git)
    here = run(mlflow__source__name="file:///home/me/collection")
    assert "has not been pushed" in tour.why_not_reproducible(run(**clean), here)


def test_the_command_of_a_step_can_be_typed_where_the_tour_was_started(tour: ModuleType) -> None:
    address = "https://git.example.com/you/collection.git"
    from_git = tour.Tour(run(mlflow__source__name=address), "conda")
    assert from_git.command("clustering", k_max=8) == f"mlflow run '{address}#clustering' -P k_max=8"
    here = tour.Tour(run(mlflow__source__name="file:///home/me/collection"), "local")
    command = "mlflow run registry_deploy -e score -P data='my file.csv' --env-manager local"
    assert here.command("registry_deploy", "score", data="my file.csv") == command.replace(
        "data='my file.csv'", "'data=my file.csv'"
    )
