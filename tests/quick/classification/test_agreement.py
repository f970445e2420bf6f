"""`predict` on the training file gives what the model in memory gave, to the last digit, whatever the table is like."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from examples import module
from quick.tables.made import TABLES, Made

from support.scoring import score_here

features, tracking, predict = (module("classification", name) for name in ("features", "tracking", "predict"))
build = module("classification", "classifiers").build
LEARNABLE = ("number", "boolean", "category")


def learnt(made: Made) -> bool:
    """Whether there is a column to learn from, and the target of most made tables."""
    others = [kind for column, kind in made.kinds.items() if column != "left"]
    return "left" in made.kinds and any(kind.startswith(LEARNABLE) for kind in others)


@pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0")  # of MLflow
@pytest.mark.parametrize("name", [name for name, made in TABLES.items() if learnt(made)])
def test_predict_agrees_with_training(name: str, tmp_path: Path) -> None:
    path = tmp_path / TABLES[name].name
    path.write_bytes(TABLES[name].content)
    given = TABLES[name].given
    drop, kinds, missing = json.dumps(given.get("drop", [])), given.get("kinds", ""), given.get("missing_values", "")
    split = features.load_split(str(path), "left", "", drop, kinds, missing, 0.25, 0)
    model = features.with_preprocessing(build("decision_tree", {"min_samples_leaf": 1}, 0), split.kinds)
    model.fit(split.X_train, split.y_train)
    X = pd.concat([split.X_train, split.X_test]).sort_index()

    info = SimpleNamespace(
        signature=tracking.signature_of(split), metadata=json.loads(json.dumps(tracking.metadata_of(split)))
    )
    predictor = predict.Predictor(info, model.predict_proba, model.predict, split.classes)
    called = {"prediction": "class_of_the_row"}
    score_here(predictor, str(path), tmp_path / "out.csv", called=called, batch_size=7)

    header, *rows = csv.reader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"), newline=""))
    start = header.index("class_of_the_row")
    assert [row[start] for row in rows] == [str(label) for label in model.predict(X)]
    written = np.array([row[start + 1 :] for row in rows], dtype="float64")
    assert (written == model.predict_proba(X)).all()
