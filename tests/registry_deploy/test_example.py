"""The tables of registry_deploy can be written anew, and a refused run says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
from running import COLLECTION, Store

EXAMPLE = COLLECTION / "registry_deploy"


def test_regenerating_the_bundled_tables_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_churn_parts.py"
    script.write_bytes((EXAMPLE / "data" / "make_churn_parts.py").read_bytes())
    subprocess.run([sys.executable, script], check=True)
    parts = []
    for name in ("churn_training.csv", "churn_validation.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / "data" / name).read_bytes()
        parts.append(pd.read_csv(tmp_path / name))
    whole = pd.read_csv(COLLECTION / "classification" / "data" / "churn.csv")
    columns = list(whole.columns)
    both = pd.concat(parts).sort_values(columns, ignore_index=True)
    pd.testing.assert_frame_equal(both, whole.sort_values(columns, ignore_index=True))


def test_a_refused_run_is_failed_and_says_why(store: Store) -> None:
    outcome = store.mlflow_run(EXAMPLE, "promote", {"model_uri": "models:/nobody/1"})
    assert outcome.code != 0
    assert "'--model_uri': 'models:/nobody/1' is not in the registry: " in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.run.data.tags["error"] == outcome.error
