"""Each made table leads to the right columns, or to one line that helps; training and prediction read it alike."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.types import ColSpec, DataType, Schema
from quick.tables.made import TABLES, Made

from support.inputs import kinds_of, model_inputs, to_frame
from support.kinds import Kind, decide, to_metadata
from support.table import OpenedTable, open_table
from support.table_writer import TableWriter

READ = [name for name, made in TABLES.items() if not made.refused]
REFUSED = [name for name, made in TABLES.items() if made.refused]


def opened(made: Made, folder: Path) -> OpenedTable:
    path = folder / made.name
    path.write_bytes(made.content)
    return open_table(str(path))


def written(kind: Kind) -> str:
    """A kind in the short form of `Made.kinds`."""
    marks = [kind.decimal if (kind.decimal, kind.thousands) != (".", "") else "", kind.thousands.replace(" ", "_")]
    return " ".join(filter(None, [kind.kind, *marks, kind.currency, "%" if kind.percent else ""]))


@pytest.mark.parametrize("name", READ)
def test_the_kinds_of_the_columns_are_those_of_the_values(name: str, tmp_path: Path) -> None:
    made = TABLES[name]
    table = opened(made, tmp_path)
    kinds = decide(table, **made.given)
    assert {column: written(kind) for column, kind in kinds.items()} == made.kinds
    for words in made.said:
        assert any(words.lower() in note.lower() for note in table.notes), (words, table.notes)
    assert len(table.notes) == len(made.said), table.notes
    if made.first:
        assert tuple(to_frame(table, kinds).iloc[0]) == made.first


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line_that_helps(name: str, tmp_path: Path) -> None:
    made = TABLES[name]
    with pytest.raises(click.BadParameter) as refusal:
        decide(opened(made, tmp_path), **made.given)
    line = refusal.value.format_message()
    assert "\n" not in line
    for words in made.refused:
        assert words in line


@pytest.mark.parametrize("name", READ)
def test_prediction_reads_the_training_table_as_training_did(name: str, tmp_path: Path) -> None:
    made = TABLES[name]
    table = opened(made, tmp_path)
    kinds = decide(table, **made.given)
    frame = to_frame(table, kinds)
    types = {"number": DataType.double, "boolean": DataType.boolean}
    schema = Schema([ColSpec(types.get(kind.kind, DataType.string), column) for column, kind in kinds.items()])
    stored = kinds_of({"kinds": to_metadata(kinds)}, schema)
    again = opened(made, tmp_path)
    parts, row = [], 1
    for batch in again.batches(7):
        parts.append(model_inputs(batch, schema, stored, first_row=row))
        row += len(batch)
    read = pd.concat(parts, ignore_index=True)
    for column in kinds:  # true and false of a batch without missing ones are bool, and objects with some
        pd.testing.assert_series_equal(read[column], frame[column], check_dtype=kinds[column].kind != "boolean")


@pytest.mark.parametrize("name", [name for name in READ if TABLES[name].name == "table.csv"])
def test_cells_leave_as_they_came(name: str, tmp_path: Path) -> None:
    table = opened(TABLES[name], tmp_path)
    output = tmp_path / "output.csv"
    with TableWriter(output) as writer:
        for batch in table.batches(7):
            writer.write(batch, pd.DataFrame({"prediction": ["yes"] * len(batch)}))
    header, *rows = csv.reader(io.StringIO(output.read_text(encoding="utf-8"), newline=""))
    assert header == [*table.names, "prediction"]
    cells = pa.concat_tables(opened(TABLES[name], tmp_path).batches()).to_pylist()
    assert [row[:-1] for row in rows] == [list(row.values()) for row in cells]
