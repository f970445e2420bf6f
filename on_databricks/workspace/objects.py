"""The Workspace API: notebooks, files and folders; `.dbc` archives unpacked."""

from __future__ import annotations

import base64
import binascii
import io
import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from files import inside
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from answers import Refusal, fields, flag, required

LARGEST = 10 * 1024 * 1024  # bytes of one import
COMMENT = {"PYTHON": "#", "SQL": "--", "SCALA": "//"}
SUFFIX = {"PYTHON": ".py", "SQL": ".sql", "SCALA": ".scala"}
HEADER = "Databricks notebook source"


class Objects:
    """`/Workspace`: a notebook is kept as its source, whose first line says that it is one and in which language."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "workspace"
        for path in ("Shared", "Users/you@example.test"):
            (self.root / path).mkdir(parents=True, exist_ok=True)

    async def add(self, request: Request) -> Response:
        """POST workspace/import: SOURCE, AUTO and DBC, as a form (the SDK's upload) or JSON with base64."""
        given, content = await _imported(request)
        name, path = self._path(given)
        kind = given.get("format") or "SOURCE"
        if len(content) > LARGEST:
            size = f"{len(content)} bytes, more than {LARGEST}"
            raise Refusal("MAX_NOTEBOOK_SIZE_EXCEEDED", f"The content to be imported is too large: {size}.")
        overwrite = flag(given.get("overwrite"))
        if kind == "DBC" and overwrite:
            raise Refusal("INVALID_PARAMETER_VALUE", "Overwriting is not supported with the format DBC.")
        if path.is_dir() or (path.exists() and not overwrite):
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"Path ({name}) already exists.")
        if not path.parent.is_dir():
            raise Refusal("RESOURCE_DOES_NOT_EXIST", f"The parent folder ({name.rpartition('/')[0]}) does not exist.")
        if kind == "DBC":
            _unpack(content, path)
        elif kind == "SOURCE":
            path.write_text(_notebook(content, given.get("language")), encoding="utf-8")
        elif kind == "AUTO":
            language = _language(content)
            is_notebook = language and path.suffix == SUFFIX[language]
            (path.with_suffix("") if is_notebook else path).write_bytes(content)
        else:
            raise Refusal("INVALID_PARAMETER_VALUE", f"Format {kind}: not in this local workspace (SOURCE, AUTO, DBC)")
        return JSONResponse({})

    async def export(self, request: Request) -> Response:
        """GET workspace/export."""
        given = await fields(request)
        name, path = self._there(given)
        if path.is_dir() or given.get("format", "SOURCE") not in ("SOURCE", "AUTO"):
            message = f"The export of {name}: not in this local workspace, which exports SOURCE of one notebook or file"
            raise Refusal("INVALID_PARAMETER_VALUE", message)
        content = path.read_bytes()
        if flag(given.get("direct_download")):
            return Response(content, media_type="application/octet-stream")
        return JSONResponse({"content": base64.b64encode(content).decode()})

    async def show(self, request: Request) -> Response:
        _, path = self._there(await fields(request))
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return JSONResponse({"objects": [self._described(each) for each in found]})

    async def get_status(self, request: Request) -> Response:
        return JSONResponse(self._described(self._there(await fields(request))[1]))

    async def mkdirs(self, request: Request) -> Response:
        name, path = self._path(await fields(request))
        for part in (path, *path.parents):
            if part.is_file():
                raise Refusal("RESOURCE_ALREADY_EXISTS", f"An object that is no folder stands in the way of {name}.")
        path.mkdir(parents=True, exist_ok=True)
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        given = await fields(request)
        name, path = self._there(given)
        if not path.is_dir():
            path.unlink()
        elif any(path.iterdir()) and not flag(given.get("recursive")):
            raise Refusal("DIRECTORY_NOT_EMPTY", f"Folder ({name}) is not empty")
        else:
            shutil.rmtree(path)
        return JSONResponse({})

    def _path(self, given: dict[str, Any]) -> tuple[str, Path]:
        name = str(required(given, "path")).removeprefix("/Workspace") or "/"
        if not name.startswith("/"):
            raise Refusal("INVALID_PARAMETER_VALUE", f"Path ({name}) doesn't start with '/'")
        return name, inside(self.root, name)

    def _there(self, given: dict[str, Any]) -> tuple[str, Path]:
        name, path = self._path(given)
        if not path.exists():
            raise Refusal("RESOURCE_DOES_NOT_EXIST", f"Path ({name}) doesn't exist.")
        return name, path

    def _described(self, path: Path) -> dict[str, Any]:
        name = "/" + path.relative_to(self.root.resolve()).as_posix().removeprefix(".")
        found: dict[str, Any] = {"path": name, "object_id": zlib.crc32(name.encode()), "object_type": "DIRECTORY"}
        if path.is_dir():
            return found
        content = path.read_bytes()
        language = _language(content)
        if language:
            return {**found, "object_type": "NOTEBOOK", "language": language}
        return {**found, "object_type": "FILE", "size": len(content)}

    def routes(self) -> list[Route]:
        api = "/api/2.0/workspace"
        return [
            Route(f"{api}/import", self.add, methods=["POST"]),
            Route(f"{api}/export", self.export),
            Route(f"{api}/list", self.show),
            Route(f"{api}/get-status", self.get_status),
            Route(f"{api}/mkdirs", self.mkdirs, methods=["POST"]),
            Route(f"{api}/delete", self.delete, methods=["POST"]),
        ]


