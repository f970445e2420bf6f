"""The twin that MLflow's own Databricks backend runs, and which projects have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from examples import COLLECTION, module
from mlflow.projects.utils import load_project

stage = module("on_databricks", "stage")
EXAMPLES = sorted(path.parent.name for path in COLLECTION.glob("*/cluster.json"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_a_twin_that_mlflow_accepts(name: str, tmp_path: Path) -> None:
    stage.stage.callback(COLLECTION / name, tmp_path / "twin")
    stage.stage.callback(COLLECTION / name, tmp_path / "twin")  # an earlier twin is replaced
    project = load_project(str(tmp_path / "twin"))
    cluster = json.loads((COLLECTION / name / "cluster.json").read_text(encoding="utf-8"))
    packages = [library["pypi"]["package"] for library in cluster["libraries"]]
    assert project.databricks_spark_job_spec.python_libraries == packages
    flat = json.loads((tmp_path / "twin" / "cluster.json").read_text())  # as MLflow wants it
    assert flat == cluster["new_cluster"]
    said = yaml.safe_load((COLLECTION / name / "MLproject").read_text(encoding="utf-8"))
    for entry_point, description in said["entry_points"].items():
        command = project.get_entry_point(entry_point).command
        assert command == "python run_entry_point.py twin " + " ".join(description["command"].split()[1:])
    assert list((tmp_path / "twin" / "support").glob("*.py")), "what the example imports comes with it"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"docker_env": {}, "entry_points": {"main": {"command": "python a.py"}}}, "has docker_env"),
    ({"databricks_spark_job": {}}, "has databricks_spark_job"),
    ({"entry_points": {}}, "has no entry points"),
    ({"entry_points": {"main": {"command": "bash run.sh"}}}, "must be `python FILE ...`"),
    ({"entry_points": {"main": {"command": "python a.py > log"}}}, "has no shell"),
]


@pytest.mark.parametrize(("project", "line"), REFUSED)
def test_a_project_that_has_no_twin_is_refused(project: dict[str, Any], line: str) -> None:
    with pytest.raises(click.ClickException, match=line):
        stage.twin_of(project, [])


def test_a_path_becomes_text() -> None:
    point = {"command": "python a.py {x} {y}", "parameters": {"x": "path", "y": {"type": "path", "default": "b"}}}
    twin = stage.twin_of({"conda_env": "conda.yaml", "entry_points": {"main": point}}, ["skops==0.16.0"])
    assert twin["entry_points"]["main"]["parameters"] == {
        "x": {"type": "string"},
        "y": {"type": "string", "default": "b"},
    }
    assert "conda_env" not in twin
    assert twin["databricks_spark_job"] == {"python_libraries": ["skops==0.16.0"]}


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(click.ClickException, match="is not empty and holds no twin"):
        stage.stage.callback(COLLECTION / "clustering", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
