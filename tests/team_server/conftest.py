"""One team's server for all of these tests: PostgreSQL, SeaweedFS, and MLflow with the accounts of accounts.yaml."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from team import FEW_RETRIES, TEAM_SERVER, User, free_ports

sys.path.insert(0, str(TEAM_SERVER))


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The server, with accounts; what it started has ended afterwards."""
    from server import TeamServer, apply_accounts

    # Not below pytest's folder: PostgreSQL is not run as root, and a new session of pytest shuts others out.
    with tempfile.TemporaryDirectory() as folder:
        made = TeamServer(Path(folder), free_ports())
        try:
            made.start()
            apply_accounts(made, TEAM_SERVER / "accounts.yaml")
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def users(server: Any) -> dict[str, User]:
    """The administrator and the users of accounts.yaml, by name."""
    passwords = yaml.safe_load((server.folder / "passwords.yaml").read_text())
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_", "AWS_"))}
    shared = {**kept, **FEW_RETRIES, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": server.uri}
    return {
        name: User(name, {**shared, "MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password})
        for name, password in {**passwords, "admin": server.secret["admin"]}.items()
    }


@pytest.fixture(scope="module", autouse=True)
def tracking_uri(server: Any) -> None:
    """This server is that of the process, until another file is tested."""
    mlflow.set_tracking_uri(server.uri)