async def _imported(request: Request) -> tuple[dict[str, Any], bytes]:
    """The fields of an import, and its content."""
    if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        async with request.form(max_part_size=2 * LARGEST) as form:
            given = {name: value for name, value in form.items() if isinstance(value, str)}
            part = form.get("content")
            if part is None:
                raise Refusal("INVALID_PARAMETER_VALUE", "Missing required field: content")
            return given, part.encode() if isinstance(part, str) else await part.read()
    given = await fields(request)
    try:
        return given, base64.b64decode(required(given, "content"), validate=True)
    except binascii.Error:
        raise Refusal("INVALID_PARAMETER_VALUE", "The content is not base64.") from None


def _language(content: bytes) -> str | None:
    """The language of a notebook, by its first line; None for any other file."""
    first = content[:200].decode(errors="replace").partition("\n")[0].strip()
    return next((language for language, comment in COMMENT.items() if first == f"{comment} {HEADER}"), None)


def _notebook(content: bytes, language: str | None) -> str:
    """The source of a notebook, with the first line that says so."""
    written = _language(content)
    if written:
        return content.decode()
    if language not in COMMENT:
        right = f"SOURCE needs a language that this local workspace knows: {', '.join(COMMENT)}"
        raise Refusal("INVALID_PARAMETER_VALUE", f"{right}; given: {language}")
    try:
        return f"{COMMENT[language]} {HEADER}\n{content.decode()}"
    except UnicodeDecodeError:
        raise Refusal("INVALID_PARAMETER_VALUE", "The source of a notebook must be text in UTF-8.") from None


def _unpack(content: bytes, folder: Path) -> None:
    """Make a folder of the notebooks of a `.dbc` archive; raises Refusal and leaves nothing for a bad one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if not name.endswith(("/", "manifest.mf"))]
            found = {name: json.loads(archive.read(name)) for name in names}
        sources = {inside(folder, _place(name, notebook)): _source(notebook) for name, notebook in found.items()}
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal("INVALID_PARAMETER_VALUE", f"The content is no DBC archive of notebooks: {error}") from None
    if not sources:
        raise Refusal("INVALID_PARAMETER_VALUE", "The DBC archive holds no notebook.")
    for path, source in sources.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def _place(name: str, notebook: dict[str, Any]) -> str:
    """Where a notebook of an archive goes: its folder there, its own name."""
    folder, _, _ = name.rpartition("/")
    return f"{folder}/{notebook['name']}"


def _source(notebook: dict[str, Any]) -> str:
    """A notebook of an archive as source; a command in another language than the notebook's is a magic cell."""
    if notebook["version"] != "NotebookV1":
        raise ValueError(f"notebook version {notebook['version']}")
    comment = COMMENT[notebook["language"].upper()]
    cells = []
    for command in sorted(notebook["commands"], key=lambda command: command.get("position", 0)):
        text = command["command"].lstrip("\n")  # real archives have a line break before %md
        if text.startswith("%"):
            text = "\n".join(f"{comment} MAGIC {line}".rstrip() for line in text.split("\n"))
        title = command.get("commandTitle")
        cells.append(f"{comment} DBTITLE 1,{title}\n{text}" if title and command.get("showCommandTitle") else text)
    return f"{comment} {HEADER}\n" + f"\n\n{comment} COMMAND ----------\n\n".join(cells) + "\n"
