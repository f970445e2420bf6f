"""A test file that points MLflow elsewhere and changes the environment, for quick/test_conftest.py."""

import os

import mlflow


def test_it_leaves_things_behind() -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    mlflow.set_registry_uri("databricks-uc")
    os.environ["DATABRICKS_HOST"] = "https://example.com"
    os.environ["HOME"] = "/nowhere"
    del os.environ["PATH"]
