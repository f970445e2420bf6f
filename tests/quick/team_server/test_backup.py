"""What is wrong with a backup or a store is one line, before anything is written or restored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from examples import module

backup = module("team_server", "backup").backup


def refused(*arguments: str) -> str:
    """The one line on which a command ends."""
    outcome = CliRunner().invoke(backup, arguments)
    assert isinstance(outcome.exception, SystemExit), outcome.exception
    [line] = [line for line in outcome.output.splitlines() if line.startswith("Error: ")]
    return line


def test_a_folder_that_is_there_is_not_saved_into(tmp_path: Path) -> None:
    assert refused("save", str(tmp_path)) == f"Error: {tmp_path} is there already: name a new folder."


@pytest.mark.parametrize("contents", [None, "", '{"runs": ', "[]", '{"files": {}}'])
def test_a_backup_that_was_cut_off_is_not_restored(contents: str | None, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    if contents is not None:
        (tmp_path / "contents.json").write_text(contents)
    assert "is no backup, or one that was cut off" in refused("restore", str(tmp_path))


@pytest.mark.parametrize("left", [None, b"changed"])
def test_a_backup_with_a_file_that_is_gone_or_changed_is_not_restored(left: bytes | None, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    if left is not None:
        (tmp_path / "files" / "0").write_bytes(left)
    # A backup of an older version has no digest of the database.
    (tmp_path / "contents.json").write_text(json.dumps({"runs": {}, "files": {"1/MLmodel": "0" * 64}}))
    assert f"{tmp_path / 'files' / '0'} is not as it was saved: nothing is restored." in refused(
        "restore", str(tmp_path)
    )


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name, value in {"BACKEND_STORE_URI": "postgresql://host", "ARTIFACTS_DESTINATION": "s3://mlflow"}.items():
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "Not a directory" in refused("save", str(tmp_path / "file" / "saved"))


def test_a_database_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"postgresql+psycopg://mlflow@/mlflow?host={tmp_path}")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://mlflow")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "No such file or directory" in refused("save", str(tmp_path / "new"))
