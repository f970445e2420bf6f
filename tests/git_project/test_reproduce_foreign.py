"""`reproduce` on runs of a project that knows nothing of the collection: same, and broken on purpose."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_server import git
from mlflow.entities import Run
from running import Store

COUNTS = "3 runs, 3 commits, 5 parameters, 1 dataset, 3 metrics, 1 signature, 1 prediction, 1 model"
SAME = f"\nReproduced: all is the same ({COUNTS}).\n"
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

    assert store.artifacts(reproduction) >= {"report.md", "report.json"}
    assert found.report["parameters"].items() >= {"title": "it's $5 (of 10)", "scale": "2"}.items()
    assert "rows" not in found.report["parameters"]
    assert {row["kind"] for row in found.report["rows"] if row["same"]} >= {"run", "metric", "dataset", "requirement"}
    assert found.page.startswith(f"# Reproduced: {original.info.run_name}\n")
    assert foreign.commit in found.page
    assert "What differs" not in found.page
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
    assert "versions are not the same" not in str(found.report["notes"])
    assert found.outcome.run.info.status == "FAILED"
    assert found.outcome.run.data.tags["reproduced"] == "false"


def test_changed_seed(start: Start, reproduce: Any) -> None:
    original = start("unseeded")
    found = reproduce(original)
    assert found.outcome.code == 1
    assert {kind for kind, _ in found.differences} == {"metric", "prediction", "model"}
    reasons = " ".join(found.report["reasons"])
    assert "not the same" not in reasons
    assert "What no commit fixes: a seed that is not set, " in reasons


def test_a_child_run_and_rewritten_history(start: Start, reproduce: Any, store: Store, foreign: Any) -> None:
    original = start()
    second = store.children(original)[1]
    (foreign.tree / "train.py").write_text("raise SystemExit(1)\n")
    git("commit", "--quiet", "--all", "--amend", "--message", "Rewritten", folder=foreign.tree)
    git("push", "--quiet", "--force", "origin", "HEAD:master", folder=foreign.tree)
    found = reproduce(second)  # the server still has the commit, although nothing leads to it
    assert found.outcome.code == 0, found.outcome.output
    assert "\nReproduced: all is the same (1 run, 1 commit, 1 metric).\n" in found.outcome.output
    assert f"It lies below the run {original.info.run_id}, all of which was run again." in found.outcome.output
    again = store.client.get_run(found.report["again"])
    assert again.data.metrics == second.data.metrics
    assert again.data.tags["reproduces"] == second.info.run_id

    foreign.repository.forget()
    outcome = reproduce(original).outcome
    assert outcome.code == 3
    assert f"\nNot tried: The repository {foreign.url} does not have the commit {foreign.commit}" in outcome.output
