"""The tables to upload: every table of the examples, as CSV and as JSON Lines, with the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from examples import COLLECTION, module

tables = module("on_databricks", "tables")


def test_every_table_of_the_examples_is_written_in_both_forms_with_the_same_rows(tmp_path: Path) -> None:
    tables.write_tables(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    names = {"churn", "churn_training", "churn_validation", "customers", "new_customers", "clustering_new_customers"}
    assert {f"{name}.{kind}" for name in names for kind in ("csv", "jsonl")} <= written
    for path in [*COLLECTION.glob("*/data/*.csv"), *COLLECTION.glob("*/data/*.jsonl")]:
        assert any(path.read_bytes() == copy.read_bytes() for copy in tmp_path.iterdir()), path
    for lines in tmp_path.glob("*.jsonl"):
        text = lines.read_text(encoding="utf-8")
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
        from_json = pd.read_json(lines, lines=True, dtype=False, convert_dates=False)
        from_csv = pd.read_csv(lines.with_suffix(".csv"))
        assert list(from_json.columns) == list(from_csv.columns)
        assert len(from_json) == len(from_csv)
