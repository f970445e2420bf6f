"""The Workspace API: notebooks, files and folders; `.dbc` archives unpacked."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
import zlib
from pathlib import Path

from files import inside
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from answers import Fields, Refusal, api, fields, flag, required

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
        kind, overwrite = given.get("format") or "SOURCE", flag(given.get("overwrite"))
        if len(content) > LARGEST:
            size = f"{len(content)} bytes, more than {LARGEST}"
            raise Refusal(f"The content to be imported is too large: {size}.", "MAX_NOTEBOOK_SIZE_EXCEEDED")
        if kind == "DBC" and overwrite:
            raise Refusal("Overwriting is not supported with the format DBC.")
        if path.is_dir() or (path.exists() and not overwrite):
            raise Refusal(f"Path ({name}) already exists.", "RESOURCE_ALREADY_EXISTS")
        if not path.parent.is_dir():
            message = f"The parent folder ({name.rpartition('/')[0]}) does not exist."
            raise Refusal(message, "RESOURCE_DOES_NOT_EXIST")
        language = _language(content)
        if kind == "DBC":
            for file, source in _sources(content, path).items():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(source, encoding="utf-8")
        elif kind == "SOURCE":
            if not language and given.get("language") not in COMMENT:
                known = f"{', '.join(COMMENT)}; given: {given.get('language')}"
                raise Refusal(f"SOURCE needs a language that this local workspace knows: {known}")
            first = "" if language else f"{COMMENT[given['language']]} {HEADER}\n"
            path.write_bytes(first.encode() + content)
        elif kind == "AUTO":
            is_notebook = language and path.suffix == SUFFIX[language]
            (path.with_suffix("") if is_notebook else path).write_bytes(content)
        else:
            raise Refusal(f"Format {kind}: not in this local workspace (SOURCE, AUTO, DBC)")
        return JSONResponse({})

    async def export(self, request: Request) -> Response:
        """GET workspace/export."""
        given = await fields(request)
        path = self._there(given)
        if path.is_dir() or given.get("format", "SOURCE") not in ("SOURCE", "AUTO"):
            raise Refusal("This export: not in this local workspace, which exports SOURCE of one notebook or file")
        content = path.read_bytes()
        if flag(given.get("direct_download")):
            return Response(content, media_type="application/octet-stream")
        return JSONResponse({"content": base64.b64encode(content).decode()})

    def show(self, given: Fields) -> Fields:
        """GET workspace/list."""
        path = self._there(given)
        return {"objects": [self._described(each) for each in (sorted(path.iterdir()) if path.is_dir() else [path])]}

    def mkdirs(self, given: Fields) -> None:
        """POST workspace/mkdirs."""
        name, path = self._path(given)
        if any(part.is_file() for part in (path, *path.parents)):
            raise Refusal(f"An object that is no folder stands in the way of {name}.", "RESOURCE_ALREADY_EXISTS")
        path.mkdir(parents=True, exist_ok=True)

    def delete(self, given: Fields) -> None:
        """POST workspace/delete."""
        path = self._there(given)
        if not path.is_dir():
            path.unlink()
        elif any(path.iterdir()) and not flag(given.get("recursive")):
            raise Refusal(f"Folder ({given['path']}) is not empty", "DIRECTORY_NOT_EMPTY")
        else:
            shutil.rmtree(path)

    def routes(self) -> list[Route]:
        workspace = "/api/2.0/workspace"
        return [
            Route(f"{workspace}/import", self.add, methods=["POST"]),
            Route(f"{workspace}/export", self.export),
            api("GET", f"{workspace}/list", self.show),
            api("GET", f"{workspace}/get-status", lambda given: self._described(self._there(given))),
            api("POST", f"{workspace}/mkdirs", self.mkdirs),
            api("POST", f"{workspace}/delete", self.delete),
        ]

    def _path(self, given: Fields) -> tuple[str, Path]:
        name = str(required(given, "path")).removeprefix("/Workspace") or "/"
        if not name.startswith("/"):
            raise Refusal(f"Path ({name}) doesn't start with '/'")
        return name, inside(self.root, name)

    def _there(self, given: Fields) -> Path:
        name, path = self._path(given)
        if not path.exists():
            raise Refusal(f"Path ({name}) doesn't exist.", "RESOURCE_DOES_NOT_EXIST")
        return path

    def _described(self, path: Path) -> Fields:
        name = "/" + path.relative_to(self.root.resolve()).as_posix().removeprefix(".")
        found: Fields = {"path": name, "object_id": zlib.crc32(name.encode())}
        if path.is_dir():
            return {**found, "object_type": "DIRECTORY"}
        if language := _language(path.read_bytes()):
            return {**found, "object_type": "NOTEBOOK", "language": language}
        return {**found, "object_type": "FILE", "size": path.stat().st_size}


async def _imported(request: Request) -> tuple[Fields, bytes]:
    """The fields of an import, and its content."""
    if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        async with request.form(max_part_size=2 * LARGEST) as form:
            given = {name: value for name, value in form.items() if isinstance(value, str)}
            part = required(dict(form), "content")
            return given, part.encode() if isinstance(part, str) else await part.read()
    given = await fields(request)
    try:
        return given, base64.b64decode(required(given, "content"), validate=True)
    except ValueError:
        raise Refusal("The content is not base64.") from None


def _language(content: bytes) -> str | None:
    """The language of a notebook, by its first line; None for any other file."""
    first = content[:200].decode(errors="replace").partition("\n")[0].strip()
    return next((language for language, comment in COMMENT.items() if first == f"{comment} {HEADER}"), None)


def _sources(content: bytes, folder: Path) -> dict[Path, str]:
    """The notebooks of a `.dbc` archive as source, by the file that each becomes; raises Refusal for a bad archive."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if not name.endswith(("/", "manifest.mf")):
                    notebook = json.loads(archive.read(name))
                    found[inside(folder, f"{name.rpartition('/')[0]}/{notebook['name']}")] = _source(notebook)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"The content is no DBC archive of notebooks: {error}") from None
    if not found:
        raise Refusal("The DBC archive holds no notebook.")
    return found


def _source(notebook: Fields) -> str:
    """A notebook of an archive as source; a command in another language than the notebook's is a magic cell."""
    if notebook["version"] != "NotebookV1":
        raise ValueError(f"notebook version {notebook['version']}")
    if (language := notebook["language"].upper()) not in COMMENT:
        raise Refusal(f"A notebook in {language}: not in this local workspace ({', '.join(COMMENT)})")
    comment = COMMENT[language]
    cells = []
    for command in sorted(notebook["commands"], key=lambda command: command.get("position", 0)):
        text = command["command"].lstrip("\n")  # real archives have a line break before %md
        if text.startswith("%"):
            text = "\n".join(f"{comment} MAGIC {line}".rstrip() for line in text.split("\n"))
        title = command.get("commandTitle")
        cells.append(f"{comment} DBTITLE 1,{title}\n{text}" if title and command.get("showCommandTitle") else text)
    return f"{comment} {HEADER}\n" + f"\n\n{comment} COMMAND ----------\n\n".join(cells) + "\n"
