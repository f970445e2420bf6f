"""A test file that asks for nothing and finds its worker's store, for quick/test_conftest.py."""

import os
from pathlib import Path

import mlflow


def test_it_begins_with_the_store_of_the_worker(store_folder: Path) -> None:
    assert mlflow.get_tracking_uri() == f"sqlite:///{store_folder / 'mlflow.db'}"
    assert mlflow.get_registry_uri() == mlflow.get_tracking_uri()


def test_it_begins_with_the_environment_as_it_was() -> None:
    assert "DATABRICKS_HOST" not in os.environ
    assert os.environ["HOME"] != "/nowhere"
    assert os.environ["PATH"]
