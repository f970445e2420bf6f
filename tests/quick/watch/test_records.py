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
    return records.read_records(str(record), "churn", "churn", START, END)


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
    found = records.read_records(tmp_path.as_uri(), "churn", "churn", START, END)
    assert found["request_id"].tolist() == ["one", "one"]
    with pytest.raises(click.BadParameter, match="'ftp://host/record' cannot be read: Unrecognized filesystem type"):
        records.read_records("ftp://host/record", "churn", "churn", START, END)


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
    assert "Left out: 2 rows that have been recorded twice" in said
    for name in "cde":
        assert f"{name}.parquet: left out" in said


def test_rows_without_a_version_are_those_of_the_version_that_is_given(tmp_path: Path) -> None:
    write(tmp_path / "churn", ours("one", 2).assign(version=None))
    with pytest.raises(click.BadParameter, match="is needed: the recording does not say which version answered"):
        records.pick_version(read(tmp_path), "")
    assert set(records.pick_version(read(tmp_path), "3")["version"]) == {"3"}


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
    said = "Labels that are not used: 1 empty, 1 of no row of the window, 2 contradictory."
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("written", "same"), [(1.0, "1"), (1, "1"), (True, "true"), ("True", "true"), (" Yes", "Yes")])
def test_a_class_is_the_same_in_every_form(written: object, same: str) -> None:
    assert truth.plain(written) == same


def exported(identifier: str, request_: Any, response: Any, **more: Any) -> dict[str, Any]:
    """One request of an inference table of Databricks, in the form of AI Gateway where there is no version."""
    texts = {"request": request_ and json.dumps(request_), "response": response and json.dumps(response)}
    time = pd.Timestamp(2026, 3, 2)
    return {"databricks_request_id": identifier, "request_time": time, "status_code": 200, **texts, **more}


@pytest.mark.parametrize(
    "response",
    [
        {"predictions": ["No", "Yes"]},
        {"predictions": [["No"], ["Yes"]]},
        {"predictions": [{"0": "No"}, {"0": "Yes"}]},
        {"predictions": {"prediction": ["No", "Yes"]}},
        ["No", "Yes"],
    ],
)
def test_an_answer_in_any_form(response: Any, tmp_path: Path) -> None:
    write(tmp_path, pd.DataFrame([exported("d1", {"dataframe_records": INPUTS}, response)]))
    assert read(tmp_path)["output"].tolist() == ["No", "Yes"]


def test_a_request_that_cannot_be_read_takes_no_other_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too large for the table, a tensor, an answer that is lacking: as they stand beside the others."""
    strange = [(None, None), ({"inputs": [[1, 2]]}, {"predictions": [1]}), ({"dataframe_records": INPUTS}, [1])]
    rows = [exported("good", {"dataframe_records": INPUTS}, ["No", "Yes"])]
    rows += [exported(f"bad{place}", *both) for place, both in enumerate(strange)]
    write(tmp_path, pd.DataFrame(rows))
    assert set(read(tmp_path)["request_id"]) == {"good"}
    assert "left out, as 3 of its 4 entries cannot be read" in capsys.readouterr().err


def azure(folder: Path, kind: str, data: Any, **more: Any) -> None:
    """Append an event to a file of the data collector."""
    event = {"time": "2026-03-02T08:51:30Z", "correlationid": "c1", "modelversion": "default", **more}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{kind}.jsonl").open("a") as file:
        file.write(json.dumps({**event, "type": f"azureml.inference.{kind}", "data": data}) + "\n")


def test_a_payload_of_azure_as_text_and_a_line_that_is_broken_off(tmp_path: Path) -> None:
    azure(tmp_path, "request", json.dumps({"input_data": {"columns": ["x", "c"], "data": [[1.5, "a"], [None, "b"]]}}))
    azure(tmp_path, "response", json.dumps(["No", "Yes"]))
    azure(tmp_path, "request", {"x": 2.5, "c": "a"}, correlationid="c2", time="2026-03-02T08:51:30.123456+01:00")
    azure(tmp_path, "response", ["No"], correlationid="c2")
    with (tmp_path / "request.jsonl").open("a") as file:
        file.write('{"specversion": "1.0", "ti')
    found = read(tmp_path)
    assert found["inputs"].tolist() == [{"x": 2.5, "c": "a"}, *INPUTS]
    assert found["output"].tolist() == ["No", "No", "Yes"]


def test_parts_of_one_collection_of_azure_are_not_put_together_at_random(tmp_path: Path) -> None:
    for part in INPUTS:
        azure(tmp_path, "inputs", [part], contentrange="bytes 0-4000/9000")
    azure(tmp_path, "outputs", ["No", "Yes"])
    with pytest.raises(click.BadParameter, match="has no rows of the endpoint"):
        read(tmp_path)


def test_what_a_cloud_calls_the_model_is_no_version(tmp_path: Path) -> None:
    one, other = (exported("d1", {"dataframe_records": INPUTS}, [1, 2], served_entity_id=each) for each in ("a1", "b2"))
    write(tmp_path / "one", pd.DataFrame([one]))
    write(tmp_path / "two", pd.DataFrame([one, {**other, "databricks_request_id": "d2"}]))
    with pytest.raises(click.BadParameter, match=r"is needed: the recording does not say .*, only 'a1'"):
        records.pick_version(read(tmp_path / "one"), "")
    assert set(records.pick_version(read(tmp_path / "one"), "3")["version"]) == {"3"}
    with pytest.raises(click.BadParameter, match="'a1, b2' are several models, of unknown versions"):
        records.pick_version(read(tmp_path / "two"), "3")


def test_rows_of_another_model_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint may have served another registered model, whose version 3 is not this version 3."""
    write(tmp_path / "churn", ours("other", 2).assign(model="credit"), "other.parquet")
    with pytest.raises(click.BadParameter, match="'churn' answered no row of the window; these did: credit"):
        read(tmp_path)
    write(tmp_path / "churn", ours("mine", 2))
    assert set(read(tmp_path)["request_id"]) == {"mine"}
    assert "Left out: 2 rows that have answers of another model: credit" in capsys.readouterr().err


def test_requests_without_an_id_or_with_a_shared_one_count_but_get_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, identifier in enumerate([None, None, "same", "same"]):
        rows = ours("any", 2).assign(request_id=identifier, inputs=json.dumps({"x": place}))
        write(tmp_path / "churn", rows[:1], f"{place}.parquet")
    (tmp_path / "labels.csv").write_text("request_id,row,churn\nsame,0,Yes\n")
    joined = truth.with_truth(read(tmp_path), str(tmp_path / "labels.csv"), "churn")
    assert len(joined) == 4
    assert joined["truth"].isna().all()
    assert "not used: 1 of an id that several requests have." in capsys.readouterr().out


@pytest.mark.parametrize("times", [["2026-03-02 12:00:00", "2026-03-02T12:00:00.5+02:00"], ["2026-03-02", "yesterday"]])
def test_times_in_several_forms_are_read_and_others_are_said(
    times: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "churn", ours("one", 2).assign(time=times))
    assert len(read(tmp_path)) == 2 - times.count("yesterday")
    assert ("Left out: 1 rows that have no time that can be read" in capsys.readouterr().err) == ("yesterday" in times)
