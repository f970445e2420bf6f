"""A local workspace: the part of the Databricks API that this collection needs, for learning and tests.

    python on_databricks/workspace/serve.py [--port 8484] [--folder databricks-workspace]

It is not Databricks: no Spark, one user, one machine. It is there so that `mlflow run -b databricks-jobs`, the
Databricks SDK, jobs and notebooks can be tried without an account. A task really runs, on this machine, in a private
view of it; tracking and registry are a real MLflow server.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click
import runner
import task_check
import uvicorn
from files import Files
from jobs import USER, Jobs
from objects import Objects
from page import page
from serving import Serving
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from answers import Refusal, api
from tracking import Tracking

HOST = "127.0.0.1"
READY = 600.0  # seconds that the MLflow server may take to start
OPEN = ("/ml/", "/local/runs/", "/.well-known/", "/oidc/")  # read by a browser, or before a client has its token


class Door:
    """Middleware that lets in who names this machine and carries the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))):
            return await refusal.response()(scope, receive, send)
        await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> Refusal | None:
        path, given = request.url.path, request.headers.get("Authorization", "")
        if request.url.hostname not in (HOST, "localhost"):  # a page elsewhere that resolves its own name to here
            return Refusal("This workspace is reached at 127.0.0.1 only.", "PERMISSION_DENIED")
        if path == "/oidc/v1/token":  # it asks for credentials of another kind
            return None
        if request.method in ("GET", "HEAD") and (path == "/" or path.startswith(OPEN)):
            return None
        if not given.startswith("Bearer "):
            message = "Credential was not sent or was of an unsupported type for this API."
            return Refusal(message, "UNAUTHENTICATED")
        if not hmac.compare_digest(given.removeprefix("Bearer ").encode(), self.token.encode()):
            return Refusal("Invalid access token.", "UNAUTHENTICATED")
        return None


def sign_in(url: str, token: str) -> list[Route]:
    """How clients find the workspace, get a token and learn who they are."""

    async def machine_token(request: Request) -> Response:
        """OAuth for machines: the client is `local`, its secret the workspace's token."""
        given = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if not hmac.compare_digest(given.encode(), f"local:{token}".encode()):
            return JSONResponse({"error": "invalid_client", "error_description": "Client authentication failed"}, 401)
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    oidc = {"authorization_endpoint": f"{url}/oidc/v1/authorize", "token_endpoint": f"{url}/oidc/v1/token"}
    config = {"oidc_endpoint": f"{url}/oidc", "workspace_id": "1", "cloud": "AZURE"}
    return [
        api("GET", "/.well-known/databricks-config", lambda given: config),
        api("GET", "/oidc/.well-known/oauth-authorization-server", lambda given: oidc),
        Route("/oidc/v1/token", machine_token, methods=["POST"]),
        api("GET", "/api/2.0/preview/scim/v2/Me", lambda given: {"userName": USER, "active": True}),
    ]


def make_app(folder: Path, url: str, ui: str, token: str) -> Starlette:
    """The application: every API on its routes, behind the door that asks for the token."""
    jobs, tracking = Jobs(folder, url, token), Tracking(folder, ui)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def no_route(request: Request, error: Exception) -> Response:
        path = f"{request.method} {request.url.path}"
        return Refusal(f"No API found for '{path}': not in this local workspace.", "ENDPOINT_NOT_FOUND").response()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with tracking:
            yield
            jobs.stop()

    parts = (jobs, Files(folder), Objects(folder), Serving(folder), tracking)
    ours = [*sign_in(url, token), *task_check.ROUTES, page(jobs, ui)]
    app = Starlette(
        routes=[*ours, *(route for part in parts for route in part.routes())],
        exception_handlers={Refusal: refused, HTTPException: no_route},
        lifespan=lifespan,
    )
    app.add_middleware(Door, token=token)
    return app


def start_mlflow(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the MLflow server behind the workspace; its words go to server.log.

    Raises click.ClickException if it does not come up.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DATABRICKS_"))}
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [*runner.alone(), *command],
            env={**kept, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C ends the workspace, which then ends its server
        )
    deadline = time.monotonic() + READY
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
            return server
        time.sleep(0.1)
    server.kill()
    raise click.ClickException(f"The MLflow server did not start; see {folder / 'server.log'}.")


def read_token(folder: Path) -> str:
    """The token of the workspace, made at its first start and kept where only its owner reads it."""
    path = folder / "token"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"local-{secrets.token_hex(16)}")
    return path.read_text(encoding="utf-8").strip()


def listen(port: int) -> socket.socket:
    """A socket that listens on a port; raises click.BadParameter for one that something else has."""
    try:
        return socket.create_server((HOST, port))
    except OSError:
        raise click.BadParameter(f"port {port} is taken; give another.", param_hint="'--port'") from None


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65534), default=8484, show_default=True, help="The MLflow UI takes the next one."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="databricks-workspace",
    show_default=True,
    help="Where the workspace keeps what it is given.",
)
def serve(port: int, folder: Path) -> None:
    """A local workspace that speaks a part of the Databricks API. Not Databricks: for learning and tests."""
    runner.check()
    listening = listen(port)  # from now on a client waits and is not turned away
    listen(port + 1).close()
    folder = folder.resolve()
    for name in ("dbfs", "volumes", "workspace", "models", "jobs", "tracking/artifacts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    token = read_token(folder)
    url, ui = f"http://{HOST}:{port}", f"http://{HOST}:{port + 1}"
    server = start_mlflow(folder / "tracking", port + 1)
    try:
        click.echo(f"""A local workspace for learning and tests. It is not Databricks. In another terminal:

export DATABRICKS_HOST={url}
export DATABRICKS_TOKEN={token}
export MLFLOW_TRACKING_URI=databricks

Jobs: {url}    Runs and models: {ui}    Files: {folder}
Ctrl-C ends it and its jobs; what it holds stays in the folder.""")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            config = uvicorn.Config(make_app(folder, url, ui, token), log_level="warning", timeout_graceful_shutdown=3)
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    try:
        serve.main(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
