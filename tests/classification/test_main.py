"""`mlflow run classification` trains eight classifiers on the bundled table and ranks them; each model stands alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fork_server import forks
from mlflow.entities import Run
from pages import assert_quoted, steps
from running import COLLECTION, PROGRAMS, Outcome, Store

CLASSIFIERS = {
    *("ann", "decision_tree", "gaussian_nb", "hist_gradient_boosting", "knn", "logistic_regression", "random_forest"),
    "svm",
}


@pytest.fixture(scope="module")
def finished(store: Store) -> Outcome:
    """As the page has it: tests/test_readme.py leaves this command to these tests."""
    outcome = store.mlflow_run(COLLECTION / "classification")
    assert outcome.code == 0, outcome.output
    return outcome


@pytest.fixture(scope="module")
def parent(finished: Outcome) -> Run:
    return finished.run


@pytest.fixture(scope="module")
def children(store: Store, parent: Run) -> dict[str, Run]:
    return {child.data.tags["classifier"]: child for child in store.children(parent)}


def test_each_classifier_is_a_finished_child_run(parent: Run, children: dict[str, Run]) -> None:
    assert set(children) == CLASSIFIERS
    assert {run.info.status for run in [parent, *children.values()]} == {"FINISHED"}
    assert {name: child.info.run_name for name, child in children.items()} == {name: name for name in CLASSIFIERS}
    assert {name: child.data.params["classifier"] for name, child in children.items()} == {
        name: name for name in CLASSIFIERS
    }
    assert parent.info.run_name == "compare"


def test_it_prints_what_the_page_quotes(finished: Outcome) -> None:
    first = steps(COLLECTION / "classification" / "README.md")[0]
    assert first.command == "mlflow run classification --env-manager local"
    assert_quoted(first.quoted, finished.output)


def test_quality_on_the_bundled_table(children: dict[str, Run]) -> None:
    roc_auc = {name: child.data.metrics["roc_auc"] for name, child in children.items()}
    assert max(roc_auc.values()) >= 0.84
    assert roc_auc["ann"] >= 0.83


def test_leaderboard_ranks_the_children_by_roc_auc(store: Store, parent: Run, children: dict[str, Run]) -> None:
    board = pd.read_csv(io.StringIO(store.artifact(parent, "leaderboard.csv").read_text()))
    assert set(board["run_id"]) == {child.info.run_id for child in children.values()}
    assert board["roc_auc"].is_monotonic_decreasing
    assert (board["roc_auc_low"] < board["roc_auc"]).all()
    assert (board["roc_auc"] < board["roc_auc_high"]).all()
    for classifier, roc_auc in zip(board["classifier"], board["roc_auc"], strict=True):
        assert roc_auc == pytest.approx(children[classifier].data.metrics["roc_auc"], abs=1e-12)
    best = children[board["classifier"][0]]
    assert board["tied"].tolist()[0]
    assert not board.set_index("classifier")["tied"]["svm"]  # 0.05 behind, on 1,761 rows
    assert parent.data.tags["best_model_uri"] == f"runs:/{best.info.run_id}/model"
    assert parent.data.metrics["best_roc_auc"] == best.data.metrics["roc_auc"]


def test_pictures_of_the_comparison(store: Store, parent: Run) -> None:
    assert {"leaderboard.png", "curves.png"} <= store.artifacts(parent)


def test_progress_and_where_to_look_are_printed(finished: Outcome, parent: Run) -> None:
    assert "[8/8]" in finished.output
    assert "logistic_regression    roc_auc 0.8" in finished.output
    assert f"Best model: {parent.data.tags['best_classifier']}" in finished.output
    assert "mlflow ui" in finished.output
    assert parent.info.run_id in finished.output.split("See the run")[1]
    assert "Warning" not in finished.output


def test_nothing_is_written_into_the_examples_folder(finished: Outcome) -> None:
    assert not list((COLLECTION / "classification").glob("mlflow.db*"))
    assert not (COLLECTION / "classification" / "mlruns").exists()


def predicted(command: list[str], folder: Path, store: Store) -> str:
    """The last line that a command prints in an empty folder."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=empty, env=store.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_model_predicts_with_its_own_requirements_and_nothing_else(
    children: dict[str, Run], store: Store, tmp_path: Path
) -> None:
    """In an environment of exactly the model's requirements.txt, from an empty folder, raw rows go in.

    Of more rows than a network takes at once, each answer is that of its row.
    """
    environment, data = tmp_path / "environment", COLLECTION / "classification" / "data"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--exact", "--python", str(environment), "--requirements"]
    for classifier in ("decision_tree", "ann"):  # what both need is installed, and compiled, once
        model = store.model(children[classifier]).artifact_location
        subprocess.run([*install, f"{model}/requirements.txt"], check=True, env=store.environment)
        program, *tables = (str(PROGRAMS / "raw_rows.py"), str(data / "new_customers.jsonl"), str(data / "churn.csv"))
        python = [str(environment / "bin" / "python"), "-I"]
        answer = predicted([*python, program, model, *tables], tmp_path, store)
        few, rows, difference = json.loads(answer)
        assert few == ["Yes", "No", "Yes", "No"]
        assert rows == 21129
        assert difference < 1e-6


def test_all_eight_models_load_in_an_empty_folder(children: dict[str, Run], store: Store, tmp_path: Path) -> None:
    models = [store.model(child).artifact_location for child in children.values()]
    assert predicted([f"{forks()}/python", str(PROGRAMS / "load_all.py"), *models], tmp_path, store) == "loaded 8"
