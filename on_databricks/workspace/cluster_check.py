"""What Databricks refuses in the description of a job's cluster."""

from __future__ import annotations

import re
from typing import Any

from answers import Refusal

PLACE = "settings.cluster_spec.new_cluster"
RUNTIME = re.compile(r"(?P<major>\d+)\.(\d+|x)(\.x)?(-[a-z]+)*-scala2\.1[123]")


def check_cluster(task: dict[str, Any], environments: list[dict[str, Any]]) -> None:
    """Refuse a task without a complete new cluster, or a serverless environment of its run.

    Raises Refusal (INVALID_PARAMETER_VALUE).
    """
    if task.get("existing_cluster_id"):
        if "shell_command_task" in task:
            message = "A shell command task needs a new_cluster; it does not run on an existing cluster."
        else:
            message = f"Cluster {task['existing_cluster_id']} does not exist"
        raise _invalid(message)
    key = task.get("environment_key")
    if key:
        if key not in [environment.get("environment_key") for environment in environments]:
            raise _invalid(f"The environment_key '{key}' is not among the environments of the run.")
        return
    cluster = task.get("new_cluster")
    if not isinstance(cluster, dict):
        raise _invalid(f"Missing required field: {PLACE}")
    for name in ("spark_version", "node_type_id"):
        if not cluster.get(name):
            if name == "node_type_id" and cluster.get("instance_pool_id"):
                continue
            raise _invalid(
                f"Cluster validation error: Missing required field: settings.cluster_spec.new_cluster.{name}"
            )
        if not isinstance(cluster[name], str):
            raise _invalid(f"Cluster validation error: settings.cluster_spec.new_cluster.{name} must be a string")
    if not RUNTIME.fullmatch(cluster["spark_version"]):
        raise _invalid(f"Invalid spark version {cluster['spark_version']}.")
    _check_size(cluster)


def runtime(task: dict[str, Any]) -> int | None:
    """The first number of the runtime's version; None without a cluster."""
    found = RUNTIME.fullmatch((task.get("new_cluster") or {}).get("spark_version", ""))
    return int(found["major"]) if found else None


def _check_size(cluster: dict[str, Any]) -> None:
    workers, scale = cluster.get("num_workers"), cluster.get("autoscale")
    if workers is None and scale is None:
        raise _invalid(f"Cluster validation error: Missing required field: {PLACE}.size")
    if scale is not None:
        bounds = [scale.get(name, "") for name in ("min_workers", "max_workers")] if isinstance(scale, dict) else []
        if not bounds or not all(_whole(bound) for bound in bounds) or bounds != sorted(bounds, key=int):
            raise _invalid("Cluster validation error: autoscale needs min_workers and max_workers, the lesser first")
    elif not _whole(workers):
        raise _invalid("Cluster validation error: num_workers must be a whole number, 0 or more")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _invalid(message: str) -> Refusal:
    return Refusal("INVALID_PARAMETER_VALUE", message)
