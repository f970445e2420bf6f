"""On Spark, `predict` assigns as the local engine does, and `engine=spark` finds segments as good as K-Means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, datasets, model_uri, models_used
from sklearn.metrics import calinski_harabasz_score

CLUSTERING = COLLECTION / "clustering"
CUSTOMERS = CLUSTERING / "data" / "customers.csv"
COLUMNS = ["tenure", "monthly_charges"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spark")


@pytest.fixture(scope="module")
def with_island(store: Store, penguins: Path) -> Run:
    """Segments of penguins by two measures and a text that is never missing."""
    columns = ["--columns", "bill_length_mm,body_mass_g,island", "--categories", "onehot", "--missing", "impute"]
    [outcome] = store.run_several(
        CLUSTERING, [("fit", "fit", ["--data", str(penguins), "--n_clusters", "3", *columns])]
    )
    return finished(store, outcome)


@pytest.fixture(scope="module")
def outcomes(store: Store, segmented: Run, with_island: Run, penguins: Path, folder: Path) -> dict[str, Outcome]:
    """All that is done on Spark, and what it is compared with, in one process with one Spark."""
    table = pd.read_csv(CUSTOMERS).head(600)
    table.assign(tenure=table["tenure"].where(table.index != 500)).to_csv(folder / "missing.csv", index=False)
    table = pd.read_csv(penguins)
    island = table["island"].mask(table.index < 3).mask(table.index == 5, "Atlantis")
    table.assign(island=island).to_parquet(folder / "unseen.parquet")
    mixed = ["--columns", "tenure,total_charges,contract", "--missing", "impute"]
    commands: dict[str, tuple[str, str, list[str]]] = {
        "main": ("sweep", "sweep", ["--k_min", "3", "--k_max", "5", "--init_size", "1000"]),
        "mixed": ("fit", "fit", [*mixed, "--log_columns", "total_charges", "--categories", "onehot"]),
        "missing": ("fit", "fit", ["--data", str(folder / "missing.csv")]),
    }
    for name, (module, command, arguments) in commands.items():
        commands[name] = (module, command, [*arguments, "--engine", "spark", "--n_init", "1"])
    for engine, output in (("local", "local.parquet"), ("spark", "spark")):
        arguments = ["--model_uri", model_uri(segmented), "--engine", engine, "--output", str(folder / output)]
        commands[engine] = ("predict", "predict", [*arguments, "--data", str(CUSTOMERS)])
        arguments = ["--model_uri", model_uri(with_island), "--engine", engine, "--output", f"{folder / 'of'} {output}"]
        commands[f"unseen {engine}"] = ("predict", "predict", [*arguments, "--data", str(folder / "unseen.parquet")])
    arguments = ["--model_uri", model_uri(segmented), "--engine", "spark", "--output", str(folder / "refused")]
    commands["refused"] = ("predict", "predict", [*arguments, "--data", str(folder / "missing.csv")])
    return dict(zip(commands, store.run_several(CLUSTERING, list(commands.values())), strict=True))


def finished(store: Store, outcome: Outcome) -> Run:
    """The run that a script without `mlflow run` before it points to."""
    assert outcome.code == 0, outcome.output
    return store.client.get_run(re.findall(r"/runs/([0-9a-f]{32})", outcome.output)[-1])


def test_predict_gives_the_segments_of_the_local_engine(
    outcomes: dict[str, Outcome], store: Store, folder: Path
) -> None:
    local_run, spark_run = (finished(store, outcomes[engine]) for engine in ("local", "spark"))
    local, spark = pd.read_parquet(folder / "local.parquet"), pd.read_parquet(folder / "spark")
    assert len(spark) == 7043
    assert spark.columns.tolist() == local.columns.tolist()
    assert spark["segment"].tolist() == local["segment"].tolist()
    assert spark["segment_name"].tolist() == local["segment_name"].tolist()
    assert spark["segment_distance"].tolist() == local["segment_distance"].tolist()
    assert spark_run.data.metrics == local_run.data.metrics
    assert models_used(spark_run) == models_used(local_run)
    assert datasets(spark_run)[0].name == "customers"


def test_unseen_categories_are_pointed_out_as_by_the_local_engine(outcomes: dict[str, Outcome], folder: Path) -> None:
    line = "Warning: column 'island' holds categories that the model has not seen: 'Atlantis' (1)."
    for engine in ("local", "spark"):
        assert line in outcomes[f"unseen {engine}"].output
    local, spark = pd.read_parquet(folder / "of local.parquet"), pd.read_parquet(folder / "of spark")
    assert spark["segment"].tolist() == local["segment"].tolist()


def test_inertia_is_within_five_percent_of_k_means_for_every_number_of_segments(
    outcomes: dict[str, Outcome], store: Store, segmented: Run
) -> None:
    parent = finished(store, outcomes["main"])
    inertia = {run.data.params["n_clusters"]: run.data.metrics["inertia"] for run in store.children(parent)}
    assert inertia["4"] <= 1.05 * segmented.data.metrics["inertia"]
    assert inertia["3"] > inertia["4"] > inertia["5"]
    assert parent.data.metrics["chosen_k"] == 4
    child = next(run for run in store.children(parent) if run.data.params["n_clusters"] == "4")
    assert child.data.metrics.keys() == segmented.data.metrics.keys()
    assert child.data.params["engine"] == "spark"


def test_what_is_logged_is_a_pipeline_of_scikit_learn_with_the_metrics_of_all_rows(
    outcomes: dict[str, Outcome], store: Store
) -> None:
    parent = finished(store, outcomes["main"])
    run = next(child for child in store.children(parent) if child.data.params["n_clusters"] == "4")
    model = mlflow.sklearn.load_model(store.model(run).artifact_location)
    X = pd.read_csv(CUSTOMERS)[COLUMNS].astype("float64")
    Z, labels = model[:-1].transform(X), model.predict(X)
    distances = np.linalg.norm(Z - model[-1].cluster_centers_[labels], axis=1)
    assert run.data.metrics["inertia"] == pytest.approx((distances**2).sum(), rel=1e-9)
    assert run.data.metrics["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(Z, labels), rel=1e-9)
    assert json.loads(run.data.tags["sizes"]) == np.bincount(labels).tolist()
    assert run.data.metrics["rows"] == 7043
    assert run.data.metrics["silhouette_rows"] == 1000
    assert "Means and shares are those of a sample of 1,000 rows." in store.artifact(parent, "segments.md").read_text()
    assert store.model(run).name == "model"
    requirements = (Path(store.model(run).artifact_location) / "requirements.txt").read_text()
    assert "pyspark" not in requirements


def test_logarithms_and_categories_are_prepared_as_elsewhere(outcomes: dict[str, Outcome], store: Store) -> None:
    model = mlflow.sklearn.load_model(store.model(finished(store, outcomes["mixed"])).artifact_location)
    X = pd.read_csv(CUSTOMERS)[["tenure", "total_charges", "contract"]]
    Z = model[:-1].transform(X)
    assert np.abs(Z[:, :2].mean(axis=0)).max() < 1e-9  # every row was in the sample
    assert Z[:, 2:].sum() == len(X)


def test_missing_values_are_refused_as_elsewhere(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["missing"].code == 2
    assert outcomes["missing"].error == (
        "Invalid value for '--columns': 'tenure' has 1 missing values in 600 rows: give -P missing=impute to fill in "
        "the median, or -P drop=tenure."
    )
    assert outcomes["refused"].code == 2
    assert outcomes["refused"].error == (
        "Invalid value for '--data': 'nan' in column 'tenure' is missing: fit the model with missing=impute to allow "
        "that."
    )
