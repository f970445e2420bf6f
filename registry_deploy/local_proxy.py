"""The process behind a local deployment: a reverse proxy before the model servers, which it restarts when they die.

`local_target.py` starts it as ``python local_proxy.py DIRECTORY``. It reads DIRECTORY/state.json, shares the requests
among the MLflow scoring servers named there, and reads it again on ``POST /-/reload``. It never imports MLflow, so that
it starts in half a second and stays small.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import ipaddress
import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import aiohttp
from aiohttp import web

if sys.platform != "win32":  # so that this module can at least be imported on Windows
    import fcntl

TOKEN_VARIABLE = "DEPLOYMENT_TOKEN"
VERSION_HEADER = "x-mlflow-model-version"
COLOUR_HEADER = "x-mlflow-deployment"

PATHS = ("/invocations", "/ping", "/health", "/version")  # what a scoring server offers
MAX_BODY = 100 * 2**20  # bytes; a request is held in memory so that it can be sent again
REQUEST_TIMEOUT = 5 + float(os.environ.get("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "60"))  # s; MLflow gives up before
HEALTHY_TIMEOUT = 60.0  # s that a request waits for a healthy server before it is refused
MAX_LOST = 3  # a request under which this many servers broke off is not sent to another one

_log = logging.getLogger("local_proxy")


@dataclasses.dataclass(frozen=True)
class Server:
    """One model version and what it takes to serve it again after a crash."""

    folder: str  # holds its log and its lock; no two servers ever share one
    model: str  # the downloaded model
    model_uri: str  # pinned: never an alias
    version: str
    model_uuid: str
    python: list[str]  # the command that runs Python in the model's environment


@dataclasses.dataclass(frozen=True)
class State:
    """What is deployed: written by LocalTarget only, read by the proxy."""

    name: str
    host: str
    port: int
    token_required: bool
    servers: dict[str, Server]  # by colour
    traffic: dict[str, int]  # percent by colour, 100 in all
    fallback: str | None = None  # the colour to roll back to; it also takes over while the live one restarts


def read_state(directory: Path) -> State | None:
    """The state kept in `directory`, None when nothing is deployed there."""
    try:
        data = json.loads((directory / "state.json").read_text())
    except FileNotFoundError:
        return None
    return State(**{**data, "servers": {colour: Server(**server) for colour, server in data["servers"].items()}})


def write_state(directory: Path, state: State) -> None:
    """Replace the state in `directory` by renaming, so that a reader or a crash sees the old one or the new one."""
    temporary = directory / "state.json.new"
    with open(temporary, "w") as file:
        json.dump(dataclasses.asdict(state), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, directory / "state.json")


# A process that we start inherits a locked file. The kernel frees the lock when the process ends, however it ends, and
# whoever its parent is: "the lock is held" says that it lives, and that the process id in the file is still its own.


def lock(file: TextIO) -> bool:
    """Take the lock of an open file; False when another process (or another opening of the file) holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def launch(
    command: list[str], folder: Path, name: str, environment: dict[str, str], port: int
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one.

    It works in `folder`, writes to `name`.log there and holds `name`.lock, in which stand its process id and its port.
    `environment` comes on top of this process's own.

    Raises:
        RuntimeError: the process is already there.
    """
    # The run that deploys ends long before the server, and the server must not write into it.
    inherited = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_RUN_ID", TOKEN_VARIABLE)}
    with open(folder / f"{name}.lock", "a+") as file, open(folder / f"{name}.log", "ab") as log:
        for _ in range(100):  # holder() takes the lock for a moment to look whether it is free
            if lock(file):
                break
            time.sleep(0.01)
        else:
            raise RuntimeError(f"{folder / name} is already running")
        file.truncate(0)
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[file.fileno()],
            start_new_session=True,
        )
        file.write(json.dumps({"pid": process.pid, "port": port}))
    return process


def holder(folder: Path, name: str) -> dict[str, int] | None:
    """The process id and the port of the living process that `launch` started, None when it is gone."""
    while True:
        try:
            with open(folder / f"{name}.lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with contextlib.suppress(ValueError):  # being started this very moment: the record is not complete
                record: dict[str, int] = json.loads((folder / f"{name}.lock").read_text())
                return record
        time.sleep(0.01)


def launch_server(server: Server) -> subprocess.Popen[bytes]:
    """Start the server that `mlflow models serve` starts, on a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*server.python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    command.append("mlflow.pyfunc.scoring_server.app:app")
    # __pyfunc_model_path__ is where that app looks for its model (mlflow.pyfunc.scoring_server._SERVER_MODEL_PATH).
    return launch(command, Path(server.folder), "server", {"__pyfunc_model_path__": server.model}, port)


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Backend:
    """A model server as the proxy sees it."""

    def __init__(self, colour: str, server: Server, session: aiohttp.ClientSession) -> None:
        self.colour = colour
        self.server = server
        self.session = session
        self.folder = Path(server.folder)
        self.port = 0
        self.ready = False
        self.in_flight = 0
        self.restarts = 0
        self.credit = 0
        self.wake = asyncio.Event()
        self.process: subprocess.Popen[bytes] | None = None

    def check_alive(self) -> bool:
        """Whether the process is there; if not, its supervisor starts another one at once."""
        if self.process is not None:
            self.process.poll()  # a dead child of ours would stay as a zombie
        record = holder(self.folder, "server")
        if record is None:
            self.ready = False
            self.wake.set()
            return False
        self.port = record["port"]
        return True

    async def check_ready(self) -> bool:
        """Ask a server that was not ready whether its model is loaded now."""
        if self.check_alive():
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=5)
                async with self.session.get(f"http://127.0.0.1:{self.port}/ping", timeout=timeout) as reply:
                    # Whoever answers on that port is our server only if that is still there.
                    self.ready = reply.status == 200 and self.check_alive()
        return self.ready

    async def supervise(self) -> None:
        """Keep the server running, for ever; one that does not start is tried less and less often."""
        name = f"{self.colour} (version {self.server.version})"
        pause = 0.5
        while True:
            self.wake.clear()
            if not self.check_alive():
                tail = log_tail(self.folder / "server.log", 5)
                _log.error("%s is not running: starting it. The last lines of its log:\n%s", name, tail)
                self.restarts += 1
                try:
                    self.process = launch_server(self.server)
                    while self.process.poll() is None and not await self.check_ready():
                        await asyncio.sleep(0.1)
                except (OSError, RuntimeError):
                    _log.exception("%s cannot be started", name)
                if self.ready:
                    _log.info("%s serves again", name)
                    pause = 0.5
                else:
                    _log.error("%s did not start: next try in %g s", name, pause)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 60)
            elif not self.ready:
                await self.check_ready()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), timeout=0.25)


