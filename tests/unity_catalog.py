"""A stand-in for the registry of Unity Catalog: the part of its REST API that keeps models, aliases and tags.

It refuses tag keys as Databricks does, and what a search finds in it has neither tags nor aliases. Model files are not
part of it: versions are put in by `add_version`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

RESERVED = set(".,-=/:")
TOKEN = "dapi-of-the-stand-in"


class RefusedError(Exception):
    """An answer with an error code."""


class UnityCatalog:
    """Models by their three-level name; the environment in which MLflow uses them."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.environment: dict[str, str] = {}

    def add_version(self, name: str) -> None:
        """A further version of a model, which is made when it is new."""
        if len(name.split(".")) != 3:
            raise RefusedError("INVALID_PARAMETER_VALUE", "specify all three levels of the name")
        model = self.models.setdefault(name, {"versions": {}, "aliases": {}, "tags": {}})
        model["versions"][str(len(model["versions"]) + 1)] = {}

    def answer(self, call: str, given: dict[str, str]) -> dict[str, Any]:
        """What Databricks answers to a call such as `GET registered-models/get`."""
        method, path = call.split()
        if path == "model-versions/search":
            name = given["filter"].split("'")[1]
            numbers = self.models.get(name, {"versions": {}})["versions"]
            return {"model_versions": [{"name": name, "version": number} for number in numbers]}
        if given["name"] not in self.models:
            raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"Registered Model {given['name']} does not exist.")
        model = self.models[given["name"]]
        kept = (
            model["tags"] if path.startswith("registered-models") else model["versions"].get(given.get("version", ""))
        )
        if "alias" in path and method == "POST":
            model["aliases"][given["alias"]] = given["version"]
        elif "alias" in path and method == "DELETE":
            model["aliases"].pop(given["alias"], None)
        elif "alias" in path:
            if given["alias"] not in model["aliases"]:
                raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"no alias {given['alias']}")
            return {"model_version": self._version(given["name"], model["aliases"][given["alias"]])}
        elif path.endswith("set-tag"):
            if RESERVED & set(given["key"]):
                raise RefusedError("INVALID_PARAMETER_VALUE", f"Tag name {given['key']} contains reserved characters")
            kept[given["key"]] = given["value"]
        elif path.endswith("delete-tag"):
            kept.pop(given["key"], None)
        elif path == "registered-models/get":
            aliases = [{"alias": alias, "version": number} for alias, number in model["aliases"].items()]
            return {"registered_model": {"name": given["name"], "aliases": aliases, "tags": _pairs(model["tags"])}}
        elif path == "model-versions/get":
            return {"model_version": self._version(given["name"], given["version"])}
        elif path == "model-versions/delete":
            del model["versions"][given["version"]]
        elif path == "registered-models/delete":
            del self.models[given["name"]]
        else:
            raise RefusedError("ENDPOINT_NOT_FOUND", call)
        return {}

    def _version(self, name: str, number: str) -> dict[str, Any]:
        model = self.models[name]
        if number not in model["versions"]:
            raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"Model Version {name}/{number} does not exist.")
        aliases = [{"alias": alias} for alias, version in model["aliases"].items() if version == number]
        return {"name": name, "version": number, "aliases": aliases, "tags": _pairs(model["versions"][number])}


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


@contextmanager
def served() -> Iterator[UnityCatalog]:
    """A stand-in that answers on a port of this machine."""
    catalog = UnityCatalog()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = dict(parse_qsl(address.query)) | (json.loads(body) if body else {})
            prefix = "/api/2.0/mlflow/unity-catalog/"
            if address.path == "/.well-known/databricks-config":  # asked without a token, before anything else
                return self.reply(200, {"oidc_endpoint": f"{catalog.environment['DATABRICKS_HOST']}/oidc"})
            try:
                if not address.path.startswith(prefix):
                    raise RefusedError("ENDPOINT_NOT_FOUND", address.path)
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    raise RefusedError("UNAUTHENTICATED", "no token")
                status, answer = 200, catalog.answer(f"{self.command} {address.path.removeprefix(prefix)}", given)
            except RefusedError as error:
                code, message = error.args
                missing = code in ("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND")
                status, answer = 404 if missing else 400, {"error_code": code, "message": message}
            self.reply(status, answer)

        def reply(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    catalog.environment = {
        "MLFLOW_REGISTRY_URI": "databricks-uc",
        "DATABRICKS_HOST": f"http://127.0.0.1:{server.server_port}",
        "DATABRICKS_TOKEN": TOKEN,
    }
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield catalog
    finally:
        server.shutdown()
        server.server_close()
