"""`predict` assigns customers as people write them, with the model as it was logged."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.models import get_model_info
from running import COLLECTION, Outcome, Store, datasets, model_uri, models_used

CLUSTERING = COLLECTION / "clustering"
INSTANCES = CLUSTERING / "data" / "new_customers.jsonl"
CUSTOMERS = CLUSTERING / "data" / "customers.csv"


@pytest.fixture(scope="module")
def predicted(store: Store, segmented: Run) -> Outcome:
    """The bundled new customers."""
    outcome = store.mlflow_run(CLUSTERING, "predict", {"model_uri": model_uri(segmented)})
    assert outcome.code == 0, outcome.output
    return outcome


def segments(store: Store, run: Run, folder: Path, *calls: tuple[Path, list[str]]) -> list[pd.DataFrame]:
    """What the entry point writes for each table and its further arguments, in one process: a start costs seconds."""
    outputs = [folder / f"written{number}.csv" for number in range(len(calls))]
    commands = []
    for (data, more), output in zip(calls, outputs, strict=True):
        arguments = ["--model_uri", model_uri(run), "--data", str(data), "--output", str(output), *more]
        commands.append(("predict", "predict", arguments))
    outcomes = store.run_several(CLUSTERING, commands)
    assert [outcome.code for outcome in outcomes] == [0] * len(calls), outcomes
    return [pd.read_csv(output) for output in outputs]


def test_the_bundled_instances_are_assigned_by_default(store: Store, segmented: Run, predicted: Outcome) -> None:
    table = pd.read_csv(store.artifact(predicted.run, "segments.csv"))
    assert table["segment"].tolist() == [0, 1, 2, 3, 0, 1]
    assert table["segment_name"][3] == "high tenure, low monthly_charges"
    assert table["contract"][1] == "Two year"
    assert predicted.run.data.metrics["instances"] == 6
    assert predicted.run.data.metrics["segment_0"] == 2
    assert datasets(predicted.run)[0].name == "new_customers"
    assert models_used(predicted.run) == [store.model(segmented).model_id]
    assert "segment 0: 2 (33.3%)" in predicted.output


def test_an_instance_far_from_every_centre_is_pointed_out(predicted: Outcome) -> None:
    assert "Warning: 1 of 6 instances lie farther from their centre than any" in predicted.output
    assert predicted.run.data.metrics["far_from_centre"] == 1


def test_every_way_of_writing_the_instances_gives_the_same_segments(
    store: Store, segmented: Run, predicted: Outcome, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in INSTANCES.read_text().splitlines()]
    frame = pd.DataFrame(rows)
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=2))
    frame.to_csv(tmp_path / "semicolon.csv", index=False, sep=";")
    frame.to_parquet(tmp_path / "table.parquet")
    expected = pd.read_csv(store.artifact(predicted.run, "segments.csv"))
    ways: list[tuple[Path, list[str]]] = [
        (tmp_path / name, []) for name in ("array.json", "semicolon.csv", "table.parquet")
    ]
    for written in segments(store, segmented, tmp_path, *ways):
        pd.testing.assert_frame_equal(
            written[["segment", "segment_distance"]], expected[["segment", "segment_distance"]], check_exact=True
        )


def test_distances_are_those_to_the_centres_whatever_the_batches(store: Store, segmented: Run, tmp_path: Path) -> None:
    [written] = segments(store, segmented, tmp_path, (CUSTOMERS, ["--batch_size", "1000"]))
    model = mlflow.sklearn.load_model(store.model(segmented).artifact_location)
    Z = model[:-1].transform(pd.read_csv(CUSTOMERS)[["tenure", "monthly_charges"]])
    distances = np.linalg.norm(Z[:, None] - model[-1].cluster_centers_[None], axis=2)
    assert len(written) == 7043
    assert written["segment"].tolist() == distances.argmin(axis=1).tolist()
    assert written["segment_distance"].to_numpy() == pytest.approx(distances.min(axis=1), abs=1e-9)
    assert np.bincount(written["segment"]).tolist() == json.loads(segmented.data.tags["sizes"])
    assert not (
        written["segment_distance"]
        > np.array((get_model_info(model_uri(segmented)).metadata or {})["farthest"])[written["segment"]]
    ).any()
    assert (written["segment_distance"] ** 2).sum() == pytest.approx(segmented.data.metrics["inertia"], rel=1e-6)


def test_what_the_model_does_not_take_is_carried_through_as_it_came(
    store: Store, segmented: Run, tmp_path: Path
) -> None:
    lines = ["customer,segment,tenure,monthly_charges,far", "00042,gold,3,85.50,x", "12345678901234567,NA,66,1e2,"]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    indexed = pd.DataFrame({"tenure": [3], "monthly_charges": [85.5]}, index=pd.Index(["K 1"], name="customer"))
    indexed.to_parquet(tmp_path / "indexed.parquet")
    outputs = [tmp_path / "new segments.csv", tmp_path / "other.csv", tmp_path / "indexed segments.parquet"]
    commands: list[tuple[str, str, list[str]]] = []
    for data, more in (("new.csv", []), ("new.csv", ["--segment_column", "group"]), ("indexed.parquet", [])):
        arguments = ["--model_uri", model_uri(segmented), "--data", str(tmp_path / data), *more]
        commands.append(("predict", "predict", [*arguments, "--output", str(outputs[len(commands)])]))
    said, _, _ = (outcome.output for outcome in store.run_several(CLUSTERING, commands))
    assert "The table has a column 'segment': the new one is called 'segment_2'." in said
    assert "'far'" not in said
    written = outputs[0].read_text().splitlines()
    assert written[0] == f"{lines[0]},segment_2,segment_distance,segment_name"
    assert [line.startswith(f"{given},") for line, given in zip(written[1:], lines[1:], strict=True)] == [True, True]
    assert pd.read_csv(outputs[1]).columns.tolist()[-3:] == ["group", "group_distance", "group_name"]
    table = pd.read_parquet(outputs[2])
    assert table.index.tolist() == ["K 1"]
    assert table.index.name == "customer"