class Proxy:
    """Shares the requests among the backends as the state says, and loses none when a backend dies or is replaced."""

    def __init__(self, directory: Path, token: str | None) -> None:
        self.directory = directory
        self.token = token
        self.backends: dict[str, Backend] = {}  # by colour
        self.retired: list[Backend] = []  # no longer in the state, perhaps still answering a request
        self.supervisors: dict[Backend, asyncio.Task[None]] = {}

    async def run(self, _: web.Application) -> Any:
        """Set up before the first request, clean up after the last one (an aiohttp clean-up context)."""
        # The servers close an idle connection after 5 s: let go of it earlier, or a request would meet the closing.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self.session:
            await self.load()
            yield
            for task in self.supervisors.values():
                task.cancel()

    async def load(self) -> None:
        """Take over the state from its file: from here on every new request follows it."""
        state = read_state(self.directory)
        if state is None:
            raise RuntimeError(f"{self.directory} holds no state.json")
        known = {backend.server.folder: backend for backend in self.backends.values()}
        backends = {
            colour: known.get(server.folder) or Backend(colour, server, self.session)
            for colour, server in state.servers.items()
        }
        # A new server is asked before the switch: no request meets one that has not yet been seen healthy.
        await asyncio.gather(*(backend.check_ready() for backend in backends.values() if not backend.ready))
        self.state, previous, self.backends = state, self.backends, backends
        for backend in backends.values():
            backend.credit = 0
            if backend not in self.supervisors:
                self.supervisors[backend] = asyncio.create_task(backend.supervise())
        for backend in previous.values():
            if backend not in backends.values():
                self.supervisors.pop(backend).cancel()
                self.retired.append(backend)
        shares = [f"{colour} (version {s.version}) {state.traffic[colour]} %" for colour, s in state.servers.items()]
        _log.info("traffic: %s", ", ".join(shares))

    def choose(self) -> Backend | None:
        """The backend of the next request, None when none is healthy.

        Smooth weighted round-robin: of 100 requests in a row a colour with 10 % gets exactly 10, spread evenly.
        """
        ready = [b for b in self.backends.values() if b.ready and self.state.traffic[b.colour] > 0]
        if not ready:
            fallback = self.backends.get(self.state.fallback or "")
            return fallback if fallback is not None and fallback.ready else None
        for backend in ready:
            backend.credit += self.state.traffic[backend.colour]
        chosen = max(ready, key=lambda backend: backend.credit)
        chosen.credit -= sum(self.state.traffic[backend.colour] for backend in ready)
        return chosen

    async def forward(self, request: web.Request) -> web.Response:
        """Pass a request to one model server; scoring changes nothing, so it is sent again when the server dies."""
        body = await request.read()
        headers = {key: request.headers[key] for key in ("Content-Type", "Accept") if key in request.headers}
        # /ping and the like ask how things are now: they are not made to wait until things are better.
        deadline = time.monotonic() + (HEALTHY_TIMEOUT if request.path == "/invocations" else 0)
        lost = 0
        while True:
            backend = self.choose()
            if backend is None:
                if time.monotonic() > deadline:
                    return _refuse(503, "no model server is healthy")
                await asyncio.sleep(0.05)
                continue
            backend.in_flight += 1
            try:
                url = f"http://127.0.0.1:{backend.port}{request.path}"
                # Read to its end before a byte goes out: the whole answer comes from one version, or from the next try.
                async with self.session.request(
                    request.method, url, data=body or None, headers=headers, allow_redirects=False
                ) as reply:
                    content = await reply.read()
                    kept = {key: reply.headers[key] for key in ("Content-Type", "Allow") if key in reply.headers}
                    kept |= {VERSION_HEADER: backend.server.version, COLOUR_HEADER: backend.colour}
                    return web.Response(status=reply.status, body=content, headers=kept)
            except TimeoutError:
                return _refuse(504, f"version {backend.server.version} did not answer in {REQUEST_TIMEOUT:g} s")
            except aiohttp.ClientError as error:
                backend.check_alive()
                if not isinstance(error, aiohttp.ClientConnectorError):  # else the request never reached the server
                    lost += 1
                _log.warning("%s (version %s) broke off: %r", backend.colour, backend.server.version, error)
                if lost == MAX_LOST:
                    return _refuse(502, f"given up: {lost} model servers in a row broke off at this request")
                await asyncio.sleep(0.02)  # a dying process may hold its lock some milliseconds longer than its sockets
            finally:
                backend.in_flight -= 1

    async def status(self, _: web.Request) -> web.Response:
        """What only the proxy knows of each server, by folder; a retired one is listed while it answers requests."""
        self.retired = [backend for backend in self.retired if backend.in_flight]
        backends = [*self.backends.values(), *self.retired]
        keys = ("ready", "in_flight", "restarts")
        return web.json_response({b.server.folder: {key: getattr(b, key) for key in keys} for b in backends})

    async def reload(self, request: web.Request) -> web.Response:
        """Follow a changed state file; the answer is `status` under the new state."""
        await self.load()
        return await self.status(request)

    @web.middleware
    async def authorise(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let nobody in without the token, when there is one."""
        given = request.headers.get("Authorization", "").encode(errors="replace")
        if self.token and not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return _refuse(401, "send the deployment's token: 'Authorization: Bearer <token>'")
        response: web.StreamResponse = await handler(request)
        return response


def _refuse(status: int, message: str) -> web.Response:
    # The shape of the scoring server's own errors.
    return web.json_response({"error_code": str(status), "message": message}, status=status)


def main() -> None:
    """Serve until SIGTERM, then finish the requests under way."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    directory = Path(sys.argv[1])
    state = read_state(directory)
    token = os.environ.pop(TOKEN_VARIABLE, None)  # popped: the model servers started from here need not know it
    if state is None:
        sys.exit(f"{directory} holds no state.json")
    if not token and (state.token_required or not is_loopback(state.host)):
        sys.exit(f"{TOKEN_VARIABLE} is not set, and {state.name} on {state.host} is not served without a token")
    proxy = Proxy(directory, token)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[proxy.authorise])
    app.cleanup_ctx.append(proxy.run)
    app.add_routes([web.get("/-/status", proxy.status), web.post("/-/reload", proxy.reload)])
    for path in PATHS:
        app.router.add_route("*", path, proxy.forward)
    try:
        web.run_app(app, host=state.host, port=state.port, access_log=None, print=None)
    except OSError as error:
        sys.exit(f"cannot listen on {state.host}:{state.port}: {error.strerror}")


if __name__ == "__main__":
    main()
