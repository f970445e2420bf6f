"""Data on Databricks: tables to upload, and what `data=` accepts there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pandas as pd
import pytest
from running import COLLECTION, Outcome, Store, datasets

# What the process of a Databricks task is: a Spark session, and the script run in it.
TASK = """
import sys
from pyspark.sql import SparkSession
folder, experiment, *others = sys.argv[1:]
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
         .config("spark.sql.warehouse.dir", folder + "/warehouse").getOrCreate())
spark.read.csv(folder + "/churn.csv", header=True, inferSchema=True).write.saveAsTable("spark_catalog.default.churn")
sys.path.insert(0, "{runner}")
from run_entry_point import run_entry_point
run_entry_point(experiment, "{train}", ["--data=spark_catalog.default.churn", "gaussian_nb"])
sys.path.insert(0, "{classification}")
from support.table import read_batches
batches = read_batches("spark_catalog.default.churn", batch_size=150, text_columns=("tenure",))
print("batches", [(len(batch), type(batch["tenure"].iloc[0]).__name__) for batch in batches])
from click import BadParameter
try:
    list(read_batches("spark_catalog.default.absent"))
except BadParameter as error:
    print("Error:", error.format_message())
"""


def task() -> str:
    code = TASK.replace("{runner}", str(COLLECTION / "on_databricks"))
    code = code.replace("{train}", str(COLLECTION / "classification" / "train.py"))
    return code.replace("{classification}", str(COLLECTION / "classification"))


@pytest.fixture(scope="module")
def table() -> ModuleType:
    """The module that reads tables."""
    spec = importlib.util.spec_from_file_location("table_of_examples", COLLECTION / "classification" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def uploads(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python on_databricks/tables.py` writes."""
    folder = tmp_path_factory.mktemp("uploads") / "new folder"
    outcome = store.run([sys.executable, str(COLLECTION / "on_databricks" / "tables.py"), str(folder)])
    assert outcome.code == 0, outcome.output
    return folder


def test_every_table_of_the_examples_is_written_as_csv_and_as_json_lines(uploads: Path) -> None:
    names = {"churn", "churn_training", "churn_validation", "customers", "new_customers", "clustering_new_customers"}
    assert {path.name for path in uploads.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("csv", "jsonl")}
    for path in [*COLLECTION.glob("*/data/*.csv"), *COLLECTION.glob("*/data/*.jsonl")]:
        assert any(path.read_bytes() == copy.read_bytes() for copy in uploads.iterdir()), path


def test_both_forms_hold_the_same_rows(uploads: Path, table: ModuleType) -> None:
    for lines in uploads.glob("*.jsonl"):
        assert all(isinstance(json.loads(line), dict) for line in lines.read_text(encoding="utf-8").splitlines())
        from_json, from_csv = table.read_table(str(lines)), table.read_table(str(lines.with_suffix(".csv")))
        pd.testing.assert_frame_equal(from_json, from_csv, check_dtype=False)


def test_a_path_of_a_volume_is_a_path(table: ModuleType) -> None:
    assert table.absolute("/Volumes/main/default/tables/churn.csv") == "/Volumes/main/default/tables/churn.csv"
    source = table.dataset_source("/Volumes/main/default/tables/churn.csv")
    assert source.to_dict() == {"uri": "/Volumes/main/default/tables/churn.csv"}


def test_dbfs_is_read_where_a_cluster_mounts_it(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "FileStore").mkdir()
    (tmp_path / "FileStore" / "two.csv").write_text("a,b\n1,2\n3,4\n")
    monkeypatch.setattr(table, "DBFS", tmp_path)
    for source in ("dbfs:/FileStore/two.csv", "dbfs:///FileStore/two.csv"):
        assert table.read_table(source)["b"].tolist() == [2, 4]
    assert table.dataset_source("dbfs:/FileStore/two.csv").to_dict() == {"path": "dbfs:/FileStore/two.csv"}


def test_dbfs_is_asked_of_mlflow_where_it_is_not_mounted(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(**arguments: Any) -> str:
        asked.update(arguments)
        (tmp_path / "two.csv").write_text("a,b\n1,2\n")
        return str(tmp_path / "two.csv")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    monkeypatch.setattr(table, "DBFS", tmp_path / "absent")
    assert len(table.read_table("dbfs:/FileStore/two.csv")) == 1
    assert asked["artifact_uri"] == "dbfs:/FileStore/two.csv"


@pytest.fixture(scope="module")
def catalog(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, str]:
    """A classifier trained on a table of Spark's catalog, in one process with a real session; experiment id."""
    folder = tmp_path_factory.mktemp("spark")
    lines = (COLLECTION / "classification" / "data" / "churn.csv").read_text().splitlines()
    (folder / "churn.csv").write_text("\n".join(lines[:401]))
    experiment = store.client.create_experiment("catalog")
    return store.run([sys.executable, "-c", task(), str(folder), experiment]), experiment


def test_a_model_is_trained_on_a_table_of_the_catalog_and_the_run_names_it(
    store: Store, catalog: tuple[Outcome, str]
) -> None:
    outcome, experiment = catalog
    assert outcome.code == 0, outcome.output
    (run,) = store.client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["data"] == "spark_catalog.default.churn"
    assert {dataset.name for dataset in datasets(run)} == {"churn_train", "churn_test"}
    for dataset in datasets(run):
        assert dataset.source_type == "spark"
        assert json.loads(dataset.source) == {"table_name": "spark_catalog.default.churn"}


def test_a_table_of_the_catalog_comes_in_batches_and_text_where_it_is_wanted(catalog: tuple[Outcome, str]) -> None:
    assert "batches [(150, 'str'), (150, 'str'), (100, 'str')]" in catalog[0].output


def test_a_table_that_is_not_in_the_catalog_is_refused_in_one_line(catalog: tuple[Outcome, str]) -> None:
    assert "'spark_catalog.default.absent' reads as the table catalog.schema.table, and Spark" in catalog[0].error
    assert "TABLE_OR_VIEW_NOT_FOUND" in catalog[0].error


def test_without_spark_a_table_of_the_catalog_is_refused_in_one_line(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with pytest.raises(click.BadParameter) as refused:
        table.read_table("main.default.churn")
    assert refused.value.format_message() == (
        "Invalid value for '--data': 'main.default.churn' reads as the table catalog.schema.table, and there is no "
        "Spark here to read it with: give a file."
    )


def test_a_file_with_two_dots_is_a_file(table: ModuleType) -> None:
    with pytest.raises(click.BadParameter, match="does not exist"):
        table.read_table("churn.of.csv")
