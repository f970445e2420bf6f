"""A folder that cannot be used is refused in one line, before anything is started."""

from __future__ import annotations

from pathlib import Path

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
