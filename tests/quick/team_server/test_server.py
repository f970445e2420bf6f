"""A folder that cannot be used is refused in one line, before anything is started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from examples import module

server = module("team_server", "server")


def test_a_folder_belongs_to_one_server_at_a_time(tmp_path: Path) -> None:
    """On another port, a second one would share the first one's database, and stop it at its end."""
    first, second = server.TeamServer(tmp_path, 5000), server.TeamServer(tmp_path, 6000)
    first.claim_folder()
    with pytest.raises(click.ClickException, match="is that of a server that is running: stop it"):
        second.claim_folder()
    first.stop()
    second.claim_folder()
    second.stop()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(click.ClickException, match="file/team cannot be used: Not a directory"):
        server.TeamServer(tmp_path / "file" / "team").claim_folder()


def test_a_part_that_does_not_answer_for_long_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "SILENCE", 0)
    made, alive = server.TeamServer(tmp_path), [None, None, None, 1]
    made._running["mlflow"] = SimpleNamespace(poll=lambda: alive.pop(0))
    with pytest.raises(click.ClickException, match=r"mlflow does not start: see .*mlflow\.log"):
        made._wait("mlflow", "http://127.0.0.1:1")
    assert capsys.readouterr().out == f"mlflow does not answer yet: see {tmp_path / 'mlflow.log'}.\n"
