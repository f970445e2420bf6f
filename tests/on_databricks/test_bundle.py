"""The bundle: generated from the MLproject files, accepted by Databricks's own classes, and its tasks run."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.experiments import MlflowExperiment
from databricks.bundles.jobs import Job
from running import COLLECTION, Outcome, Store

EXAMPLES = sorted(path.parent.name for path in COLLECTION.glob("*/MLproject"))
TARGETS = ("serverless", "cluster")


def entry_points(example: str) -> dict[str, Any]:
    return yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))["entry_points"]


@cache
def job_file(example: str) -> dict[str, Any]:
    path = COLLECTION / "on_databricks" / "resources" / f"{example}.job.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def job(example: str, target: str = "serverless") -> dict[str, Any]:
    """The job as the command line of Databricks joins it for a target: tasks by their key, the rest by name."""
    file = job_file(example)
    base = file["resources"]["jobs"][example]
    added = file["targets"][target]["resources"]["jobs"][example]
    more = {task["task_key"]: task for task in added["tasks"]}
    tasks = [{**task, **more.pop(task["task_key"], {})} for task in base["tasks"]]
    assert not more, "the target adds to tasks that the job does not have"
    return {**base, **added, "tasks": tasks}


def tasks(example: str, target: str = "serverless") -> dict[str, dict[str, Any]]:
    return {task["task_key"]: task for task in job(example, target)["tasks"]}


def command(example: str, task: str, parameters: dict[str, str], experiment_id: str = "") -> list[str]:
    """The process that Databricks starts for a task, with the job's defaults and what the user gave."""
    values = {parameter["name"]: parameter["default"] for parameter in job(example)["parameters"]}
    assert set(parameters) <= set(values)
    values |= {"experiment_id": experiment_id} | parameters
    run = tasks(example)[task]["spark_python_task"]
    script = COLLECTION / "on_databricks" / "resources" / run["python_file"]
    words = [re.sub(r"\{\{job\.parameters\.(\w+)\}\}", lambda found: values[found[1]], w) for w in run["parameters"]]
    return [sys.executable, str(script), *(word.replace("${workspace.file_path}", str(COLLECTION)) for word in words)]


def test_generating_it_again_changes_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, COLLECTION / "on_databricks" / "bundle.py", tmp_path], check=True)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.yml"))
    assert len(files) == 1 + len(EXAMPLES)
    for file in files:
        kept = COLLECTION / file
        assert (tmp_path / file).read_bytes() == kept.read_bytes(), "run python on_databricks/bundle.py"


def test_the_bundle_includes_every_example_and_both_targets() -> None:
    bundle = yaml.safe_load((COLLECTION / "databricks.yml").read_text(encoding="utf-8"))
    assert bundle["include"] == [f"on_databricks/resources/{example}.job.yml" for example in EXAMPLES]
    assert set(bundle["targets"]) == set(TARGETS)
    for example in EXAMPLES:
        text = (COLLECTION / "on_databricks" / "resources" / f"{example}.job.yml").read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{var\.(\w+)\}", text)) <= set(bundle["variables"])
        assert "dbfs:" not in text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_databricks_own_classes_accept_the_job(example: str, target: str) -> None:
    accepted = Job.from_dict(job(example, target))  # type: ignore[arg-type]
    parameters: list[dict[str, str]] = accepted.as_dict()["parameters"]  # type: ignore[assignment]
    names = [parameter["name"] for parameter in parameters]
    assert len(names) == len(set(names))
    MlflowExperiment.from_dict(job_file(example)["resources"]["experiments"][example])


