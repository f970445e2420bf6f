"""`predict` with engine=spark gives what the local engine gives, or refuses in one line; `tune` searches on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, datasets, model_uri, models_used

CLASSIFICATION = COLLECTION / "classification"
CHURN = CLASSIFICATION / "data" / "churn.csv"
INSTANCES = CLASSIFICATION / "data" / "new_customers.jsonl"


@pytest.fixture(scope="module")
def with_missing(store: Store, credit: Path) -> Run:
    """A decision tree of three kinds of columns, which saw missing numbers and categories in training."""
    outcome = store.mlflow_run(CLASSIFICATION, "decision_tree", {"data": credit, "target": "Status"})
    assert outcome.code == 0, outcome.output
    return outcome.run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables to predict that are refused or pointed out."""
    folder = tmp_path_factory.mktemp("spark")
    churn = pd.read_csv(CHURN).head(300)
    churn.assign(monthly_charges=churn["monthly_charges"].astype(object).where(churn.index != 170, "dear")).to_csv(
        folder / "wrong.csv", index=False
    )
    contract = churn["contract"].where(churn.index > 1, "Ten years").mask(churn.index == 2)  # a missing one is allowed
    churn.assign(contract=contract).to_parquet(folder / "unseen.parquet")
    churn.drop(columns="tenure").to_parquet(folder / "lacking.parquet")
    return folder


@pytest.fixture(scope="module")
def outcomes(store: Store, tree: Run, with_missing: Run, credit: Path, folder: Path) -> dict[str, Outcome]:
    """A search, and every table by each engine, in one process with one Spark."""
    tables = {
        "churn": (tree, CHURN),
        "credit": (with_missing, credit),
        "lines": (tree, INSTANCES),
        "unseen": (tree, folder / "unseen.parquet"),
        "wrong": (tree, folder / "wrong.csv"),
        "lacking": (tree, folder / "lacking.parquet"),
    }
    commands = {
        f"{name} {engine}": [
            *("--model_uri", model_uri(run), "--data", str(data), "--engine", engine),
            *("--output", str(folder / f"{name} {engine}{'.parquet' if engine == 'local' else ''}")),
        ]
        for name, (run, data) in tables.items()
        for engine in ("local", "spark")
    }
    commands["again"] = commands["churn spark"]
    commands["nowhere"] = ["--model_uri", model_uri(tree), "--engine", "spark"]
    search = ["--data", str(credit), "--target", "Status", "--model", "decision_tree", "--cv", "3"]
    search += ["--study", "sparkling", "--n_trials", "4", "--engine", "spark", "--jobs", "2"]
    scripts = [("tune", "tune", search), *(("predict", "predict", arguments) for arguments in commands.values())]
    return dict(zip(["tune", *commands], store.run_several(CLASSIFICATION, scripts), strict=True))


@pytest.mark.parametrize(("name", "key"), [("churn", None), ("credit", None), ("lines", "tenure")])
def test_spark_gives_the_classes_and_probabilities_of_the_local_engine(
    name: str, key: str | None, outcomes: dict[str, Outcome], folder: Path
) -> None:
    for engine in ("local", "spark"):
        assert outcomes[f"{name} {engine}"].code == 0, outcomes[f"{name} {engine}"].output
    local = pd.read_parquet(folder / f"{name} local.parquet")
    spark = pd.read_parquet(folder / f"{name} spark")
    assert len(spark) == len(local) > 0
    assert set(spark.columns) == set(local.columns)
    if key:
        local, spark = (table.sort_values(key, ignore_index=True) for table in (local, spark))
    assert spark["prediction"].tolist() == local["prediction"].tolist()
    probabilities = [column for column in local.columns.tolist() if column.startswith("probability_")]
    assert len(probabilities) == 2
    assert np.abs(spark[probabilities].to_numpy() - local[probabilities].to_numpy()).max() <= 1e-6


def test_the_run_holds_what_that_of_the_local_engine_does(
    store: Store, tree: Run, outcomes: dict[str, Outcome]
) -> None:
    local, spark = (finished(store, outcomes[f"churn {engine}"]) for engine in ("local", "spark"))
    assert spark.data.metrics == local.data.metrics
    assert spark.data.metrics["instances"] == 7043
    assert spark.data.tags["model_uri"] == model_uri(tree)
    [local_dataset], [dataset] = map(datasets, (local, spark))
    assert (dataset.name, dataset.source) == (local_dataset.name, local_dataset.source)
    assert len(dataset.digest) == 8
    assert models_used(spark) == [store.model(tree).model_id]


def test_an_unseen_category_is_pointed_out(outcomes: dict[str, Outcome]) -> None:
    line = "Warning: column 'contract' holds categories that the model has not seen: 'Ten years' (2)."
    for engine in ("local", "spark"):
        assert line in outcomes[f"unseen {engine}"].output


def test_spark_refuses_what_the_local_engine_refuses_in_one_line(outcomes: dict[str, Outcome], folder: Path) -> None:
    for name in ("wrong", "lacking"):
        local, spark = (outcomes[f"{name} {engine}"] for engine in ("local", "spark"))
        assert spark.code == local.code == 2
        assert spark.error == local.error.replace(", row 171,", "")
    assert "'dear' in column 'monthly_charges' is not a (finite) number." in outcomes["wrong spark"].error
    assert not list(folder.glob("wrong spark/*.parquet"))


def test_an_output_that_exists_or_has_no_name_is_refused(outcomes: dict[str, Outcome], folder: Path) -> None:
    assert outcomes["again"].error.startswith(f"Invalid value for '--output': '{folder / 'churn spark'}' exists")
    assert outcomes["nowhere"].error.startswith("Invalid value for '--output': '' is empty")


def test_the_trials_of_a_search_are_tasks_of_spark(store: Store, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["tune"].code == 0, outcomes["tune"].output
    found = store.client.search_runs(["0"], "tags.study = 'sparkling'")
    [search] = [run for run in found if "best_cv_roc_auc" in run.data.metrics]
    (study,) = (child for child in store.children(search) if child.info.run_name == "study sparkling")
    trials = store.children(study)
    assert len(trials) == 4
    best = max(trial.data.metrics["value"] for trial in trials if trial.info.status == "FINISHED")
    assert search.data.metrics["best_cv_roc_auc"] == best
    assert search.data.tags["best_classifier"] == "decision_tree"


def finished(store: Store, outcome: Outcome) -> Run:
    """The run that a script without `mlflow run` before it points to."""
    return store.client.get_run(outcome.output.rsplit("/runs/", 1)[1].split("?")[0])
