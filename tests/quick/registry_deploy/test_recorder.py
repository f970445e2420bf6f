"""The recorder's rules: what a row of a request is, which requests are recorded, and what is deleted."""

from __future__ import annotations

import io
import json
import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow.parquet as pq
import pytest
from examples import module

deploy: Any = module("registry_deploy", "deploy")
recorder: Any = module("registry_deploy", "recorder")
recording: Any = module("registry_deploy", "recording")
Recording = recorder.Recording
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
TABLE = pd.DataFrame({"x": [1.5, 2.25], "name": ["a", "é"]})
WANTED = [{"x": 1.5, "name": "a"}, {"x": 2.25, "name": "é"}]


def recorded(body: str | bytes, kind: str = JSON, rows: int = 2, omit: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    head = {"request_id": "1", "time": 1.5, "model": "m", "version": "3", "content_type": kind}
    answer = json.dumps({"predictions": list(range(rows))}).encode()
    found: list[dict[str, Any]] = recorder.records_of(
        head, body if isinstance(body, bytes) else body.encode(), answer, omit
    )
    return found


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": json.loads(TABLE.to_json(orient="split"))},
        {"dataframe_records": WANTED},
        {"instances": WANTED, "params": {"predict_method": "predict"}},
        {"inputs": WANTED},
        {"inputs": {"x": [1.5, 2.25], "name": ["a", "é"]}},
    ],
)
def test_each_form_of_json_gives_the_rows_that_were_sent(body: dict[str, Any]) -> None:
    found = recorded(json.dumps(body), "application/json; charset=utf-8")
    assert [json.loads(row["inputs"]) for row in found] == WANTED
    assert [(row["row"], row["output"], row["request_id"]) for row in found] == [(0, "0", "1"), (1, "1", "1")]
    assert [(row["model"], row["version"]) for row in found] == [("m", "3")] * 2
    assert found[0]["time"] == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_csv_and_parquet_give_the_rows_that_were_sent() -> None:
    parquet = io.BytesIO()
    TABLE.to_parquet(parquet, index=False)
    assert [json.loads(row["inputs"]) for row in recorded(parquet.getvalue(), PARQUET)] == WANTED
    text = '\ufeffx,name\n1.50,"a\nb"\n\n007,\n'
    found = [json.loads(row["inputs"]) for row in recorded(text, CSV)]
    assert found == [{"x": "1.50", "name": "a\nb"}, {"x": "007", "name": None}]


def test_numbers_stay_as_they_were_written() -> None:
    [row] = recorded('{"inputs": [{"a": 1.10, "b": 9007199254740993, "c": 1E5, "d": NaN, "e": [-0.0, null]}]}', rows=1)
    assert row["inputs"] == '{"a": 1.10, "b": 9007199254740993, "c": 1E5, "d": NaN, "e": [-0.0, null]}'


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ({"inputs": [[1, [2, 3]], [4, [5, 6]]]}, [{"0": 1, "1": [2, 3]}, {"0": 4, "1": [5, 6]}]),
        ({"instances": [7, 8]}, [{"0": 7}, {"0": 8}]),
        ({"dataframe_split": {"data": [[1, 2], [3, 4]]}}, [{"0": 1, "1": 2}, {"0": 3, "1": 4}]),
        ({"inputs": {"image": [[[1], [2]], [[3], [4]]]}}, [{"image": [[1], [2]]}, {"image": [[3], [4]]}]),
    ],
)
def test_columns_without_a_name_have_their_position(body: dict[str, Any], inputs: list[Any]) -> None:
    assert [json.loads(row["inputs"]) for row in recorded(json.dumps(body))] == inputs


