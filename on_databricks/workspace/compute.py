"""The Clusters API: one cluster, which is always there, and the runtimes that Databricks supports."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from task_check import CLUSTERS, RUNTIMES

from answers import Refusal, fields, required


def described(cluster_id: str) -> dict[str, Any]:
    """A cluster in the words of Databricks."""
    return {"cluster_id": cluster_id, "state": "RUNNING", "num_workers": 0, **CLUSTERS[cluster_id]}


async def show(request: Request) -> Response:
    """GET clusters/list."""
    return JSONResponse({"clusters": [described(cluster_id) for cluster_id in CLUSTERS]})


async def get(request: Request) -> Response:
    """GET clusters/get."""
    cluster_id = required(await fields(request), "cluster_id")
    if cluster_id not in CLUSTERS:
        raise Refusal("RESOURCE_DOES_NOT_EXIST", f"Cluster {cluster_id} does not exist", 404)
    return JSONResponse(described(cluster_id))


async def spark_versions(request: Request) -> Response:
    """GET clusters/spark-versions."""
    return JSONResponse({"versions": [{"key": key, "name": name} for key, name in RUNTIMES.items()]})


ROUTES = [
    Route("/api/{version:str}/clusters/list", show),
    Route("/api/{version:str}/clusters/get", get),
    Route("/api/{version:str}/clusters/spark-versions", spark_versions),
]
