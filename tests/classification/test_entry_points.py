"""Each classifier, then `predict`, through `mlflow run` on three tables, the bundled one and two others."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from running import COLLECTION, Outcome, Store, datasets, model_uri

CLASSIFICATION = COLLECTION / "classification"

# The least ROC AUC that a working classifier reaches on the table.
TABLES: dict[str, tuple[dict[str, object], float]] = {
    "churn": ({}, 0.78),
    "credit": ({"target": "Status"}, 0.72),
    "penguins": ({"target": "species", "drop": "year", "random_state": 1}, 0.98),
}


Trained = Callable[[str, str], Outcome]


@pytest.fixture(scope="module")
def paths(credit: Path, penguins: Path) -> dict[str, Path]:
    return {"churn": CLASSIFICATION / "data" / "churn.csv", "credit": credit, "penguins": penguins}


@pytest.fixture(scope="module")
def trained(store: Store, paths: dict[str, Path]) -> Trained:
    """Train a classifier on a table, once for all the tests that look at it."""

    @functools.cache
    def train(classifier: str, table: str) -> Outcome:
        parameters, _ = TABLES[table]
        if table != "churn":
            parameters = {**parameters, "data": paths[table]}
        if classifier == "ann" and table == "penguins":  # 344 rows are few steps an epoch
            parameters = {**parameters, "epochs": 100, "learning_rate": 0.005}
        return store.mlflow_run(CLASSIFICATION, classifier, parameters)

    return train


# Every table with a classifier of another kind; test_main.py has all classifiers on the bundled table.
TRAINED = [("hist_gradient_boosting", "churn"), ("random_forest", "credit"), ("ann", "penguins")]


@pytest.mark.parametrize(("classifier", "table"), TRAINED)
def test_trains_on_any_table_with_classes(classifier: str, table: str, store: Store, trained: Trained) -> None:
    outcome = trained(classifier, table)
    assert outcome.code == 0, outcome.output
    assert outcome.run.info.status == "FINISHED"
    assert outcome.run.data.metrics["roc_auc"] >= TABLES[table][1]
    assert outcome.run.data.tags["positive"] == {"churn": "Yes", "credit": "bad", "penguins": "None"}[table]
    assert "evaluation.png" in store.artifacts(outcome.run)
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize(("classifier", "table"), [("random_forest", "credit"), ("ann", "penguins")])
def test_predicts_on_raw_rows_of_the_same_table(
    classifier: str, table: str, store: Store, trained: Trained, paths: dict[str, Path], tmp_path: Path
) -> None:
    path = paths[table]
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    new = tmp_path / "new.jsonl"
    frame.tail(40).to_json(new, orient="records", lines=True)

    outcome = store.mlflow_run(
        CLASSIFICATION, "predict", {"model_uri": model_uri(trained(classifier, table).run), "data": new}
    )

    assert outcome.code == 0, outcome.output
    predictions = pd.read_csv(store.artifact(outcome.run, "predictions.csv"))
    target = str(TABLES[table][0].get("target", "churn"))
    classes = sorted(frame[target].unique())
    probabilities = predictions[[f"probability_{label}" for label in classes]]
    assert len(predictions) == 40
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert (probabilities.idxmax(axis=1) == "probability_" + predictions["prediction"]).all()
    assert (predictions["prediction"] == frame[target].tail(40).to_numpy()).mean() > 0.6


def test_what_may_be_missing_is_optional_in_the_signature(
    store: Store, trained: Trained, paths: dict[str, Path]
) -> None:
    """As if MLflow had looked at every row, which it does for minutes where there are a million."""
    run = trained("random_forest", "credit").run
    missing = pd.read_parquet(paths["credit"]).drop(columns="Status").isna().sum()
    signature = mlflow.models.get_model_info(model_uri(run)).signature
    required = {column.name: column.required for column in signature.inputs}
    assert required.keys() == set(missing.index)
    assert all(required[name] for name in missing.index[missing == 0])
    assert missing["Income"] > 20
    assert not required["Income"]
    types = {column.name: column.type.name for column in signature.inputs}
    assert types["Income"] == "double"
    assert types["Marital"] == "string"
    for dataset in datasets(run):
        columns = {each["name"]: each["type"] for each in json.loads(dataset.schema or "")["mlflow_colspec"]}
        assert columns == {**types, "Status": "string"}


@pytest.mark.parametrize("table", ["credit", "penguins"])
def test_main_compares_on_any_table_with_classes(table: str, store: Store, paths: dict[str, Path]) -> None:
    kinds = ["knn", "svm", "gaussian_nb", "logistic_regression"]
    parameters, least = TABLES[table]
    parameters = {**parameters, "data": paths[table], "models": ",".join(kinds)}
    outcome = store.mlflow_run(CLASSIFICATION, parameters=parameters)
    assert outcome.code == 0, outcome.output
    assert [run.data.tags["classifier"] for run in store.children(outcome.run)] == kinds
    assert outcome.run.data.metrics["best_roc_auc"] >= least
