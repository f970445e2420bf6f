"""A real Git server on loopback: `git http-backend` behind a small HTTP server, with or without a password."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

COLLECTION = Path(__file__).resolve().parent.parent

# What a Git client needs so that the settings of the person who runs the tests have no say.
HERMETIC = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.test",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.test",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


class GitServer:
    """Serves every bare repository in a folder, read-only: `http://127.0.0.1:<port>/<name>.git`.

    folder: where the bare repositories lie.
    credentials: the user and password that it asks for; None lets everybody in.
    """

    def __init__(self, folder: Path, credentials: tuple[str, str] | None = None) -> None:
        self.folder = folder
        self.expected = credentials and "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
        git = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                git._answer(self)

            def do_POST(self) -> None:
                git._answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        """The address of a repository."""
        return f"http://127.0.0.1:{self.port}/{name}.git"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, answered by `git http-backend` as a CGI program."""
        body = _body(request)
        if self.expected and request.headers.get("Authorization") != self.expected:
            _reply(request, 401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        address = urlsplit(request.path)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                **HERMETIC,
                "GIT_PROJECT_ROOT": str(self.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": request.command,
                "PATH_INFO": unquote(address.path),
                "QUERY_STRING": address.query,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        _reply(request, status, headers, content)


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _reply(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def git(*arguments: str | Path, folder: Path) -> str:
    """Run git in a folder, without the user's own settings; returns what it prints."""
    return subprocess.run(
        ["git", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **HERMETIC},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


class Repository:
    """A bare repository to be served, with a working tree beside it that pushes to it.

    served: the folder of the server.
    name: `<name>.git` in that folder.
    """

    def __init__(self, served: Path, tree: Path, name: str) -> None:
        self.bare = served / f"{name}.git"
        self.tree = tree
        tree.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", "--initial-branch=master", self.bare, folder=tree)
        git("init", "--quiet", "--initial-branch=master", folder=tree)
        git("remote", "add", "origin", self.bare, folder=tree)

    def commit(self, message: str, *, tag: str = "", branch: str = "master") -> str:
        """Commit all that lies in the working tree and push it; returns the full hash."""
        git("add", "--all", folder=self.tree)
        git("commit", "--quiet", "--allow-empty", "--message", message, folder=self.tree)
        if tag:
            git("tag", "--annotate", tag, "--message", tag, folder=self.tree)
        git("push", "--quiet", "--force", "--tags", "origin", f"HEAD:refs/heads/{branch}", folder=self.tree)
        return git("rev-parse", "HEAD", folder=self.tree)

    def forget(self) -> None:
        """Delete from the served repository what no branch or tag leads to, as a hosting service does in time."""
        git("reflog", "expire", "--expire=now", "--all", folder=self.bare)
        git("gc", "--quiet", "--prune=now", folder=self.bare)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, those of .git as well."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_collection(tree: Path) -> None:
    """Copy the files of this collection, committed or not, without those that .gitignore names."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=COLLECTION)
    for name in filter(None, listed.split("\0")):
        source, target = COLLECTION / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
