"""What Databricks refuses in the description of a job, and how it reads conditions and references to parameters."""

from __future__ import annotations

import re
from typing import Any

from answers import Refusal

KINDS = ("spark_python_task", "notebook_task", "condition_task")
PLACES = ("dbfs:/", "/Volumes/", "/Workspace/", "/Users/", "/Shared/")
SUPPORTED = (14, 15, 16, 17, 18, 19)
RUNTIME = re.compile(r"(?P<major>\d+)\.(\d+|x)(\.x)?(-[a-z]+)*-scala2\.1[123]")
RUNTIMES = {
    "19.0.x-scala2.13": "19.0 (Apache Spark 4.2.0)",
    "18.0.x-scala2.13": "18 LTS (Apache Spark 4.1.0)",
    "17.3.x-scala2.13": "17.3 LTS (Apache Spark 4.0.0)",
    "17.3.x-cpu-ml-scala2.13": "17.3 LTS ML (Apache Spark 4.0.0)",
    "16.4.x-scala2.12": "16.4 LTS",
    "15.4.x-scala2.12": "15.4 LTS",
    "14.3.x-scala2.12": "14.3 LTS",
}
# A cluster that is there already, for `existing_cluster_id`.
CLUSTERS = {"0101-120000-local001": {"cluster_name": "local", "spark_version": "17.3.x-cpu-ml-scala2.13"}}
CONDITIONS = {
    "EQUAL_TO": lambda left, right: left == right,
    "NOT_EQUAL": lambda left, right: left != right,
}


def check_tasks(settings: dict[str, Any]) -> None:
    """Refuse a job that Databricks, or this workspace, cannot run.

    Raises Refusal (INVALID_PARAMETER_VALUE).
    """
    tasks = settings.get("tasks") or []
    keys = [task.get("task_key") for task in tasks]
    if not tasks or len(set(keys)) < len(keys):
        raise Refusal("A job needs tasks, each with a task_key of its own.")
    for position, task in enumerate(tasks):
        for on in task.get("depends_on") or []:
            if on.get("task_key") not in keys[:position]:
                raise Refusal(f"Task {task['task_key']} depends on {on.get('task_key')}, which is no task before it.")
        _check_kind(task)
        if "condition_task" not in task:
            _check_compute(task, settings)


def _check_kind(task: dict[str, Any]) -> None:
    if "shell_command_task" in task:
        raise Refusal(
            "shell_command_task is no longer supported: from Databricks Runtime 13.0 ML on an ordinary MLflow Project "
            "does not run, and the runtimes before are retired."
        )
    kinds = [name for name in task if name.endswith("_task") and task[name]]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        raise Refusal(
            f"{', '.join(kinds) or 'A task without a kind'}: not in this local workspace ({', '.join(KINDS)})"
        )
    if python := task.get("spark_python_task"):
        file = str(python.get("python_file") or "")
        if not file.startswith(PLACES):
            raise Refusal(f"python_file must begin with one of {', '.join(PLACES)}: {file!r}")
        if not all(isinstance(word, str) for word in python.get("parameters") or []):
            raise Refusal("The parameters of a task must be strings.")


def _check_compute(task: dict[str, Any], settings: dict[str, Any]) -> None:
    key, known = task["task_key"], [each.get("environment_key") for each in settings.get("environments") or []]
    if existing := task.get("existing_cluster_id"):
        if existing not in CLUSTERS:
            raise Refusal(f"Cluster {existing} does not exist")
    elif environment := task.get("environment_key"):
        if "notebook_task" in task:
            raise Refusal(f"A task environment can not be provided for notebook task {key}. Please use %pip instead.")
        if environment not in known:
            raise Refusal(f"Task {key} references environment {environment}, which is not defined.")
    elif cluster := cluster_of(task, settings):
        _check_cluster(cluster)
    elif "spark_python_task" in task:
        raise Refusal(
            f"An environment is required for serverless task {key}. "
            "Please define one using `environments` and `environment_key`."
        )


def cluster_of(task: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The cluster of a task; empty on serverless compute."""
    if task.get("existing_cluster_id"):
        return CLUSTERS[task["existing_cluster_id"]]
    if key := task.get("job_cluster_key"):
        for each in settings.get("job_clusters") or []:
            if each.get("job_cluster_key") == key:
                return dict(each["new_cluster"])
        raise Refusal(f"Task {task['task_key']} references the job cluster {key}, which is not defined.")
    return dict(task.get("new_cluster") or {})


def _check_cluster(cluster: dict[str, Any]) -> None:
    place = "Cluster validation error: "
    for name in ("spark_version", "node_type_id"):
        if not cluster.get(name) and not (name == "node_type_id" and cluster.get("instance_pool_id")):
            raise Refusal(f"{place}Missing required field: settings.cluster_spec.new_cluster.{name}")
        if name in cluster and not isinstance(cluster[name], str):
            raise Refusal(f"{place}settings.cluster_spec.new_cluster.{name} must be a string")
    found = RUNTIME.fullmatch(cluster["spark_version"])
    if not found or int(found["major"]) not in SUPPORTED:
        raise Refusal(f"Invalid spark version {cluster['spark_version']}.")
    workers, scale = cluster.get("num_workers"), cluster.get("autoscale")
    if workers is None and scale is None and not cluster.get("is_single_node"):
        raise Refusal(f"{place}Missing required field: settings.cluster_spec.new_cluster.size")
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
        raise Refusal(f"{place}num_workers must be a whole number, 0 or more")


def condition_holds(condition: dict[str, Any]) -> bool:
    """Whether a condition task is true."""
    compare = CONDITIONS.get(condition.get("op", ""))
    if compare is None:
        raise Refusal(f"The condition {condition.get('op')}: not in this local workspace ({', '.join(CONDITIONS)})")
    return bool(compare(condition["left"], condition["right"]))


def fill_in(said: Any, known: dict[str, str]) -> Any:
    """A description with `{{job.parameters.NAME}}` and its like replaced; what is not known stays as it is."""
    if isinstance(said, str):
        return re.sub(r"\{\{\s*([\w.]+)\s*\}\}", lambda found: known.get(found[1], found[0]), said)
    if isinstance(said, list):
        return [fill_in(each, known) for each in said]
    if isinstance(said, dict):
        return {name: fill_in(value, known) for name, value in said.items()}
    return said
