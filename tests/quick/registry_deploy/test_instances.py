"""What a model is asked is what stands in the file: no value is changed by a cast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from examples import module
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, Map, Object, Property

of: Any = module("registry_deploy", "instances")


def read(path: Path, *columns: ColSpec) -> pd.DataFrame:
    from support.table import open_table

    table = open_table(str(path))
    return of.instances(table, of.all_rows(table), Schema(list(columns)), None)


def test_every_type_of_a_signature(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "single": np.linspace(0, 1, 4).astype("float32"),
            "whole": np.arange(4) + 2**53,
            "when": pd.date_range("2026-01-01", periods=4),
            "list": [[1.0, 2.0]] * 4,
            "empty": pd.Series([None] * 4, dtype="Int64"),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    list_of = ColSpec(Array(DataType.double), "list")
    columns = [ColSpec("float", "single"), ColSpec("long", "whole"), ColSpec("datetime", "when"), list_of]
    X = read(tmp_path / "t.parquet", *columns, *(ColSpec("long", name, required=False) for name in ("absent", "empty")))
    assert X["single"].dtype == np.float32
    assert X["whole"].tolist() == table["whole"].tolist()
    assert X["when"].tolist() == table["when"].tolist()
    assert [each.tolist() for each in X["list"]] == table["list"].tolist()
    assert not {"absent", "empty"} & set(
        X
    )  # MLflow has no whole number that is missing, and takes a table without the column


def test_what_is_inside_lists_and_objects_has_the_types_of_the_signature(tmp_path: Path) -> None:
    """MLflow itself takes the rows: it refuses 1.5 as text, which is how a file has it."""
    rows = [
        {"o": {"a": 1.5, "n": 9007199254740993}, "m": {"k": 1.0}, "aa": [[1, 2], [3]], "flags": [True], "texts": ["x"]},
        {"o": {"a": 2, "n": 1, "more": 1}, "m": {}, "aa": [], "flags": [False, True], "texts": []},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns: list[Any] = [
        ColSpec(Object([Property("a", DataType.double), Property("n", DataType.long)]), "o"),
        ColSpec(Map(DataType.double), "m"),
        ColSpec(Array(Array(DataType.long)), "aa"),
        ColSpec(Array(DataType.boolean), "flags"),
        ColSpec(Array(DataType.string), "texts"),
    ]
    X = read(tmp_path / "t.jsonl", *columns)
    taken = _enforce_schema(X, Schema(columns))
    assert taken["o"].tolist() == [{"a": 1.5, "n": 9007199254740993}, {"a": 2.0, "n": 1}]
    assert [[list(each) for each in cell] for cell in taken["aa"]] == [[[1, 2], [3]], []]
    assert [list(cell) for cell in taken["flags"]] == [[True], [False, True]]


@pytest.mark.parametrize(
    ("cells", "type_name", "message"),
    [
        ("1\n2.7", "long", "'2.7' in column 'a', row 2, is no long: the model takes whole numbers."),
        ("3000000000\n2", "integer", "'3000000000' in column 'a', row 1, is no integer: it is too large."),
        ("16777217\n1", "float", "row 1, is too large for the float32"),
        ("2026-13-01\n2026-01-01", "datetime", "'2026-13-01' in column 'a', row 1, is no datetime"),
        ("9999-12-31\n2026-01-01", "datetime", "'9999-12-31' in column 'a', row 1, is no datetime"),
        ("1\n ", "long", "'' in column 'a', row 2, is no long: it is missing, and whole numbers cannot be"),
        ("1\nx", "double", "'x' in column 'a', row 2, is not a (finite) number"),
    ],
)
def test_a_value_that_a_cast_would_change_is_refused_with_its_row(
    cells: str, type_name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"a\n{cells}\n")
    with pytest.raises(click.BadParameter) as caught:
        read(tmp_path / "t.csv", ColSpec(type_name, "a"))
    assert message in caught.value.message


def test_large_whole_numbers_keep_every_digit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n9007199254740993\n2\n")
    assert read(tmp_path / "t.csv", ColSpec("long", "a"))["a"].tolist() == [9007199254740993, 2]


def test_times_with_a_zone_are_read_in_utc(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n2026-01-01T01:00:00+01:00\n2026-01-01T00:00:00Z\n2026-01-01\n")
    X = read(tmp_path / "t.csv", ColSpec("datetime", "a"))
    assert X["a"].tolist() == [pd.Timestamp("2026-01-01")] * 3
    assert X["a"].dtype == "datetime64[ns]"


def test_a_whole_number_that_float32_holds_is_taken_however_large(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n50000000\n\n0.1\n")
    assert read(tmp_path / "t.csv", ColSpec("float", "a"))["a"].iloc[0] == 50_000_000
