"""Spark reads a table as the local engine does, to the last digit, or says in one line that only that one reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fork_server import forks
from quick.tables.made import TABLES
from running import COLLECTION, Store

from support.inputs import to_frame
from support.kinds import decide, to_metadata
from support.table import open_table

SAME = [
    "a decimal comma and thousands",
    "three digits after a comma among semicolons",
    "dollars with thousands",
    "codes, sorted, that end in letters",
    "true, false and missing",
    "an index without a name",
    "names with characters that nobody sees",
    "dates of MySQL that are none",
    "Parquet, categories of numbers",
    "JSON Lines, long numbers and null",
    "JSON of pandas, records",
    "JSON over several lines",
]
REFUSED = {
    "a question mark among numbers": "'?' in column 'x', is no number",
    "a row that is short": "Take engine=local",
    "text behind a quote": "quotes at their edges",
    "tildes": "separates the cells (a guess). Take engine=local",
    "numbers in single quotes": "with quotes, hidden characters",
    "latin-1": "not UTF-8. Take engine=local",
    "Excel": "does not read: take engine=local",
    "JSON of pandas": "does not read: take engine=local",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    files = {}
    for number, name in enumerate([*SAME, *REFUSED]):
        files[name] = folder / str(number) / TABLES[name].name
        files[name].parent.mkdir()
        files[name].write_bytes(TABLES[name].content)
    return files


@pytest.fixture(scope="module")
def on_spark(files: dict[str, Path], store: Store) -> dict[str, Any]:
    """What Spark makes of each file, in one process with one Spark."""
    asked = json.dumps([[str(path), TABLES[name].given] for name, path in files.items()])
    program = Path(__file__).parent / "programs" / "read_on_spark.py"
    python, folder = f"{forks()}/python", COLLECTION / "clustering"
    done = subprocess.run(
        [python, str(program)], cwd=folder, env=store.environment, input=asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(files, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", SAME)
def test_the_columns_and_all_values_are_those_of_the_local_engine(
    name: str, files: dict[str, Path], on_spark: dict[str, Any]
) -> None:
    table = open_table(str(files[name]))
    kinds = decide(table, **TABLES[name].given)
    rows = to_frame(table, kinds).astype(object).map(str).to_numpy().tolist()
    decided, found = on_spark[name]
    assert decided == json.loads(json.dumps(to_metadata(kinds)))
    assert found == rows


@pytest.mark.parametrize("name", REFUSED)
def test_what_spark_would_read_otherwise_is_refused_in_one_line(name: str, on_spark: dict[str, Any]) -> None:
    line = on_spark[name]
    assert isinstance(line, str)
    assert "\n" not in line
    assert REFUSED[name] in line
    assert ", row " not in line  # here rows have no number
