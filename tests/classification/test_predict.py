"""`predict` scores new instances as people write them, with the model as it was logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, datasets, model_uri, models_used

CLASSIFICATION = COLLECTION / "classification"
INSTANCES = CLASSIFICATION / "data" / "new_customers.jsonl"


def scored(store: Store, tree: Run, *calls: Mapping[str, object]) -> list[Outcome]:
    """The entry point called with each of these parameters in turn, in one process: a start costs seconds."""
    commands = []
    for parameters in calls:
        arguments = ["--model_uri", model_uri(tree)]
        for name, value in parameters.items():
            arguments += [f"--{name}", str(value)]
        commands.append(("predict", "predict", arguments))
    outcomes = store.run_several(CLASSIFICATION, commands)
    assert [outcome.code for outcome in outcomes] == [0] * len(calls), outcomes
    return outcomes


def test_the_bundled_instances_are_predicted_by_default(store: Store, tree: Run) -> None:
    outcome = store.mlflow_run(CLASSIFICATION, "predict", {"model_uri": model_uri(tree)})
    assert outcome.code == 0, outcome.output
    table = pd.read_csv(store.artifact(outcome.run, "predictions.csv"))
    assert table["prediction"].tolist() == ["Yes", "No", "Yes", "No"]
    assert outcome.run.data.metrics["instances"] == 4
    assert datasets(outcome.run)[0].name == "new_customers"
    assert models_used(outcome.run) == [store.model(tree).model_id]
    assert "probability_Yes" in outcome.output


def test_every_way_of_writing_the_instances_gives_the_same_predictions(store: Store, tree: Run, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in INSTANCES.read_text().splitlines()]
    frame = pd.DataFrame(rows)
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=2))
    frame.to_csv(tmp_path / "comma.csv", index=False)
    frame.to_csv(tmp_path / "semicolon.csv", index=False, sep=";")
    frame.to_parquet(tmp_path / "table.parquet")
    ways = [INSTANCES, *(tmp_path / name for name in ("array.json", "comma.csv", "semicolon.csv", "table.parquet"))]
    scored(store, tree, *({"data": way, "output": tmp_path / f"{way.name}.csv"} for way in ways))
    expected, *others = [pd.read_csv(tmp_path / f"{way.name}.csv")["probability_Yes"].tolist() for way in ways]
    assert len(expected) == 4
    for way, probabilities in zip(ways[1:], others, strict=True):
        assert probabilities == expected, way
