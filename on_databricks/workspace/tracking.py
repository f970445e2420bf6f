"""MLflow's own API, answered by a real `mlflow server`; here addresses of artifacts are put into Databricks's form."""

from __future__ import annotations

import re

import aiohttp
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from answers import Refusal

DATABRICKS = b"dbfs:/databricks/mlflow-tracking/"
KEPT = ("accept", "content-type", "user-agent")
NAME = re.compile(rb'"name"\s*:\s*"(?P<name>[^"]*)"')


def to_databricks(body: bytes) -> bytes:
    """mlflow-artifacts:/1/models/m-2 as dbfs:/databricks/mlflow-tracking/1/logged_models/m-2, and runs likewise."""
    body = re.sub(rb"mlflow-artifacts:/(\d+)/models/", DATABRICKS + rb"\1/logged_models/", body)
    return re.sub(rb"mlflow-artifacts:/(\d+)", DATABRICKS + rb"\1", body)


def from_databricks(body: bytes) -> bytes:
    """The way back."""
    body = re.sub(DATABRICKS + rb"(\d+)/logged_models/", rb"mlflow-artifacts:/\1/models/", body)
    return re.sub(DATABRICKS + rb"(\d+)", rb"mlflow-artifacts:/\1", body)


class Tracking:
    """Passes requests on to an MLflow server.

    server: its address; its own pages are the MLflow UI.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> None:
        self._session = aiohttp.ClientSession()

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> Response:
        """The MLflow server's answer."""
        address = f"{self.server}{path}" + (f"?{query}" if query else "")
        async with self._session.request(method, address, data=from_databricks(body), headers=headers) as answer:
            content = to_databricks(await answer.read())
            return Response(content, answer.status, media_type=answer.headers.get("Content-Type"))

    async def pass_on(self, request: Request) -> Response:
        """Any request to MLflow's API."""
        body = await request.body()
        path = request.url.path
        if path.endswith("/experiments/create"):
            _refuse_name(body)
        headers = {name: value for name, value in request.headers.items() if name in KEPT}
        return await self.call(request.method, path, request.url.query, body, headers)

    async def page(self, request: Request) -> Response:
        """/ml/experiments/1/runs/...: the links that MLflow prints lead to its UI."""
        return RedirectResponse(f"{self.server}/#/{request.path_params['rest']}")

    def routes(self) -> list[Route]:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [
            Route("/api/{version:str}/mlflow/{rest:path}", self.pass_on, methods=methods),
            Route("/ml/{rest:path}", self.page),
        ]


def _refuse_name(body: bytes) -> None:
    found = NAME.search(body)
    name = found["name"].decode() if found else ""
    if not name.startswith("/"):
        message = (
            f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the "
            "Databricks workspace. E.g. '/Users/<some-username>/my-experiment'."
        )
        raise Refusal(message)
