"""MLflow's own API, answered by a real `mlflow server`, and models in Unity Catalog, with what Databricks refuses.

Addresses of artifacts are put into Databricks's form here, and back.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from answers import Fields, Refusal, fields, required

API = "/api/2.0/mlflow"
DATABRICKS = b"dbfs:/databricks/mlflow-tracking/"
KEPT = ("accept", "content-type", "user-agent")
KEY_REFUSED = re.compile(r"[.,\-=/:]")
SENT_ON = ("name", "source", "run_id", "description", "tags", "model_id")  # of a new version
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


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

    Registered models have names of three levels, `catalog.schema.model`; catalogs and schemas need no creation.

    folder: the workspace's; the files of version 2 of a.b.c lie in models/a/b/c/2, put there by the client.
    server: its address; its own pages are the MLflow UI.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self.models = folder / "models"
        self.server = server
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> None:
        self._session = aiohttp.ClientSession()

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def pass_on(self, request: Request) -> Response:
        """Any request to MLflow's API."""
        body = await request.body()
        if request.url.path.endswith("/experiments/create"):
            name = str((await fields(request)).get("name"))
            if not name.startswith("/"):
                raise Refusal(
                    f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the "
                    "Databricks workspace. E.g. '/Users/<some-username>/my-experiment'."
                )
        headers = {name: value for name, value in request.headers.items() if name in KEPT}
        return await self._call(request.method, request.url.path, request.url.query, body, headers)

    async def of_catalog(self, request: Request) -> Response:
        """Any request to mlflow/unity-catalog: checked, passed on, and the answer put into Unity Catalog's form."""
        action, method, given = request.path_params["action"], request.method, await fields(request)
        if action == "registered-models:is-databricks-sdk-models-artifact-repository-enabled":
            return JSONResponse({"is_databricks_sdk_models_artifact_repository_enabled": True})
        if action == "model-versions/emit-lineage":
            return JSONResponse({})
        names = [] if action.endswith("/search") else [given.get("name"), given.get("new_name") or given.get("name")]
        for name in names:
            if not re.fullmatch(r"[\w-]+(\.[\w-]+){2}", str(name)):
                raise Refusal(
                    f"{name} is not a valid name: models in Unity Catalog are named <catalog>.<schema>.<model>"
                )
        if action.endswith("/set-tag") and KEY_REFUSED.search(required(given, "key")):
            raise Refusal(f"Tag key {given['key']} is invalid: it may not hold any of . , - = / :")
        if action == "model-versions/create":
            given = {name: value for name, value in given.items() if name in SENT_ON}
        elif action == "model-versions/finalize":
            method, action = "GET", "model-versions/get"
        elif action == "registered-models/update" and given.get("new_name"):
            method, action = "POST", "registered-models/rename"
        elif action == "model-versions/search" and "order_by" in given:
            raise Refusal("order_by is not supported.")
        query, body = (urlencode(given), b"") if method == "GET" else ("", json.dumps(given).encode())
        answer = await self._call(method, f"{API}/{action}", query, body, {"Content-Type": "application/json"})
        if answer.status_code != 200:
            return answer
        self._keep_up(action, given)
        found = json.loads(bytes(answer.body) or b"{}")
        if version := found.get("model_version"):  # its aliases are objects there
            version["aliases"] = [{"alias": each, "version": version["version"]} for each in version.get("aliases", [])]
        for version in found.get("model_versions", []):  # a search says less than a look at one version
            for name in ("aliases", "tags", "model_id"):
                version.pop(name, None)
        return JSONResponse(found)

    async def page(self, request: Request) -> Response:
        """/ml/experiments/1/runs/...: the links that MLflow prints lead to its UI."""
        return RedirectResponse(f"{self.server}/#/{request.path_params['rest']}")

    def routes(self) -> list[Route]:
        return [
            Route(f"{API}/unity-catalog/{{action:path}}", self.of_catalog, methods=METHODS),
            Route("/api/{version:str}/mlflow/{rest:path}", self.pass_on, methods=METHODS),
            Route("/ml/{rest:path}", self.page),
        ]

    async def _call(self, method: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> Response:
        address = f"{self.server}{path}" + (f"?{query}" if query else "")
        async with self._session.request(method, address, data=from_databricks(body), headers=headers) as answer:
            content = to_databricks(await answer.read())
            return Response(content, answer.status, media_type=answer.headers.get("Content-Type"))

    def _keep_up(self, action: str, given: Fields) -> None:
        """Let the files follow a model that was renamed or deleted."""
        folder = self.models.joinpath(*str(given.get("name")).split("."))
        if action == "registered-models/rename" and folder.exists():
            target = self.models.joinpath(*given["new_name"].split("."))
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        elif action == "registered-models/delete":
            shutil.rmtree(folder, ignore_errors=True)
        elif action == "model-versions/delete":
            shutil.rmtree(folder / str(given["version"]), ignore_errors=True)
