"""The Clusters API: one cluster, which is always there, and the runtimes that Databricks supports."""

from __future__ import annotations

from typing import Any

from task_check import CLUSTERS, RUNTIMES

from answers import Refusal, api, required


def described(cluster_id: str) -> dict[str, Any]:
    """A cluster in the words of Databricks."""
    return {"cluster_id": cluster_id, "state": "RUNNING", "num_workers": 0, **CLUSTERS[cluster_id]}


def get(given: dict[str, Any]) -> dict[str, Any]:
    """GET clusters/get."""
    if (cluster_id := required(given, "cluster_id")) not in CLUSTERS:
        raise Refusal(f"Cluster {cluster_id} does not exist", "RESOURCE_DOES_NOT_EXIST")
    return described(cluster_id)


VERSIONS = {"versions": [{"key": key, "name": name} for key, name in RUNTIMES.items()]}
ROUTES = [
    api("GET", "/api/{version:str}/clusters/list", lambda given: {"clusters": list(map(described, CLUSTERS))}),
    api("GET", "/api/{version:str}/clusters/get", get),
    api("GET", "/api/{version:str}/clusters/spark-versions", lambda given: VERSIONS),
]