def test_databricks_own_classes_refuse_a_field_that_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="python_fil"):
        Job.from_dict({"tasks": [{"task_key": "a", "spark_python_task": {"python_fil": "x"}}]})  # type: ignore[list-item]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_task_has_a_file_a_condition_and_a_machine_with_the_requirements(example: str, target: str) -> None:
    whole, folder = job(example, target), COLLECTION / "on_databricks" / "resources"
    run = {key: task for key, task in tasks(example, target).items() if "spark_python_task" in task}
    assert set(run) == {*entry_points(example), "unknown_entry_point"}
    requirements = (COLLECTION / example / "requirements.txt").resolve()
    for key, task in run.items():
        assert (folder / task["spark_python_task"]["python_file"]).is_file(), key
        assert {needed["task_key"] for needed in task["depends_on"]} <= set(tasks(example))
        if target == "serverless":
            (environment,) = whole["environments"]
            assert task["environment_key"] == environment["environment_key"]
            (dependency,) = environment["spec"]["dependencies"]
            listed = dependency.removeprefix("-r ")
        else:
            assert task["job_cluster_key"] == whole["job_clusters"][0]["job_cluster_key"]
            (library,) = task["libraries"]
            listed = library["requirements"]
        assert (folder / listed).resolve() == requirements


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_task_without_choices_is_the_command_that_mlflow_would_run(example: str) -> None:
    for name, entry_point in entry_points(example).items():
        expected = entry_point["command"].split()[1:]
        words = command(example, name, {}, "7")
        assert words[2] == "7"
        assert words[3] == str(COLLECTION / example / expected[0])
        given = dict(word.removeprefix("--").split("=", 1) for word in words[4:] if word.startswith("--"))
        parameters = entry_point.get("parameters", {})
        assert given == {parameter: str(value.get("default", "")) for parameter, value in parameters.items()}, name
        assert [word for word in words[4:] if not word.startswith("--")] == [
            word for word in expected[1:] if not word.startswith(("--", "{"))
        ]


def test_one_entry_point_runs_and_by_default_it_is_main() -> None:
    defaults = {parameter["name"]: parameter["default"] for parameter in job("classification")["parameters"]}
    assert defaults["entry_point"] == "main"
    all_tasks = tasks("classification")
    for name in entry_points("classification"):
        condition = all_tasks[f"is_{name}"]["condition_task"]
        assert condition == {"left": "{{job.parameters.entry_point}}", "op": "EQUAL_TO", "right": name}
        assert all_tasks[name]["depends_on"] == [{"task_key": f"is_{name}", "outcome": "true"}]
    none = {(needed["task_key"], needed["outcome"]) for needed in all_tasks["unknown_entry_point"]["depends_on"]}
    assert none == {(f"is_{name}", "false") for name in entry_points("classification")}


def test_an_unknown_entry_point_fails_the_job_with_one_line(store: Store) -> None:
    outcome = store.run(command("clustering", "unknown_entry_point", {"entry_point": "kmean"}))
    assert outcome.code == 1
    assert outcome.error == "'kmean' is no value of entry_point; choose from: main, kmeans, predict."


def test_entry_points_with_other_defaults_have_job_parameters_of_their_own() -> None:
    words = command("classification", "random_forest", {"max_depth": "1", "random_forest_max_depth": "3"})
    assert "--max_depth=3" in words
    assert "random_forest_max_depth" in tasks("classification")["random_forest"]["description"]


@pytest.fixture(scope="module")
def segments(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, str]:
    """The task `main` of clustering as a process, on a table whose columns and path hold spaces; experiment id."""
    experiment = store.client.create_experiment("bundle")
    table = tmp_path_factory.mktemp("with space") / "some customers.csv"
    text = (COLLECTION / "clustering" / "data" / "customers.csv").read_text()
    table.write_text("\n".join(text.replace("monthly_charges", "monthly charges", 1).splitlines()[:400]))
    chosen = {"data": str(table), "columns": "tenure,monthly charges", "k_max": "3", "n_init": "1"}
    return store.run(command("clustering", "main", chosen, experiment)), experiment


def test_a_task_runs_in_the_experiment_of_the_bundle(store: Store, segments: tuple[Outcome, str]) -> None:
    outcome, experiment = segments
    assert outcome.code == 0, outcome.output
    parent = store.client.search_runs([experiment], "attributes.status = 'FINISHED'", order_by=["start_time ASC"])[0]
    assert parent.data.params["k_max"] == "3"
    assert parent.data.params["columns"] == "tenure,monthly charges"
    assert len(store.children(parent)) == 2


def test_a_refused_value_fails_the_task(store: Store) -> None:
    outcome = store.run(command("classification", "knn", {"n_neighbors": "many"}))
    assert outcome.code == 2
    assert "n_neighbors" in outcome.error


def test_a_classifier_is_trained_by_its_task(store: Store) -> None:
    experiment = store.client.create_experiment("bundle_knn")
    outcome = store.run(command("classification", "knn", {"n_neighbors": "5"}, experiment))
    assert outcome.code == 0, outcome.output
    (run,) = store.client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["n_neighbors"] == "5"
    assert "roc_auc" in run.data.metrics
