"""Files of the workspace: a little of DBFS, and the Files API for volumes, MLflow's artifacts and models."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from answers import Fields, Refusal, api, required

ARTIFACTS = re.compile(
    r"/WorkspaceInternal/Mlflow/Artifacts/(?P<experiment>\d+)/(?P<kind>Runs|LoggedModels)/(?P<rest>.+)"
)


def inside(root: Path, path: str) -> Path:
    """The file that stands for a path below a root; raises Refusal for a path that leaves it."""
    found = (root / path.lstrip("/")).resolve()
    if not found.is_relative_to(root.resolve()):
        raise Refusal(f"The path leaves its folder: {path}")
    return found


async def receive(request: Request, path: Path) -> None:
    """Write the body of a request into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        async for part in request.stream():
            file.write(part)
    new.replace(path)


class Files:
    """The Files API: /Volumes/<catalog>/<schema>/<volume>/..., and what MLflow keeps below other roots.

    A volume is there as soon as something is written to it; on Databricks it has to be created first.

    folder: the workspace's. Jobs see its dbfs/, what `mlflow run -b databricks` uses of DBFS, as /dbfs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def dbfs_status(self, given: Fields) -> Fields:
        """GET dbfs/get-status."""
        path = inside(self.folder / "dbfs", str(required(given, "path")).removeprefix("dbfs:"))
        if not path.exists():
            raise Refusal(f"No file or directory exists on path {given['path']}.", "RESOURCE_DOES_NOT_EXIST")
        return {"path": given["path"], "is_dir": path.is_dir(), "file_size": path.stat().st_size}

    async def dbfs_upload(self, request: Request) -> Response:
        """POST /dbfs/<path>: how MLflow sends a project."""
        path = inside(self.folder / "dbfs", request.path_params["path"])
        if path.exists():
            raise Refusal(f"File already exists, cannot overwrite: '{request.url.path}'", "ALREADY_EXISTS")
        await receive(request, path)
        return JSONResponse({})

    def _path(self, name: str) -> Path:
        if artifact := ARTIFACTS.fullmatch(name):
            kind = "models/" if artifact["kind"] == "LoggedModels" else ""
            return inside(self.folder / "tracking/artifacts", f"{artifact['experiment']}/{kind}{artifact['rest']}")
        first, *rest = name.strip("/").split("/")
        if first == "Volumes" and len(rest) < 3:
            raise Refusal(f"A path of a volume is /Volumes/<catalog>/<schema>/<volume>/<path>: {name}", "BAD_REQUEST")
        if first not in ("Volumes", "Models"):
            raise Refusal(f"The path is not of the Files API: {name}", "NOT_FOUND")
        return inside(self.folder / first.lower(), "/".join(rest))

    async def upload(self, request: Request, name: str, path: Path) -> Response:
        if path.is_dir() or (path.exists() and request.query_params.get("overwrite") == "false"):
            raise Refusal(f"The file being created already exists: {name}", "ALREADY_EXISTS")
        await receive(request, path)
        return Response(status_code=204)

    async def download(self, request: Request, name: str, path: Path) -> Response:
        return FileResponse(path, media_type="application/octet-stream")

    async def delete(self, request: Request, name: str, path: Path) -> Response:
        path.unlink()
        return Response(status_code=204)

    async def make_directory(self, request: Request, name: str, path: Path) -> Response:
        if path.is_file():
            raise Refusal(f"A file stands where the directory is to be: {name}", "ALREADY_EXISTS")
        path.mkdir(parents=True, exist_ok=True)
        return Response(status_code=204)

    async def list_directory(self, request: Request, name: str, path: Path) -> Response:
        """GET lists, HEAD asks whether it is there."""
        contents = [
            {"path": f"{name}/{each.name}", "name": each.name, "is_directory": each.is_dir()}
            | ({} if each.is_dir() else {"file_size": each.stat().st_size})
            for each in sorted(path.iterdir())
        ]
        return JSONResponse({"contents": contents})

    async def delete_directory(self, request: Request, name: str, path: Path) -> Response:
        if any(path.iterdir()):
            raise Refusal(f"The directory is not empty: {name}", "DIRECTORY_NOT_EMPTY")
        path.rmdir()
        return Response(status_code=204)

    def routes(self) -> list[Route]:
        def at(kind: str, method: str, handler: Callable[[Request, str, Path], Awaitable[Response]]) -> Route:
            async def answer(request: Request) -> Response:
                name = "/" + request.path_params["path"].strip("/")
                path, what = self._path(name), "file" if kind == "files" else "directory"
                if method in ("GET", "DELETE") and not (path.is_file() if what == "file" else path.is_dir()):
                    raise Refusal(f"The {what} being accessed is not found: {name}", "NOT_FOUND")
                return await handler(request, name, path)

            return Route(f"/api/2.0/fs/{kind}/{{path:path}}", answer, methods=[method])

        return [
            api("GET", "/api/{version:str}/dbfs/get-status", self.dbfs_status),
            Route("/dbfs/{path:path}", self.dbfs_upload, methods=["POST"]),
            at("files", "PUT", self.upload),
            at("files", "GET", self.download),
            at("files", "DELETE", self.delete),
            at("directories", "PUT", self.make_directory),
            at("directories", "GET", self.list_directory),
            at("directories", "DELETE", self.delete_directory),
        ]
