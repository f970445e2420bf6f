"""How a version goes live, on a target that only remembers: the order of things is the same on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from examples import module

rollout: Any = module("registry_deploy", "rollout")
DeploymentError, Status = rollout.DeploymentError, rollout.Status
Colour: Any = module("registry_deploy", "target").Colour


class Remembering(rollout.Target):
    """Serves nothing: `held` says which version stands in which colour, `faults` which steps raise what."""

    kind, name, owner = "memory", "churn", "here"

    def __init__(self, **faults: BaseException) -> None:
        self.held: dict[str, str] = {}
        self.traffic: dict[str, int] = {}
        self.previous = ""
        self.faults = faults
        self.steps: list[str] = []
        self.say = lambda line: None

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.faults:
            raise self.faults[name]

    def status(self) -> Any:
        colours = {name: Colour("m", held, "", self.traffic.get(name, 0), held) for name, held in self.held.items()}
        return Status("churn", "http://here", colours, self.previous)

    def _check(self, model: Any) -> None:
        self.step("check")

    def _identity(self, model: Any) -> str:
        return str(model.version)

    def _start(self, model: Any, colour: str, before: Any) -> None:
        self.held[colour] = model.version
        self.step("start")

    def _ask(self, request: str, colour: str = "") -> Any:
        self.step("ask")
        return [float(self.held[colour])]

    def _route(self, before: Any, traffic: dict[str, int], previous: str) -> None:
        self.step("route")
        self.traffic, self.previous = traffic, previous

    def _undo(self, before: Any, colour: str, wanted: dict[str, int]) -> str:
        self.step("undo")
        self.held = {name: each.model_version for name, each in before.colours.items()}
        return "the weights are gone"

    def _tidy(self, before: Any, kept: Any) -> None:
        self.held = {name: held for name, held in self.held.items() if name in kept}

    def _remove(self) -> bool:
        return bool(self.held)

    def deployed(self, *versions: str | tuple[str, int]) -> Any:
        """The target after deploys of versions, all with every request or with a canary."""
        for each in versions:
            version, canary = each if isinstance(each, tuple) else (each, 100)
            self.deploy(f"models:/m/{version}", canary=canary)
        self.steps.clear()
        return self


@pytest.fixture(autouse=True)
def candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version N of `m` answers N."""

    def fetch(uri: str, folder: Path, env_manager: str) -> Any:
        version = uri.rpartition("/")[2]
        return rollout.Candidate(uri, "m", version, version, folder, folder, [], "{}", [float(version)])

    monkeypatch.setattr(rollout, "fetch", fetch)


@pytest.mark.parametrize(
    ("deploys", "held", "traffic", "previous"),
    [
        ([("1", 10)], {"blue": "1"}, {"blue": 100}, ""),  # nothing else could answer the other 90 %
        (["1", ("2", 10)], {"blue": "1", "green": "2"}, {"green": 10, "blue": 90}, "blue"),
        (["1", ("2", 10), "2"], {"blue": "1", "green": "2"}, {"green": 100}, "blue"),
        (["1", "2", ("2", 10)], {"blue": "1", "green": "2"}, {"green": 100}, "blue"),  # it has all already
        (["1", "2", "1"], {"blue": "1", "green": "2"}, {"blue": 100}, "green"),  # it is up: not started again
        (["1", "2", "3"], {"green": "2", "amber": "3"}, {"amber": 100}, "green"),
        (["1", "2", "1", "3"], {"blue": "1", "amber": "3"}, {"amber": 100}, "blue"),  # 2 could be rolled back to
        (["1", "2", "3", "4"], {"amber": "3", "blue": "4"}, {"blue": 100}, "amber"),
    ],
)
def test_where_a_version_goes(deploys: list[Any], held: dict[str, str], traffic: dict[str, int], previous: str) -> None:
    target = Remembering().deployed(*deploys)
    assert (target.held, target.traffic, target.previous) == (held, traffic, previous)


def test_a_version_is_tested_before_it_gets_more_requests() -> None:
    target = Remembering().deployed("1")
    target.deploy("models:/m/2", canary=10)
    target.deploy("models:/m/2", canary=50)
    assert target.steps == ["check", "start", "ask", "route", "check", "ask", "route"]


def test_a_canary_that_is_alone_is_said_to_get_all_requests() -> None:
    target, said = Remembering(), list[str]()
    target.say = said.append
    target.deploy("models:/m/1", canary=10)
    assert target.traffic == {"blue": 100}
    assert "answers 100 % of the requests (not 10 %: no other version has any), from blue" in said[-1]
    target.deploy("models:/m/2", canary=10)
    assert "answers 10 % of the requests, from green" in said[-1]


def test_two_versions_at_most_share_the_requests() -> None:
    target = Remembering().deployed("1", ("2", 25))
    with pytest.raises(DeploymentError, match=r"^churn: a canary is under way \(version 1 75 %, version 2 25 %\):"):
        target.deploy("models:/m/3")
    assert target.steps == ["check"]


def test_a_rollback_goes_back_once() -> None:
    target = Remembering().deployed("1", ("2", 25))
    target.rollback()
    assert (target.traffic, target.previous) == ({"blue": 100}, "")
    with pytest.raises(DeploymentError, match=r"^churn: nothing to roll back to; deploy the version that you want"):
        target.rollback()
    with pytest.raises(DeploymentError, match=r"^churn is not deployed in here: deploy a version first$"):
        Remembering().rollback()


@pytest.mark.parametrize("step", ["start", "ask", "route"])
@pytest.mark.parametrize("error", [DeploymentError("it broke"), KeyboardInterrupt()])
def test_what_fails_is_taken_back(step: str, error: BaseException) -> None:
    target = Remembering().deployed("1")
    target.faults[step] = error
    with pytest.raises(type(error)) as caught:
        target.deploy("models:/m/2")
    assert (target.held, target.traffic, target.steps[-1]) == ({"blue": "1"}, {"blue": 100}, "undo")
    if isinstance(error, DeploymentError):
        assert str(caught.value) == "it broke; the traffic is as it was\nthe weights are gone"


def test_traffic_that_somebody_else_has_changed_is_not_called_as_it_was() -> None:
    target = Remembering().deployed("1")

    def meanwhile(before: Any, traffic: dict[str, int], previous: str) -> None:
        target.traffic = {"blue": 40}
        raise DeploymentError("somebody else has changed it")

    target._route = meanwhile
    with pytest.raises(DeploymentError, match="changed it; look at its status, whether the traffic is as it was\n"):
        target.deploy("models:/m/2")


def test_what_cannot_be_taken_back_is_said() -> None:
    target = Remembering(start=DeploymentError("it broke"), undo=RuntimeError("no connection"))
    with pytest.raises(DeploymentError) as caught:
        target.deploy("models:/m/1")
    left = "look at endpoint churn, a cloud bills what still runs there"
    assert str(caught.value) == f"it broke; and cleaning up failed (no connection): {left}"


def test_a_version_that_answers_otherwise_than_here_gets_no_request() -> None:
    target = Remembering().deployed("1")
    target._ask = lambda request, colour="": [7.0]
    with pytest.raises(DeploymentError, match=r"^m version 2: wrong answer from green of churn: \[7\.0\] for"):
        target.deploy("models:/m/2")
    assert "route" not in target.steps
