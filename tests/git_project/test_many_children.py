"""A search of more runs than the tracking store hands out on one page."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from examples import module
from mlflow import MlflowClient

MANY = 1100


def test_all_children_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, uri = mlflow.get_tracking_uri(), f"sqlite:///{tmp_path}/many.db"
    client = MlflowClient(uri)
    parent = client.create_run("0")
    child = client.create_run("0", tags={"mlflow.parentRunId": parent.info.run_id}).info.run_id
    with closing(sqlite3.connect(tmp_path / "many.db")) as database:
        for table in ("runs", "tags"):
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "run_uuid"]
            columns = ", ".join(f'"{name}"' for name in names)
            copy = f"INSERT INTO {table} (run_uuid, {columns}) SELECT ?, {columns} FROM {table} WHERE run_uuid = ?"
            database.executemany(copy, [(f"{number:032x}", child) for number in range(1, MANY)])
        database.commit()
    mlflow.set_tracking_uri(uri)
    try:
        found = module("git_project", "children").children_of(parent)
    finally:
        mlflow.set_tracking_uri(before)
    assert len({run.info.run_id for run in found}) == MANY
