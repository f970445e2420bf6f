"""Files of the workspace: a little of DBFS, and the Files API for volumes, MLflow's artifacts and models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from answers import Refusal, fields, required

ARTIFACTS = re.compile(
    r"/WorkspaceInternal/Mlflow/Artifacts/(?P<experiment>\d+)/(?P<kind>Runs|LoggedModels)/(?P<rest>.+)"
)


def inside(root: Path, path: str) -> Path:
    """The file that stands for a path below a root; raises Refusal for a path that leaves it."""
    found = (root / path.lstrip("/")).resolve()
    if not found.is_relative_to(root.resolve()):
        raise Refusal("INVALID_PARAMETER_VALUE", f"The path leaves its folder: {path}")
    return found


async def receive(request: Request, path: Path) -> None:
    """Write the body of a request into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        async for part in request.stream():
            file.write(part)
    new.replace(path)


class Dbfs:
    """`dbfs:/`, which jobs see as /dbfs: what `mlflow run -b databricks` uses of it, and no more."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "dbfs"

    async def get_status(self, request: Request) -> Response:
        given = await fields(request)
        path = inside(self.root, str(required(given, "path")).removeprefix("dbfs:"))
        if not path.exists():
            raise Refusal("RESOURCE_DOES_NOT_EXIST", f"No file or directory exists on path {given['path']}.")
        size = 0 if path.is_dir() else path.stat().st_size
        return JSONResponse({"path": given["path"], "is_dir": path.is_dir(), "file_size": size})

    async def upload(self, request: Request) -> Response:
        """POST /dbfs/<path>: how MLflow sends a project."""
        path = inside(self.root, request.path_params["path"])
        if path.exists():
            raise Refusal("ALREADY_EXISTS", f"File already exists, cannot overwrite: '/{request.path_params['path']}'")
        await receive(request, path)
        return JSONResponse({})

    def routes(self) -> list[Route]:
        return [
            Route("/api/{version:str}/dbfs/get-status", self.get_status),
            Route("/dbfs/{path:path}", self.upload, methods=["POST"]),
        ]


class Files:
    """The Files API: /Volumes/<catalog>/<schema>/<volume>/..., and what MLflow keeps below other roots.

    A volume is there as soon as something is written to it; on Databricks it has to be created first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, request: Request) -> tuple[str, Path]:
        """The path that a request names, and the file that stands for it."""
        name = "/" + request.path_params["path"].strip("/")
        artifact = ARTIFACTS.fullmatch(name)
        if artifact:
            kind = "models/" if artifact["kind"] == "LoggedModels" else ""
            root = self.folder / "tracking" / "artifacts"
            return name, inside(root, f"{artifact['experiment']}/{kind}{artifact['rest']}")
        first, *rest = name.strip("/").split("/")
        if first == "Volumes":
            if len(rest) < 3:
                right = "A path of a volume is /Volumes/<catalog>/<schema>/<volume>/<path>"
                raise Refusal("BAD_REQUEST", f"{right}: {name}")
            return name, inside(self.folder / "volumes", "/".join(rest))
        if first == "Models":
            return name, inside(self.folder / "models", "/".join(rest))
        raise Refusal("NOT_FOUND", f"The path is not of the Files API: {name}")

    async def upload(self, request: Request) -> Response:
        name, path = self._path(request)
        if path.is_dir() or (path.exists() and request.query_params.get("overwrite") == "false"):
            raise Refusal("ALREADY_EXISTS", f"The file being created already exists: {name}")
        await receive(request, path)
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        name, path = self._path(request)
        if not path.is_file():
            raise Refusal("NOT_FOUND", f"The file being accessed is not found: {name}")
        return FileResponse(path, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        name, path = self._path(request)
        if not path.is_file():
            raise Refusal("NOT_FOUND", f"The file being accessed is not found: {name}")
        path.unlink()
        return Response(status_code=204)

    async def begin_parts(self, request: Request) -> Response:
        """An upload in parts is offered, then its addresses are refused: clients then send the file in one piece."""
        return JSONResponse({"multipart_upload": {"session_token": "in one piece"}})

    async def refuse_address(self, request: Request) -> Response:
        raise Refusal("PERMISSION_DENIED", "Presigned URLs API is not enabled")

    async def make_directory(self, request: Request) -> Response:
        name, path = self._path(request)
        if path.is_file():
            raise Refusal("ALREADY_EXISTS", f"A file stands where the directory is to be: {name}")
        path.mkdir(parents=True, exist_ok=True)
        return Response(status_code=204)

    async def list_directory(self, request: Request) -> Response:
        """GET lists, HEAD asks whether it is there."""
        name, path = self._path(request)
        if not path.is_dir():
            raise Refusal("NOT_FOUND", f"The directory being accessed is not found: {name}")
        return JSONResponse({"contents": [_entry(name, each) for each in sorted(path.iterdir())]})

    async def delete_directory(self, request: Request) -> Response:
        name, path = self._path(request)
        if not path.is_dir():
            raise Refusal("NOT_FOUND", f"The directory being accessed is not found: {name}")
        if any(path.iterdir()):
            raise Refusal("DIRECTORY_NOT_EMPTY", f"The directory is not empty: {name}")
        path.rmdir()
        return Response(status_code=204)

    def routes(self) -> list[Route]:
        files, directories = "/api/2.0/fs/files/{path:path}", "/api/2.0/fs/directories/{path:path}"
        return [
            Route(files, self.upload, methods=["PUT"]),
            Route(files, self.download, methods=["GET"]),
            Route(files, self.delete, methods=["DELETE"]),
            Route(files, self.begin_parts, methods=["POST"]),
            Route("/api/2.0/fs/{rest:path}", self.refuse_address, methods=["POST"]),
            Route(directories, self.make_directory, methods=["PUT"]),
            Route(directories, self.list_directory, methods=["GET"]),
            Route(directories, self.delete_directory, methods=["DELETE"]),
        ]


def _entry(directory: str, path: Path) -> dict[str, Any]:
    found = path.stat()
    entry = {"path": f"{directory}/{path.name}", "name": path.name, "is_directory": path.is_dir()}
    entry |= {"last_modified": round(found.st_mtime * 1000)}
    return entry if path.is_dir() else entry | {"file_size": found.st_size}
