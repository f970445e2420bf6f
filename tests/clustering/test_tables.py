"""Tables that are not the example's own: penguins with text and missing values, and customers with churn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, model_uri
from sklearn.cluster import KMeans
from sklearn.impute import SimpleImputer
from sklearn.metrics import silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CLUSTERING = COLLECTION / "clustering"
MEASURED = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


@pytest.fixture(scope="module")
def mixed(store: Store, penguins: Path) -> Outcome:
    """Penguins in three segments, by their measures, one of them as a logarithm, and the text `island`."""
    parameters = {
        "data": penguins,
        "columns": "",
        "drop": "year",
        "profile": "species,sex",
        "log_columns": "body_mass_g",
        "categories": "onehot",
        "missing": "impute",
        "axes": "bill_length_mm,bill_depth_mm",
        "n_clusters": 3,
        "algorithm": "elkan",
    }
    outcome = store.mlflow_run(CLUSTERING, "kmeans", parameters)
    assert outcome.code == 0, outcome.output
    return outcome


def test_main_finds_the_kinds_of_penguins(store: Store, penguins: Path) -> None:
    """Measures alone: the elbow is where each of the three species is divided into females and males."""
    parameters = {"data": penguins, "columns": ",".join(MEASURED), "missing": "impute", "choose": "elbow"}
    outcome = store.mlflow_run(CLUSTERING, parameters=parameters)
    assert outcome.code == 0, outcome.output
    table = pd.read_csv(penguins)
    Z = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit_transform(table[MEASURED])
    labels = KMeans(n_clusters=6, n_init=10, random_state=0).fit_predict(Z)
    assert outcome.run.data.metrics["chosen_k"] == 6
    assert outcome.run.data.metrics["silhouette"] == pytest.approx(silhouette_score(Z, labels), rel=1e-9)
    profile = pd.read_csv(store.artifact(outcome.run, "profile.csv"))[:6]
    species = profile[["share species = Adelie", "share species = Chinstrap", "share species = Gentoo"]]
    assert (species.max(axis=1) > 0.9).all()
    female = profile["share sex = female"]
    assert ((female > 0.8) | (female < 0.2)).all()


def test_text_logarithms_and_missing_values_belong_to_the_model(store: Store, mixed: Outcome, penguins: Path) -> None:
    table = pd.read_csv(penguins)
    measures = pd.DataFrame(SimpleImputer(strategy="median").fit_transform(table[MEASURED]), columns=MEASURED)
    measures["body_mass_g"] = np.log1p(measures["body_mass_g"])
    Z = np.hstack([StandardScaler().fit_transform(measures), pd.get_dummies(table["island"])])
    kmeans = KMeans(n_clusters=3, n_init=10, random_state=0).fit(Z)
    assert mixed.run.data.metrics["inertia"] == pytest.approx(kmeans.inertia_, rel=1e-9)
    assert mixed.run.data.metrics["silhouette"] == pytest.approx(silhouette_score(Z, kmeans.labels_), rel=1e-9)


def test_profile_describes_by_columns_that_were_not_fitted_on(store: Store, mixed: Outcome) -> None:
    profile = pd.read_csv(store.artifact(mixed.run, "profile.csv"))
    assert "share species = Gentoo" in profile
    assert "share sex = female" in profile  # of two categories, one
    assert "share sex = male" not in profile
    assert not [name for name in profile.columns.tolist() if "year" in name]
    assert "Traceback" not in mixed.output


def test_such_a_model_predicts_raw_rows_in_an_empty_folder(store: Store, mixed: Outcome, tmp_path: Path) -> None:
    program = (
        "import sys, mlflow, pandas as pd\n"
        "rows = pd.DataFrame({'bill_length_mm': [46.1, None], 'bill_depth_mm': [13.2, 18.0],\n"
        "    'flipper_length_mm': [211.0, 190.0], 'body_mass_g': [4500.0, 3600.0], 'island': ['Biscoe', None]})\n"
        "print(len(set(mlflow.pyfunc.load_model(sys.argv[1]).predict(rows))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, store.model(mixed.run).artifact_location],
        cwd=tmp_path,
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "2", done.stderr


def test_predict_takes_missing_values_and_an_unseen_category(store: Store, mixed: Outcome, tmp_path: Path) -> None:
    row = {"bill_length_mm": 46.1, "bill_depth_mm": 13.2, "flipper_length_mm": 211, "island": "Biscoe", "sex": None}
    rows = [{**row, "body_mass_g": 4500}, {**row, "island": "Atlantis"}]  # the second has no body_mass_g
    (tmp_path / "new.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    outcome = store.mlflow_run(
        CLUSTERING, "predict", {"model_uri": model_uri(mixed.run), "data": tmp_path / "new.jsonl"}
    )
    assert outcome.code == 0, outcome.output
    assert "Warning: column 'island' holds categories that the model has not seen: 'Atlantis' (1)." in outcome.output
    written = pd.read_csv(store.artifact(outcome.run, "segments.csv"))
    assert written["segment"].nunique() == 1
    assert written["sex"].isna().all()


@pytest.fixture(scope="module")
def churn(store: Store) -> Run:
    table = COLLECTION / "classification" / "data" / "churn.csv"
    outcome = store.mlflow_run(CLUSTERING, "kmeans", {"data": table, "profile": "churn"})
    assert outcome.code == 0, outcome.output
    return outcome.run


def test_churn_is_described_and_not_fitted_on(store: Store, churn: Run, segmented: Run) -> None:
    assert churn.data.metrics["inertia"] == segmented.data.metrics["inertia"]
    profile = pd.read_csv(store.artifact(churn, "profile.csv"))
    assert [name for name in profile.columns.tolist() if name.startswith(("mean", "share "))] == [
        "mean tenure",
        "mean monthly_charges",
        "share churn = Yes",
    ]
    assert profile["share churn = Yes"].round(2).tolist() == [0.49, 0.16, 0.25, 0.05, 0.27]
    assert "| 0 | 2,204 | 31.3% | 14.8 | 81.2 | 49% |" in store.artifact(churn, "segments.md").read_text()
