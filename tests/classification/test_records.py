"""What a run records, so that somebody who comes back a year later finds all of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.models import get_model_info
from mlflow.sklearn import load_model
from running import COLLECTION, Store
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

CHURN = COLLECTION / "classification" / "data" / "churn.csv"


@pytest.fixture(scope="module")
def test_rows() -> tuple[pd.DataFrame, pd.Series]:
    """The held-out rows, split here without the example's code."""
    table = pd.read_csv(CHURN)
    X = table.drop(columns="churn")
    X = X.astype({name: "float64" for name in X if pd.api.types.is_numeric_dtype(X[name])})
    _, X_test, _, y_test = train_test_split(X, table["churn"], test_size=0.25, random_state=0, stratify=table["churn"])
    return X_test, y_test


def test_metrics_are_those_of_the_saved_model(
    store: Store, tree: Run, test_rows: tuple[pd.DataFrame, pd.Series]
) -> None:
    """The loaded model gives the very metrics that the one in memory gave, each computed from its textbook formula."""
    X, y = test_rows
    model = load_model(str(_model(store, tree)))
    probability = model.predict_proba(X)[:, 1]
    tn, fp, fn, tp = confusion_matrix(y, model.predict(X)).ravel()
    expected = {
        "accuracy": (tp + tn) / len(y),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "recall": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "precision": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "fpr": fp / (fp + tn),
        "fdr": fp / (fp + tp),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "roc_auc": roc_auc_score(y == "Yes", probability),
        "average_precision": average_precision_score(y == "Yes", probability),
        "log_loss": log_loss(y == "Yes", probability),
        "brier_score_loss": brier_score_loss(y == "Yes", probability),
    }
    recorded = tree.data.metrics
    assert {name: recorded[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(recorded) == {*expected, "fit_seconds", "predict_seconds"}


def test_parameters_are_recorded_once_under_scikit_learns_names(tree: Run) -> None:
    assert tree.data.params["max_depth"] == "5"
    assert tree.data.params["criterion"] == "gini"
    assert tree.data.params["data"] == "data/churn.csv"


def test_datasets_are_inputs_with_source_and_digest(tree: Run) -> None:
    assert tree.inputs
    inputs = {item.tags[0].value: item.dataset for item in tree.inputs.dataset_inputs}
    assert {context: dataset.name for context, dataset in inputs.items()} == {
        "training": "churn_train",
        "test": "churn_test",
    }
    assert json.loads(str(inputs["training"].source))["uri"] == str(CHURN)
    assert len(inputs["training"].digest) == 8
    assert json.loads(str(inputs["test"].profile))["num_rows"] == 1761


def test_test_metrics_belong_to_the_model_and_the_dataset(store: Store, tree: Run) -> None:
    model = store.model(tree)
    roc_auc = next(metric for metric in model.metrics or [] if metric.key == "roc_auc")
    assert roc_auc.value == tree.data.metrics["roc_auc"]
    assert roc_auc.dataset_name == "churn_test"


def test_model_says_what_it_takes_and_what_it_needs(store: Store, tree: Run) -> None:
    info = get_model_info(str(_model(store, tree)))
    assert info.signature.inputs.input_names()[0] == "female"
    assert {column.type.name for column in info.signature.inputs.inputs} == {"double", "string"}
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    assert (info.metadata or {})["classes"] == ["No", "Yes"]
    requirements = (_model(store, tree) / "requirements.txt").read_text()
    assert all("==" in line for line in requirements.splitlines())
    assert not list(_model(store, tree).glob("*.pkl"))


def test_the_decision_on_the_columns_is_stored_with_the_model(store: Store, tree: Run) -> None:
    metadata = get_model_info(str(_model(store, tree))).metadata or {}
    assert metadata["kinds"]["tenure"] == {"kind": "number"}
    assert metadata["kinds"]["contract"] == {"kind": "category"}
    assert metadata["categories"]["contract"] == ["Month-to-month", "One year", "Two year"]


def test_picture_of_the_evaluation(store: Store, tree: Run) -> None:
    assert "evaluation.png" in store.artifacts(tree)
    assert store.artifact(tree, "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_the_folder_runs_alone_in_a_repository_and_records_whether_it_is_dirty(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(COLLECTION / "classification", mine, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(mine), "-c", "user.name=n", "-c", "user.email=e@example.test"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)

    clean = store.mlflow_run(mine, "gaussian_nb").run
    assert clean.data.tags["mlflow.source.git.dirty"] == "false"
    assert "git.diff" not in store.artifacts(clean)

    with open(mine / "features.py", "a") as file:
        file.write("# changed\n")
    dirty = store.mlflow_run(mine, "gaussian_nb").run
    assert dirty.data.tags["mlflow.source.git.dirty"] == "true"
    assert "+# changed" in store.artifact(dirty, "git.diff").read_text()


def test_epoch_curves_of_the_ann(store: Store) -> None:
    run = store.mlflow_run(COLLECTION / "classification", "ann", {"epochs": 4}).run
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        history = store.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3, 4]
    losses = [point.value for point in store.client.get_metric_history(run.info.run_id, "train_loss")]
    assert np.all(np.diff(losses) < 0)


def _model(store: Store, run: Run) -> Path:
    return Path(store.model(run).artifact_location)
