"""What one file alone does not show: batches, other forms of new instances, Parquet's index, names."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.types import ColSpec, DataType, Schema

import support.text_file
from support.inputs import kinds_of, model_inputs, to_frame
from support.kinds import Kind, decide, to_metadata
from support.names import free_names, pick_names
from support.table import open_table
from support.table_writer import TableWriter
from support.texts import in_markdown, metric_names, on_picture, shown


def test_a_column_is_decided_from_all_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support.text_file, "BLOCK", 1000)
    path = tmp_path / "table.csv"
    codes = [f"{101 + row // 20},{row}" for row in range(300)] + [f"K{row % 9},{row}" for row in range(90)]
    path.write_text("branch,left\n" + "\n".join(codes) + "\n", encoding="utf-8")
    table = open_table(str(path))
    kinds = decide(table)
    assert kinds["branch"].kind == "category"
    assert to_frame(table, kinds)["branch"].iloc[[0, -1]].tolist() == ["101", "K8"]
    identifiers = [f"{row * 1009},{row}" for row in range(300)]
    path.write_text("branch,left\n" + "\n".join(identifiers + identifiers) + "\n", encoding="utf-8")
    assert decide(open_table(str(path)))["left"].kind == "number"  # each stands in two batches


def test_numbers_of_json_have_one_way_to_be_written(tmp_path: Path) -> None:
    training, new = tmp_path / "training.csv", tmp_path / "new.jsonl"
    training.write_text("price;left\n" + "".join(f"{row},5;{row % 2}\n" for row in range(30)), encoding="utf-8")
    new.write_text('{"price": 12.5}\n{"price": null}\n', encoding="utf-8")
    schema = Schema([ColSpec(DataType.double, "price")])
    kinds = kinds_of({"kinds": to_metadata(decide(open_table(str(training))))}, schema)
    [batch] = open_table(str(new)).batches()
    assert model_inputs(batch, schema, kinds)["price"].iloc[0] == 12.5
    new.write_text('{"price": "12.5"}\n', encoding="utf-8")
    [batch] = open_table(str(new)).batches()
    with pytest.raises(click.BadParameter, match=r"'12\.5' in column 'price', row 1, .* written as in training"):
        model_inputs(batch, schema, kinds)


def test_a_column_that_may_be_missing_and_is_absent_or_renamed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("power in hp,weight\n100,2.5\n", encoding="utf-8")
    schema = Schema([ColSpec("double", "power", required=False), ColSpec("double", "weight", required=False)])
    for metadata in ({}, {"kinds": to_metadata({name: Kind("number") for name in ("power", "weight")})}):
        table = open_table(str(path))
        kinds_of(metadata, schema, table)
        assert table.notes == ["There is no column 'power': its values are taken as missing."]


def test_a_model_that_learned_categories_with_outer_spaces_is_refused() -> None:
    schema = Schema([ColSpec("string", "town")])
    assert kinds_of({"categories": {"town": ["Nice", "Paris"]}}, schema)["town"].kind == "category"
    with pytest.raises(click.UsageError, match=r"it knows 'Nice ' in column 'town'\. Train it again\."):
        kinds_of({"categories": {"town": ["Nice ", "Paris"]}}, schema)


def test_a_model_without_a_decision_reads_numbers_as_the_file_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("price;n;zip\n1.234,5;3;00042\n2,5;4;7\n", encoding="utf-8")
    schema = Schema([ColSpec("double", "price"), ColSpec("long", "n"), ColSpec("string", "zip")])
    table = open_table(str(path))
    [batch] = table.batches()
    X = model_inputs(batch, schema, kinds_of({}, schema, table))
    assert X.to_dict("list") == {"price": [1234.5, 2.5], "n": [3, 4], "zip": ["00042", "7"]}
    assert X["n"].dtype == "int64"


def test_a_parquet_file_keeps_its_index_and_types(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, 2], "day": pd.to_datetime(["2024-01-01", "2024-01-02"])}, index=["00042", "7"])
    frame.rename_axis("customer").to_parquet(tmp_path / "in.parquet")
    with TableWriter(tmp_path / "out.parquet") as writer:
        for batch in open_table(str(tmp_path / "in.parquet")).batches(1):
            writer.write(batch, pd.DataFrame({"prediction": ["yes"]}))
    written = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(written.drop(columns="prediction"), frame.rename_axis("customer"))


def test_rows_before_one_that_is_longer_than_a_block_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support.text_file, "BLOCK", 1000)
    rows = [[str(row), "x" * 3000 if row == 200 else "y"] for row in range(400)]
    path = tmp_path / "table.csv"
    path.write_text("n,t\n" + "".join(f"{n},{t}\n" for n, t in rows), encoding="utf-8")
    read = pa.concat_tables(open_table(str(path)).batches(), promote_options="default")
    assert [list(row.values()) for row in read.to_pylist()] == rows


def test_a_cell_to_quote_below_many_that_need_no_quotes_spoils_no_other(tmp_path: Path) -> None:
    cells = [str(row) for row in range(50_000)] + ["a, b"]
    with TableWriter(tmp_path / "out.csv") as writer:
        writer.write(pd.DataFrame({"x": cells, "left": "yes"}))
    assert (tmp_path / "out.csv").read_bytes().count(b"\0") == 0
    assert pd.read_csv(tmp_path / "out.csv")["x"].tolist() == cells


def test_names_with_commas_and_blanks_can_be_given() -> None:
    have = ["age, years", "spend ", "left"]
    assert pick_names("drop", '["age, years"]', have) == ["age, years"]
    assert pick_names("drop", "spend, left", have) == ["spend ", "left"]
    assert pick_names("target", ["age, years"], have) == ["age, years"]
    assert pick_names("target", "age", ["\ufeffage", "ages"]) == ["\ufeffage"], "what looks like it is meant"
    with pytest.raises(click.BadParameter, match="'age' is not a column of the table"):
        pick_names("drop", "age, years", ["age in years"])


def test_a_taken_name_stays_the_users() -> None:
    assert free_names(["prediction", "p"], ["prediction", "prediction_2"]) == {"prediction": "prediction_3", "p": "p"}


def test_texts_are_escaped_where_they_mean_something() -> None:
    assert metric_names(["24/7/", "A+", "A*"], "recall_") == ["recall_24_7_", "recall_A_", "recall_A_ 2"]
    assert on_picture("$5 (10%) - $10") == r"\$5 (10%) - \$10"
    assert len(on_picture("x" * 100)) == 40
    assert in_markdown("a|b monthly_charges") == r"a\|b monthly_charges"
    assert [shown(value) for value in ("a", 9.0, pd.Series([9]).iloc[0], 0.5)] == ["'a'", "9", "9", "0.5"]


def test_objects_of_json_keep_their_numbers_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"x": 1, "beside": {"price": 1.50, "sizes": [1, null, "é"]}}\n', encoding="utf-8")
    [batch] = open_table(str(path)).batches()
    assert batch["beside"].to_pylist() == ['{"price": 1.50, "sizes": [1, null, "é"]}']


def test_pandas_reads_predictions_beside_columns_whose_names_were_numbers(tmp_path: Path) -> None:
    new, output = tmp_path / "new.parquet", tmp_path / "out.parquet"
    pd.DataFrame({0: [1, 2], 1: ["a", "b"]}, index=pd.Index([7, 9], name="customer")).to_parquet(new)
    with TableWriter(output) as writer:
        for batch in open_table(str(new)).batches():
            writer.write(batch, pd.DataFrame({"prediction": ["yes", "no"]}))
    written = pd.read_parquet(output)
    assert list(written) == ["0", "1", "prediction"]
    assert written.index.tolist() == [7, 9]
