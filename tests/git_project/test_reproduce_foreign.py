"""`reproduce` on runs of a project that knows nothing of the collection: same, and broken on purpose."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_server import git
from mlflow.entities import Run
from running import COLLECTION, Store

SAME = "\nReproduced: all is the same (3 runs, 5 parameters, 1 dataset, 3 metrics, 1 signature, 1 prediction).\n"
Start = Callable[..., Run]


@pytest.fixture
def start(store: Store, foreign: Any, installed: dict[str, str]) -> Start:
    """Runs the foreign project from its repository and returns the run."""

    def start(entry_point: str = "main", **parameters: object) -> Run:
        outcome = store.mlflow_run(foreign.url, entry_point, parameters, environment=installed)
        assert outcome.code == 0, outcome.output
        return outcome.run

    return start


def test_the_same_again_with_links_both_ways(start: Start, reproduce: Any, store: Store, foreign: Any) -> None:
    # MLproject declares neither `scale`, which is given here, nor `rows`, which the script logs.
    original = start(title="it's $5 (of 10)", scale=2)
    found = reproduce(original)
    assert found.outcome.code == 0, found.outcome.output
    assert SAME in found.outcome.output

    reproduction = found.outcome.run
    without_scale, again = store.children(reproduction)
    assert without_scale.info.status == "FINISHED"
    assert {"scale", "rows"} <= set(again.data.params)
    assert again.data.tags["title"] == original.data.tags["title"] == "it's $5 (of 10)"
    assert again.data.tags["mlflow.source.git.commit"] == foreign.commit
    assert again.data.tags["reproduces"] == original.info.run_id
    tags = store.client.get_run(original.info.run_id).data.tags
    assert (tags["reproduced_by"], tags["reproduced"]) == (reproduction.info.run_id, "true")
    tags = reproduction.data.tags
    assert (tags["reproduces"], tags["again"]) == (original.info.run_id, again.info.run_id)
    assert f"#/experiments/0/runs/{original.info.run_id}" in tags["mlflow.note.content"]

    assert store.artifacts(reproduction) >= {"report.md", "report.json", "report.csv"}
    assert found.report["parameters"].items() >= {"title": "it's $5 (of 10)", "scale": "2"}.items()
    assert "rows" not in found.report["parameters"]
    rows = list(csv.DictReader(store.artifact(reproduction, "report.csv").open()))
    assert {row["kind"] for row in rows if row["same"] == "True"} >= {"run", "metric", "dataset", "requirement"}
    page = store.artifact(reproduction, "report.md").read_text()
    assert page.startswith(f"# Reproduced: {original.info.run_name}\n")
    assert foreign.commit in page
    assert "What differs" not in page
    assert "reasons" not in found.report


def test_changed_data_and_none(start: Start, reproduce: Any, foreign: Any, tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    shutil.copy(foreign.tree / "measurements.csv", data)
    original = start(data=data)
    data.write_text(data.read_text().replace("1.0,", "1.5,").replace(",3", ",4"))
    found = reproduce(original)
    assert found.outcome.code == 1
    assert "\nNOT reproduced: " in found.outcome.output
    assert {("dataset", "measurements training"), ("metric", "level")} <= found.differences
    assert found.report["reasons"][0].startswith("The data are not the same: measurements training ")
    assert "versions are not the same" not in str(found.report["reasons"])
    assert found.outcome.run.info.status == "FAILED"
    assert found.outcome.run.data.tags["reproduced"] == "false"

    data.unlink()
    found = reproduce(original)
    assert found.outcome.code == 1
    assert "\nNOT reproduced: the run failed this time: " in found.outcome.output
    assert found.differences == {("run", "status")}


def test_changed_seed(start: Start, reproduce: Any) -> None:
    original = start("unseeded")
    found = reproduce(original)
    assert found.outcome.code == 1
    assert {kind for kind, _ in found.differences} == {"metric", "prediction"}
    reasons = " ".join(found.report["reasons"])
    assert "not the same" not in reasons
    assert "What no commit fixes: a seed that is not set, " in reasons


TOLERANCE = """
import sys
import numpy as np, pandas as pd
sys.path.insert(0, sys.argv[1])
from comparison import Comparison

def alike(one, other, rtol=0.0, atol=0.0):
    return Comparison(rtol, atol, [], "local", None).alike(one, other)

nan = float("nan")
assert alike(0.1, 0.1) and not alike(0.1, 0.1 + 1e-16 * 2)
assert alike(nan, nan) and not alike(nan, 1.0, 9.0, 9.0)
assert alike(100.0, 101.0, rtol=0.01) and not alike(100.0, 101.1, rtol=0.01)
assert alike(0.0, 1e-9, atol=1e-8) and not alike(0.0, 1e-9, rtol=0.1)
assert alike(np.array([[1.0, 2.0]]), [[1.0, 2.1]], atol=0.2) and not alike(np.array([1.0]), [1.0, 1.0], atol=1.0)
assert alike(["Yes", 1], np.array(["Yes", 1], dtype=object)) and not alike("Yes", "No", 9.0, 9.0)
assert alike(pd.DataFrame({"a": [1.0]}), {"a": [1.0]}) and not alike(pd.DataFrame({"a": [1.0]}), {"b": [1.0]})
"""


def test_what_counts_as_the_same(store: Store) -> None:
    outcome = store.run([sys.executable, "-c", TOLERANCE, str(COLLECTION / "git_project")])
    assert outcome.code == 0, outcome.output


def test_a_child_run_and_rewritten_history(start: Start, reproduce: Any, store: Store, foreign: Any) -> None:
    original = start()
    second = store.children(original)[1]
    (foreign.tree / "train.py").write_text("raise SystemExit(1)\n")
    git("commit", "--quiet", "--all", "--amend", "--message", "Rewritten", folder=foreign.tree)
    git("push", "--quiet", "--force", "origin", "HEAD:master", folder=foreign.tree)
    found = reproduce(second)  # the server still has the commit, although nothing leads to it
    assert found.outcome.code == 0, found.outcome.output
    assert "\nReproduced: all is the same (1 run, 1 metric).\n" in found.outcome.output
    assert f"It lies below the run {original.info.run_id}, all of which was run again." in found.outcome.output
    again = store.client.get_run(found.report["again"])
    assert again.data.metrics == second.data.metrics
    assert again.data.tags["reproduces"] == second.info.run_id
    assert "No branch or tag leads to the commit any more: history was rewritten" in found.outcome.output

    foreign.repository.forget()
    outcome = reproduce(original).outcome
    assert outcome.code == 1
    assert outcome.error == f"The repository {foreign.url} does not have the commit {foreign.commit}, or no longer."
