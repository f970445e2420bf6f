"""The report of the benchmarks is what the kept results say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import COLLECTION

BENCHMARKS = COLLECTION / "benchmarks"


def test_the_report_is_what_the_results_say(tmp_path: Path) -> None:
    """Written anew from the results that are kept: nothing is measured, and no word changes."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(BENCHMARKS, folder, ignore=shutil.ignore_patterns("REPORT*", "*.png", "__pycache__"))
    for needed in ("support", "team_server", "tests", "watch", "registry_deploy", "classification"):
        (tmp_path / needed).symlink_to(COLLECTION / needed)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    command = [sys.executable, "report.py", "--only_write"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for report in ("REPORT.md", "REPORT.fr.md"):
        assert (folder / report).read_text(encoding="utf-8") == (BENCHMARKS / report).read_text(encoding="utf-8")
    assert {path.name for path in folder.glob("*.png")} == {"report.png", "report.fr.png"}


def test_what_is_measured_leaves_nothing_where_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measuring

    store, here = tmp_path / "store", tmp_path / "here"
    store.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    client = measuring.surroundings(store)[1]
    assert client.get_experiment("0").artifact_location == str(store / "mlruns" / "0")
    assert not list(here.iterdir())
