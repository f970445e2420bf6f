"""Files of the workspace: the DBFS API, and the Files API for volumes, MLflow's artifacts and registered models."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from answers import Refusal, fields, flag, required

BLOCK = 1024 * 1024  # bytes that one call of the DBFS API carries
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
    """`dbfs:/`: the folder that jobs see as /dbfs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "dbfs"
        self._handles: dict[int, Path] = {}

    def _path(self, given: dict[str, Any], name: str = "path") -> Path:
        path = str(required(given, name)).removeprefix("dbfs:")
        if not path.startswith("/"):
            raise Refusal("INVALID_PARAMETER_VALUE", f"Path must be absolute: {path}")
        return inside(self.root, path)

    def _there(self, given: dict[str, Any], name: str = "path") -> Path:
        path = self._path(given, name)
        if not path.exists():
            raise Refusal("RESOURCE_DOES_NOT_EXIST", f"No file or directory exists on path {given[name]}.")
        return path

    def _described(self, path: Path) -> dict[str, Any]:
        found = path.stat()
        name = "/" + path.relative_to(self.root.resolve()).as_posix().removeprefix(".")
        size = 0 if path.is_dir() else found.st_size
        return {
            "path": name,
            "is_dir": path.is_dir(),
            "file_size": size,
            "modification_time": round(found.st_mtime * 1000),
        }

    async def get_status(self, request: Request) -> Response:
        return JSONResponse(self._described(self._there(await fields(request))))

    async def show(self, request: Request) -> Response:
        path = self._there(await fields(request))
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return JSONResponse({"files": [self._described(each) for each in found]})

    async def mkdirs(self, request: Request) -> Response:
        path = self._path(await fields(request))
        if path.is_file():
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"A file stands at {path.relative_to(self.root.resolve())}.")
        path.mkdir(parents=True, exist_ok=True)
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        given = await fields(request)
        path = self._path(given)
        if path.is_dir() and any(path.iterdir()) and not flag(given.get("recursive")):
            raise Refusal("BAD_REQUEST", f"The directory is not empty; give recursive: {given['path']}")
        _remove(path)
        return JSONResponse({})

    async def read(self, request: Request) -> Response:
        given = await fields(request)
        offset, length = int(given.get("offset") or 0), int(given.get("length") or BLOCK)
        if length > BLOCK:
            raise Refusal("INVALID_PARAMETER_VALUE", f"length is at most {BLOCK}: {length}")
        with self._there(given).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        return JSONResponse({"bytes_read": len(data), "data": base64.b64encode(data).decode()})

    async def put(self, request: Request) -> Response:
        given = await fields(request)
        data = base64.b64decode(given.get("contents") or "")
        if len(data) > BLOCK:
            raise Refusal("MAX_BLOCK_SIZE_EXCEEDED", f"put takes up to {BLOCK} bytes, add-block any number of times.")
        path = self._new(self._path(given), flag(given.get("overwrite")))
        path.write_bytes(data)
        return JSONResponse({})

    async def create(self, request: Request) -> Response:
        given = await fields(request)
        path = self._new(self._path(given), flag(given.get("overwrite")))
        path.write_bytes(b"")
        handle = max(self._handles, default=0) + 1
        self._handles[handle] = path
        return JSONResponse({"handle": handle})

    async def add_block(self, request: Request) -> Response:
        given = await fields(request)
        data = base64.b64decode(given.get("data") or "")
        if len(data) > BLOCK:
            raise Refusal("MAX_BLOCK_SIZE_EXCEEDED", f"A block has up to {BLOCK} bytes.")
        with self._opened(given).open("ab") as file:
            file.write(data)
        return JSONResponse({})

    async def close(self, request: Request) -> Response:
        given = await fields(request)
        self._opened(given)
        del self._handles[given["handle"]]
        return JSONResponse({})

    async def upload(self, request: Request) -> Response:
        """POST /dbfs/<path>: how MLflow sends a project."""
        path = inside(self.root, request.path_params["path"])
        if path.exists():
            raise Refusal("ALREADY_EXISTS", f"File already exists, cannot overwrite: '/{request.path_params['path']}'")
        await receive(request, path)
        return JSONResponse({})

    async def download(self, request: Request) -> Response:
        return FileResponse(self._there({"path": "/" + request.path_params["path"]}))

    def _opened(self, given: dict[str, Any]) -> Path:
        handle = required(given, "handle")
        if handle not in self._handles:
            raise Refusal("RESOURCE_DOES_NOT_EXIST", f"No handle {handle} is open.")
        return self._handles[handle]

    def _new(self, path: Path, overwrite: bool) -> Path:
        if path.is_dir() or (path.exists() and not overwrite):
            name = path.relative_to(self.root.resolve())
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at the input path /{name}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def routes(self) -> list[Route]:
        api = "/api/{version:str}/dbfs"
        return [
            Route(f"{api}/get-status", self.get_status),
            Route(f"{api}/list", self.show),
            Route(f"{api}/read", self.read),
            Route(f"{api}/mkdirs", self.mkdirs, methods=["POST"]),
            Route(f"{api}/delete", self.delete, methods=["POST"]),
            Route(f"{api}/put", self.put, methods=["POST"]),
            Route(f"{api}/create", self.create, methods=["POST"]),
            Route(f"{api}/add-block", self.add_block, methods=["POST"]),
            Route(f"{api}/close", self.close, methods=["POST"]),
            Route("/dbfs/{path:path}", self.upload, methods=["POST"]),
            Route("/dbfs/{path:path}", self.download),
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
