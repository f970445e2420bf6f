"""Models in Unity Catalog: its registry API in front of the MLflow server's own, with what Unity Catalog refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from answers import Refusal, fields, required
from tracking import Tracking

API = "/api/2.0/mlflow"
KEY_REFUSED = re.compile(r"[.,\-=/:]")
SENT_ON = ("name", "source", "run_id", "description", "tags", "model_id")  # of a new version


class Catalog:
    """Registered models by their three-level names, `catalog.schema.model`; catalogs and schemas need no creation.

    folder: the workspace's; the files of version 2 of a.b.c lie in models/a/b/c/2, put there by the client.
    """

    def __init__(self, folder: Path, tracking: Tracking) -> None:
        self.models = folder / "models"
        self.tracking = tracking

    async def answer(self, request: Request) -> Response:
        """Any request to mlflow/unity-catalog: checked, passed on, and the answer put into Unity Catalog's form."""
        action = request.path_params["action"]
        given = await fields(request)
        if action == "registered-models:is-databricks-sdk-models-artifact-repository-enabled":
            return JSONResponse({"is_databricks_sdk_models_artifact_repository_enabled": True})
        if action == "model-versions/emit-lineage":
            return JSONResponse({})
        if not action.endswith("/search"):
            _check_name(required(given, "name"))
        if action.endswith("/set-tag") and KEY_REFUSED.search(required(given, "key")):
            message = f"Tag key {given['key']} is invalid: it may not hold any of . , - = / :"
            raise Refusal(message)
        method = request.method
        if action == "model-versions/create":
            given = {name: value for name, value in given.items() if name in SENT_ON}
        elif action == "model-versions/finalize":
            method, action = "GET", "model-versions/get"
        elif action == "registered-models/update" and given.get("new_name"):
            _check_name(given["new_name"])
            method, action = "POST", "registered-models/rename"
        elif action == "model-versions/search" and "order_by" in given:
            raise Refusal("order_by is not supported.")
        answer = await self._ask(method, action, given)
        if answer.status_code == 200:
            self._keep_up(action, given)
        return answer

    async def _ask(self, method: str, action: str, given: dict[str, Any]) -> Response:
        query, body = (urlencode(given), b"") if method == "GET" else ("", json.dumps(given).encode())
        headers = {"Content-Type": "application/json"}
        answer = await self.tracking.call(method, f"{API}/{action}", query, body, headers)
        if answer.status_code != 200:
            return answer
        found = json.loads(bytes(answer.body) or b"{}")
        if "model_version" in found:
            found["model_version"] = _version(found["model_version"])
        if action == "model-versions/search":
            found["model_versions"] = [_found(version) for version in found.get("model_versions", [])]
        return JSONResponse(found)

    def _keep_up(self, action: str, given: dict[str, Any]) -> None:
        """Let the files follow a model that was renamed or deleted."""
        folder = self.models.joinpath(*given["name"].split(".")) if "name" in given else self.models
        if action == "registered-models/rename" and folder.exists():
            target = self.models.joinpath(*given["new_name"].split("."))
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        elif action == "registered-models/delete":
            shutil.rmtree(folder, ignore_errors=True)
        elif action == "model-versions/delete":
            shutil.rmtree(folder / str(given["version"]), ignore_errors=True)

    def routes(self) -> list[Route]:
        methods = ["GET", "POST", "PATCH", "DELETE"]
        return [Route(f"{API}/unity-catalog/{{action:path}}", self.answer, methods=methods)]


def _check_name(name: str) -> None:
    parts = name.split(".")
    if len(parts) != 3 or not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        message = f"{name} is not a valid name: models in Unity Catalog are named <catalog>.<schema>.<model>"
        raise Refusal(message)


def _version(version: dict[str, Any]) -> dict[str, Any]:
    """A version whose aliases are objects, as Unity Catalog gives them."""
    aliases = [{"alias": alias, "version": version["version"]} for alias in version.get("aliases", [])]
    return {**version, "aliases": aliases}


def _found(version: dict[str, Any]) -> dict[str, Any]:
    """A version as a search shows it: without what only a look at the version itself gives."""
    return {name: value for name, value in version.items() if name not in ("aliases", "tags", "model_id")}