def test_one_row_may_be_sent_and_answered_without_lists() -> None:
    [row] = recorder.records_of(
        {"request_id": "1", "time": 0, "model": "m", "version": "1", "content_type": JSON},
        b'{"inputs": {"x": 1, "name": "a"}}',
        b'{"predictions": {"p": [0.5], "label": ["yes"]}}',
        (),
    )
    assert (row["inputs"], row["output"]) == ('{"x": 1, "name": "a"}', '{"p": 0.5, "label": "yes"}')


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"messages": [{"role": "user"}]}', "rows are not known"),
        ('{"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2], [3, 4]]}}', "rows are not known"),
        ('{"inputs": {"x": [1, 2], "y": [1]}}', "rows are not known"),
        ('{"inputs": [{"x": 1}]}', "not one value for each row"),
    ],
)
def test_what_cannot_be_told_row_by_row_is_not_recorded(body: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        recorded(body)


def test_omitted_columns_are_in_no_file(tmp_path: Path) -> None:
    writer = recorder.Writer(Recording(str(tmp_path), 1, ["email"], 90), "churn")
    body = b'{"inputs": [{"x": 1, "email": "a@b.c", " email": "d@e.f"}]}'
    head = {"request_id": "1", "time": 0, "model": "m", "version": "1", "content_type": JSON}
    writer.add(head, body, b'{"predictions": [1]}')
    writer.flush()
    [file] = (tmp_path / "churn" / "date=1970-01-01").iterdir()
    table = pq.read_table(file, partitioning=None)
    assert table.schema.equals(recorder.SCHEMA)
    assert table["inputs"].to_pylist() == ['{"x": 1}']


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = recorder.Writer(Recording(str(tmp_path), 1, [], 90), "churn")
    head = {"request_id": "1", "time": 0, "model": "m", "version": "1", "content_type": JSON}
    sent = (head, b'{"inputs": [{"x": 1}]}', b'{"predictions": [1]}')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        writer.add(*sent)
        writer.flush()
        writer.add(*sent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.paused = 0
    writer.add(*sent)
    writer.flush()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.get("lost") for each in told] == [1, 1, None]
    assert told[0]["why"] == told[1]["why"]
    assert "File too large" in told[0]["why"]
    assert told[2] == {"recorded": 1}
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".parquet"]


def test_the_share_is_drawn_by_the_id() -> None:
    drawn = [recording.drawn(f"request {number}", 0.1) for number in range(20_000)]
    assert drawn == [recording.drawn(f"request {number}", 0.1) for number in range(20_000)]
    assert 1_870 < sum(drawn) < 2_130  # three standard deviations
    assert all(recording.drawn(str(number), 1) for number in range(1000))


def test_the_clients_own_id_is_kept_unless_it_cannot_be_sent_back() -> None:
    assert recording.request_id("order 7") == "order 7"
    assert len({recording.request_id(given) for given in ("", "", "\udcff", "é")}) == 4


def test_the_oldest_files_go_first_and_only_ours() -> None:
    def name(day: str, number: int) -> str:
        return f"records/churn/date={day}/{number:032x}.parquet"

    today = datetime(2026, 3, 31, 12, tzinfo=UTC)
    files = [(name(f"2026-03-{day}", day), 40) for day in (20, 29, 30, 31)]
    files += [("records/churn/date=2020-01-01/mine.parquet", 1000), ("records/churn/notes.txt", 1000)]
    assert recorder.outdated(files, today, 10, 1000) == [name("2026-03-20", 20)]
    assert recorder.outdated(files, today, 30, 100) == [name("2026-03-29", 29), name("2026-03-20", 20)]
    assert recorder.outdated(files, today, 90, 1000) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("records", 1.0, "", 90), "relative path"),
        (("s3://key:secret@bucket/x", 1.0, "", 90), "credentials"),
        (("", 0.5, "", 90), "share belongs to a recording"),
        (("", 1.0, "email", 90), "omit belongs to a recording"),
    ],
)
def test_a_recording_that_would_surprise_is_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(click.UsageError, match=message) as refused:
        deploy.recording_of(*given)
    assert "secret" not in refused.value.message
    assert deploy.recording_of("", 1.0, "", 90) is None
    assert deploy.recording_of("off", 1.0, "", 90).record == ""


@pytest.mark.parametrize(("target", "theirs"), [("azureml", "data collector"), ("databricks", "inference tables")])
def test_the_clouds_record_by_their_own_means(target: str, theirs: str) -> None:
    with pytest.raises(click.BadParameter, match=theirs):
        deploy.make_target(target, "churn", "", "azure.json", recording=Recording("/tmp/x", 1, [], 90))
