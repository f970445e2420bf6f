"""Without PySpark or Java, engine=spark says what to install; nothing else loads them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import click
import pytest
from examples import COLLECTION

from support.on_spark import spark_session


def refusal() -> str:
    with pytest.raises(click.BadParameter) as caught:
        spark_session()
    return caught.value.format_message()


LINE = (
    "Invalid value for '--engine': 'spark' needs PySpark: install this project's requirements-spark.txt; it needs "
    "Java 17."
)


def test_without_pyspark_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    assert refusal() == LINE


def test_without_java_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert refusal() == LINE


def test_what_takes_seconds_to_load_is_imported_by_the_functions_that_need_it() -> None:
    """No example loads PySpark, or the network and its TensorFlow, when it starts."""
    paths = [path for project in COLLECTION.glob("*/MLproject") for path in project.parent.glob("**/*.py")]
    for path in paths:
        if path.name == "ann.py" or {"mlruns", "on_databricks"} & set(path.parts):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {"pyspark", "tensorflow", "keras", "ann"}, path
