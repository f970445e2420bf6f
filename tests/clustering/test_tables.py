"""A table that is not the example's own: penguins with text and missing values, from `kmeans` to `predict`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from running import COLLECTION, Outcome, Store, model_uri

CLUSTERING = COLLECTION / "clustering"


@pytest.fixture(scope="module")
def mixed(store: Store, penguins: Path) -> Outcome:
    """Three segments, by measures, one of them as a logarithm, and the text `island`."""
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
    outcome = store.mlflow_run(CLUSTERING, "kmeans", parameters, "--run-name", "penguins")
    assert outcome.code == 0, outcome.output
    assert outcome.run.info.run_name == "penguins"
    return outcome


def test_profile_describes_by_columns_that_were_not_fitted_on(store: Store, mixed: Outcome) -> None:
    profile = pd.read_csv(store.artifact(mixed.run, "profile.csv"))
    assert "share species = Gentoo" in profile
    assert "share sex = female" in profile  # of two categories, one
    assert "share sex = male" not in profile
    assert not [name for name in profile.columns.tolist() if "year" in name]


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


def test_predict_on_the_training_rows_gives_the_segments_of_training(
    store: Store, mixed: Outcome, penguins: Path
) -> None:
    outcome = store.mlflow_run(CLUSTERING, "predict", {"model_uri": model_uri(mixed.run), "data": penguins})
    assert outcome.code == 0, outcome.output
    assert "Warning" not in outcome.output
    written = pd.read_csv(store.artifact(outcome.run, "segments.csv"))
    assert written["segment"].value_counts(sort=False).sort_index().tolist() == json.loads(mixed.run.data.tags["sizes"])
    assert outcome.run.data.metrics["far_from_centre"] == 0
