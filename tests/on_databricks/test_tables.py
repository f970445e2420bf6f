"""A table of Spark's catalog as `data`, in a process with a real Spark session."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from running import COLLECTION, Store, datasets

PROGRAM = COLLECTION / "tests" / "programs" / "catalog_task.py"


def test_a_model_is_trained_on_a_table_of_the_catalog_and_the_run_names_it(store: Store, tmp_path: Path) -> None:
    lines = (COLLECTION / "classification" / "data" / "churn.csv").read_text().splitlines()
    (tmp_path / "churn.csv").write_text("\n".join(lines[:401]))
    experiment = store.client.create_experiment("catalog")
    outcome = store.run([sys.executable, str(PROGRAM), str(tmp_path), experiment])
    assert outcome.code == 0, outcome.output
    (run,) = store.client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["data"] == "spark_catalog.default.churn"
    assert {dataset.name for dataset in datasets(run)} == {"churn_train", "churn_test"}
    for dataset in datasets(run):
        assert dataset.source_type == "spark"
        assert json.loads(dataset.source) == {"table_name": "spark_catalog.default.churn"}
