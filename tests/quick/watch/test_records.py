"""The reader takes what registry_deploy, Databricks and Azure Machine Learning write, and says what it leaves out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from examples import module

records: Any = module("watch", "records")
truth: Any = module("watch", "truth")
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC)
INPUTS = [{"x": 1.5, "c": "a"}, {"x": None, "c": "b"}]


def ours(identifier: str, day: int, output: Any = "No") -> pd.DataFrame:
    """The rows of a request of two rows, as registry_deploy records them."""
    time = pd.Timestamp(2026, 3, day, 12, tz="UTC")
    rows = [
        {"request_id": identifier, "row": row, "time": time, "model": "churn", "version": "3"}
        | {"inputs": json.dumps(inputs), "output": json.dumps(output)}
        for row, inputs in enumerate(INPUTS)
    ]
    return pd.DataFrame(rows)


def write(folder: Path, frame: pd.DataFrame, name: str = "part.parquet") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / name, index=False)


def read(record: Path) -> Any:
    return records.read_records(str(record), "churn", START, END)


def test_what_registry_deploy_records_is_read_of_its_endpoint_and_window(tmp_path: Path) -> None:
    write(tmp_path / "churn" / "date=2026-03-02", ours("one", 2))
    write(tmp_path / "churn" / "date=2026-03-09", ours("late", 9))
    write(tmp_path / "other" / "date=2026-03-02", ours("other", 2))
    found = read(tmp_path)
    assert found[["request_id", "row", "version"]].to_numpy().tolist() == [["one", 0, "3"], ["one", 1, "3"]]
    assert found["inputs"].tolist() == INPUTS
    assert found["output"].tolist() == ["No", "No"]


def test_a_record_is_read_by_its_uri_and_one_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    """Of an object store the same way: that the recorder writes to one, and this reads it, was tried on SeaweedFS."""
    write(tmp_path / "churn" / "date=2026-03-02", ours("one", 2))
    write(tmp_path / "other" / "date=2026-03-02", ours("other", 2))
    found = records.read_records(tmp_path.as_uri(), "churn", START, END)
    assert found["request_id"].tolist() == ["one", "one"]
    with pytest.raises(click.BadParameter, match="'ftp://host/record' cannot be read: Unrecognized filesystem type"):
        records.read_records("ftp://host/record", "churn", START, END)


def test_rows_recorded_twice_and_broken_files_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "churn" / "date=2026-03-02"
    write(folder, ours("one", 2), "a.parquet")
    write(folder, ours("one", 2), "b.parquet")
    (folder / "c.parquet").write_bytes(b"PAR1 broken off")
    write(folder, ours("two", 2).assign(inputs="{broken off"), "d.parquet")
    write(folder, ours("three", 2).assign(inputs="[1.5, 2]"), "e.parquet")
    assert len(read(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "2 rows were recorded twice" in said
    for name in "cde":
        assert f"{name}.parquet: left out" in said


def test_rows_without_a_version_are_those_of_the_version_that_is_given(tmp_path: Path) -> None:
    write(tmp_path / "churn", ours("one", 2).assign(version=None))
    drift = module("watch", "drift")
    with pytest.raises(click.BadParameter, match="is needed: the recording does not say which version answered"):
        drift.pick_version(read(tmp_path), "")
    assert set(drift.pick_version(read(tmp_path), "3")["version"]) == {"3"}


@pytest.mark.parametrize("row", ["a", "", "0.5"])
def test_a_label_of_no_position_in_a_request_is_refused_in_one_line(row: str, tmp_path: Path) -> None:
    write(tmp_path / "churn", ours("one", 2))
    (tmp_path / "labels.csv").write_text(f"request_id,row,churn\none,0,Yes\none,{row},No\n")
    with pytest.raises(click.BadParameter, match=f"has {row!r} in 'row', which is no position: 0, 1, 2"):
        truth.with_truth(read(tmp_path), str(tmp_path / "labels.csv"), "churn")


def test_a_window_that_is_longer_than_time_is_refused_in_one_line() -> None:
    with pytest.raises(click.BadParameter, match="days begin before the year 1"):
        records.window_of(1e9, "")


def test_an_inference_table_of_databricks(tmp_path: Path) -> None:
    split = {"dataframe_split": {"columns": ["x", "c"], "data": [[1.5, "a"], [None, "b"]]}}
    rows = pd.DataFrame(
        {
            "databricks_request_id": ["d1", "d2"],
            "client_request_id": ["mine", None],
            "timestamp_ms": [int(pd.Timestamp(2026, 3, 2, tz="UTC").timestamp() * 1000)] * 2,
            "status_code": [200, 400],
            "request": [json.dumps(split), "{}"],
            "response": [json.dumps({"predictions": ["No", "Yes"]}), "{}"],
            "request_metadata": [[("model_version", "3")], []],
        }
    )
    write(tmp_path, rows)
    found = read(tmp_path)
    assert found["inputs"].tolist() == INPUTS
    assert found[["request_id", "version", "output"]].to_numpy().tolist() == [["mine", "3", "No"], ["mine", "3", "Yes"]]


def test_what_the_data_collector_of_azure_writes(tmp_path: Path) -> None:
    shared = {"specversion": "1.0", "time": "2026-03-02T08:51:30Z", "correlationid": "c1", "modelversion": "3"}
    for kind, data in (("inputs", INPUTS), ("outputs", [{"0": "No"}, {"0": "Yes"}])):
        folder = tmp_path / f"model_{kind}" / "2026" / "03" / "02" / "08"
        folder.mkdir(parents=True)
        event = {**shared, "type": f"azureml.inference.{kind}", "data": data}
        (folder / "instance.jsonl").write_text(json.dumps(event) + "\n")
    found = read(tmp_path)
    assert found["inputs"].tolist() == INPUTS
    assert found["output"].tolist() == ["No", "Yes"]
    assert set(found["request_id"]) == {"c1"}


@pytest.mark.parametrize(
    "request_",
    [
        {"dataframe_split": {"columns": ["x", "c"], "data": [[1.5, "a"], [None, "b"]]}},
        {"input_data": {"columns": ["x", "c"], "index": [0, 1], "data": [[1.5, "a"], [None, "b"]]}},
        {"dataframe_records": INPUTS},
        {"inputs": {"x": [1.5, None], "c": ["a", "b"]}},
    ],
)
def test_a_request_in_any_form_that_names_columns(request_: dict[str, Any]) -> None:
    assert records.rows_of(request_) == INPUTS


def test_a_window_without_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "churn" / "date=2026-02-20", ours("old", 20))
    with pytest.raises(click.BadParameter, match="has no rows of the endpoint churn between 2026-03-01 00:00 and"):
        read(tmp_path)


def test_truths_are_joined_and_what_is_not_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "churn" / "date=2026-03-02", pd.concat([ours("one", 2), ours("two", 2), ours("three", 2)]))
    lines = ["one,0,Yes", "one,0,Yes", "one,1,No", "two,0,Yes", "two,0,No", "three,1,", "elsewhere,0,No"]
    (tmp_path / "labels.csv").write_text("\n".join(["request_id,row,churn", *lines]))
    joined = truth.with_truth(read(tmp_path), str(tmp_path / "labels.csv"), "churn")
    known = joined.dropna(subset=["truth"])[["request_id", "row", "truth"]]
    assert known.to_numpy().tolist() == [["one", 0, "Yes"], ["one", 1, "No"]]
    said = "Labels that are not used: 1 of no row of the window, 1 empty, 2 contradictory."
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("written", "same"), [(1.0, "1"), (1, "1"), (True, "true"), ("True", "true"), (" Yes", "Yes")])
def test_a_class_is_the_same_in_every_form(written: object, same: str) -> None:
    assert truth.plain(written) == same
