"""The local workspace, started once for all the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pytest
from local_workspace import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace for all the tests of a worker: each looks at its own jobs only, and heals what it broke."""
    workspace = Workspace(tmp_path_factory.mktemp("databricks") / "workspace")
    workspace.start()
    yield workspace
    if workspace.process and workspace.process.poll() is None:
        workspace.stop()


@pytest.fixture
def connected(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace, named by the variables of this very process, for MLflow and the SDK used in a test."""
    for name, value in workspace.environment.items():
        if name.startswith(("DATABRICKS_", "MLFLOW_")) or name.lower() == "no_proxy":
            monkeypatch.setenv(name, value)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("databricks")
    yield workspace
    mlflow.set_tracking_uri(before)
