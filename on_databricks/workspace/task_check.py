"""What Databricks refuses in the description of a job, how it reads parameters, and the Clusters API."""

from __future__ import annotations

import re
from typing import Any

from answers import Fields, Refusal, api, required

KINDS = ("spark_python_task", "notebook_task", "condition_task")
PLACES = ("dbfs:/", "/Volumes/", "/Workspace/", "/Users/", "/Shared/")
RUNTIME = re.compile(r"1[4-9]\.(\d+|x)(\.x)?(-[a-z]+)*-scala2\.1[23]")
RUNTIMES: tuple[str, ...] = ("19.0.x-scala2.13", "18.0.x-scala2.13", "17.3.x-scala2.13", "17.3.x-cpu-ml-scala2.13")
RUNTIMES += ("16.4.x-scala2.12", "15.4.x-scala2.12", "14.3.x-scala2.12")
# A cluster that is there already, for `existing_cluster_id`.
CLUSTERS = {"0101-120000-local001": {"cluster_name": "local", "spark_version": "17.3.x-cpu-ml-scala2.13"}}
CONDITIONS = {"EQUAL_TO": str.__eq__, "NOT_EQUAL": str.__ne__}


def check_tasks(settings: Fields) -> None:
    """Refuse a job that Databricks, or this workspace, cannot run; raises Refusal (INVALID_PARAMETER_VALUE)."""
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


def _check_kind(task: Fields) -> None:
    if "shell_command_task" in task:
        raise Refusal(
            "shell_command_task is no longer supported: from Databricks Runtime 13.0 ML on an ordinary MLflow Project "
            "does not run, and the runtimes before are retired."
        )
    kinds = [name for name in task if name.endswith("_task") and task[name]]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        given = ", ".join(kinds) or "A task without a kind"
        raise Refusal(f"{given}: not in this local workspace ({', '.join(KINDS)})")
    condition, python = task.get("condition_task"), task.get("spark_python_task")
    if condition and condition.get("op") not in CONDITIONS:
        raise Refusal(f"The condition {condition.get('op')}: not in this local workspace ({', '.join(CONDITIONS)})")
    if python and not str(python.get("python_file")).startswith(PLACES):
        raise Refusal(f"python_file must begin with one of {', '.join(PLACES)}: {python.get('python_file')!r}")
    if python and not all(isinstance(word, str) for word in python.get("parameters") or []):
        raise Refusal("The parameters of a task must be strings.")


def _check_compute(task: Fields, settings: Fields) -> None:
    key, known = task["task_key"], [each.get("environment_key") for each in settings.get("environments") or []]
    if environment := task.get("environment_key"):
        if "notebook_task" in task:
            raise Refusal(f"A task environment can not be provided for notebook task {key}. Please use %pip instead.")
        if environment not in known:
            raise Refusal(f"Task {key} references environment {environment}, which is not defined.")
    elif cluster := cluster_of(task, settings):
        if not task.get("existing_cluster_id"):
            _check_cluster(cluster)
    elif "spark_python_task" in task:
        raise Refusal(
            f"An environment is required for serverless task {key}. "
            "Please define one using `environments` and `environment_key`."
        )


def cluster_of(task: Fields, settings: Fields) -> Fields:
    """The cluster of a task; empty on serverless compute. Raises Refusal for one that is not there."""
    if existing := task.get("existing_cluster_id"):
        if existing not in CLUSTERS:
            raise Refusal(f"Cluster {existing} does not exist")
        return CLUSTERS[existing]
    if key := task.get("job_cluster_key"):
        for each in settings.get("job_clusters") or []:
            if each.get("job_cluster_key") == key:
                return dict(each["new_cluster"])
        raise Refusal(f"Task {task['task_key']} references the job cluster {key}, which is not defined.")
    return dict(task.get("new_cluster") or {})


def _check_cluster(cluster: Fields) -> None:
    place = "Cluster validation error: "
    workers, sized = cluster.get("num_workers"), cluster.get("autoscale") or cluster.get("is_single_node")
    missing = {
        "spark_version": not cluster.get("spark_version"),
        "node_type_id": not (cluster.get("node_type_id") or cluster.get("instance_pool_id")),
        "size": workers is None and not sized,
    }
    if names := [name for name, absent in missing.items() if absent]:
        raise Refusal(f"{place}Missing required field: settings.cluster_spec.new_cluster.{names[0]}")
    if not RUNTIME.fullmatch(str(cluster["spark_version"])):
        raise Refusal(f"Invalid spark version {cluster['spark_version']}.")
    if workers is not None and (type(workers) is not int or workers < 0):
        raise Refusal(f"{place}num_workers must be a whole number, 0 or more")


def condition_holds(condition: Fields) -> bool:
    """Whether a condition task is true."""
    return bool(CONDITIONS[condition["op"]](condition["left"], condition["right"]))


def fill_in(said: Any, known: dict[str, str]) -> Any:
    """A description with `{{job.parameters.NAME}}` and its like replaced; what is not known stays as it is."""
    if isinstance(said, str):
        return re.sub(r"\{\{\s*([\w.]+)\s*\}\}", lambda found: known.get(found[1], found[0]), said)
    if isinstance(said, list):
        return [fill_in(each, known) for each in said]
    if isinstance(said, dict):
        return {name: fill_in(value, known) for name, value in said.items()}
    return said


def get_cluster(given: Fields) -> Fields:
    """GET clusters/get."""
    if (cluster_id := required(given, "cluster_id")) not in CLUSTERS:
        raise Refusal(f"Cluster {cluster_id} does not exist", "RESOURCE_DOES_NOT_EXIST")
    return {"cluster_id": cluster_id, "state": "RUNNING", "num_workers": 0, **CLUSTERS[cluster_id]}


VERSIONS = {"versions": [{"key": key, "name": f"Runtime {key.partition('.x')[0]}"} for key in RUNTIMES]}
LISTED = {"clusters": [get_cluster({"cluster_id": cluster_id}) for cluster_id in CLUSTERS]}
ROUTES = [
    api("GET", "/api/{version:str}/clusters/list", lambda given: LISTED),
    api("GET", "/api/{version:str}/clusters/get", get_cluster),
    api("GET", "/api/{version:str}/clusters/spark-versions", lambda given: VERSIONS),
]
