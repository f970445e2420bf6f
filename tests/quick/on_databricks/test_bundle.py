"""The bundle: generated from the MLproject files by Databricks's own classes; a task is what MLflow would run."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import yaml
from examples import COLLECTION, module

bundle = module("on_databricks", "bundle")
TARGETS = ("serverless", "cluster", "prod")


def entry_points(example: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))
    return dict(found["entry_points"])


@cache
def file(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((COLLECTION / name).read_text(encoding="utf-8")))


def job(example: str, target: str = "serverless") -> dict[str, Any]:
    """The job as the command line of Databricks joins it for a target: tasks by their key, the rest by name."""
    said = file(f"on_databricks/resources/{example}.job.yml")
    base, added = said["resources"]["jobs"][example], said["targets"][target]["resources"]["jobs"][example]
    more = {task["task_key"]: task for task in added["tasks"]}
    tasks = [{**task, **more.pop(task["task_key"], {})} for task in base["tasks"]]
    assert not more, "the target adds to tasks that the job does not have"
    return {**base, **added, "tasks": tasks}


def tasks(example: str, target: str = "serverless") -> dict[str, dict[str, Any]]:
    return {task["task_key"]: task for task in job(example, target)["tasks"]}


def test_what_is_committed_is_what_is_generated() -> None:
    for example in bundle.EXAMPLES:
        path = bundle.RESOURCES / f"{example}.job.yml"
        assert path.read_text(encoding="utf-8") == bundle.generated(example), "run python on_databricks/bundle.py"


def test_registered_models_have_three_levels_throughout() -> None:
    defaults = {each["name"]: each["default"] for each in job("registry_deploy")["parameters"]}
    models = {text for text in defaults.values() if "models:/" in text}
    assert models
    assert all(text.startswith("models:/${var.catalog}.${var.schema}.") for text in models)
    assert defaults["name"].startswith("${var.catalog}.${var.schema}.")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("example", bundle.EXAMPLES)
def test_every_task_has_a_file_a_condition_and_a_machine_with_the_requirements(example: str, target: str) -> None:
    whole, folder = job(example, target), COLLECTION / "on_databricks" / "resources"
    run = {key: task for key, task in tasks(example, target).items() if "spark_python_task" in task}
    assert set(run) == {*entry_points(example), "unknown_entry_point"}
    requirements = (COLLECTION / example / "requirements.txt").resolve()
    for key, task in run.items():
        assert (folder / task["spark_python_task"]["python_file"]).is_file(), key
        if target == "cluster":
            assert task["job_cluster_key"] == whole["job_clusters"][0]["job_cluster_key"]
            listed = task["libraries"][0]["requirements"]
        else:
            [environment] = whole["environments"]
            assert task["environment_key"] == environment["environment_key"]
            assert environment["spec"]["environment_version"] == "5"
            listed = environment["spec"]["dependencies"][0].removeprefix("-r ")
        assert (folder / listed).resolve() == requirements


@pytest.mark.parametrize("example", bundle.EXAMPLES)
def test_a_task_without_choices_is_the_command_that_mlflow_would_run(example: str) -> None:
    defaults = {each["name"]: each["default"] for each in job(example)["parameters"]}
    for name, entry_point in entry_points(example).items():
        _, _, script, *words = tasks(example)[name]["spark_python_task"]["parameters"]
        assert script == "${workspace.file_path}/" + f"{example}/{entry_point['command'].split()[1]}"
        said = entry_point.get("parameters") or {}
        given = {word.split("=")[0].removeprefix("--"): word for word in words if "{{job.parameters." in word}
        assert given.keys() == said.keys()
        for parameter, word in given.items():
            [reference] = re.findall(r"\{\{job\.parameters\.(\w+)\}\}", word)
            if "default" in said[parameter]:
                wanted = bundle.with_place(parameter, str(said[parameter]["default"]))
                assert defaults[reference] == wanted, (name, parameter)


def test_a_number_that_is_text_stays_text_in_every_reader() -> None:
    assert 'default: "1e-09"' in bundle.generated("classification")


def test_entry_points_with_other_defaults_have_job_parameters_of_their_own() -> None:
    points = {
        "tree": {"parameters": {"depth": {"default": 5}, "seed": {"default": 0}}},
        "forest": {"parameters": {"depth": {"default": 8}, "seed": {"default": 0}, "data": "string"}},
    }
    defaults, names = bundle.job_parameters(points)
    assert defaults == {
        **{"entry_point": "main", "experiment_id": "", "depth": "5", "seed": "0"},
        **{"forest_depth": "8", "data": ""},
    }
    assert names["forest"] == {"depth": "forest_depth", "seed": "seed", "data": "data"}
