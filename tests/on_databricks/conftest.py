"""The local workspace, started once for all the tests of a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import mlflow
import pytest
import requests
from local_workspace import Fault, Workspace


class OfItsPauses:
    """A clock that goes on by the pauses that are made, which are a tenth as long here."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        time.sleep(seconds / 10)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace for all the tests of a worker: each looks at its own jobs only."""
    workspace = Workspace(tmp_path_factory.mktemp("databricks") / "workspace")
    workspace.start()
    yield workspace
    workspace.stop()


@pytest.fixture
def connected(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace, named by the variables of this very process, for MLflow and the SDK used in a test."""
    for name, value in workspace.environment.items():
        if name.startswith(("DATABRICKS_", "MLFLOW_")) or name.lower() == "no_proxy":
            monkeypatch.setenv(name, value)
    # The SDK asks again after one second, two, three, up to ten; here nothing takes that long. And it gives up a busy
    # workspace after some seconds, of which those that this machine is slow do not count.
    for waiting in ("service.jobs", "service.serving", "clock"):
        monkeypatch.setattr(f"databricks.sdk.{waiting}.time", OfItsPauses())
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("databricks")
    yield workspace
    mlflow.set_tracking_uri(before)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Fault]:
    """The faults that requests meet from now on; a test adds its own, and takes them away to look."""
    faults: list[Fault] = []
    send = requests.adapters.HTTPAdapter.send

    def meet(self: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **more: object) -> object:
        for fault in faults:
            if fault.meets(request):
                return fault.answer(request)
        return send(self, request, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", meet)
    return faults
