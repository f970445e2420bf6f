"""The process behind a local deployment: a reverse proxy before the model servers, which it restarts when they die.

`local_target.py` starts it as ``python local_proxy.py DIRECTORY SOCKET`` and hands it the listening socket. It reads
DIRECTORY/state.json, shares the requests among the MLflow scoring servers named there, and reads it again on
``POST /-/reload``. It never imports MLflow, so that it starts in half a second and stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from processes import (
    SERVER_TOKEN_HEADER,
    TOKEN_VARIABLE,
    Recording,
    Server,
    holder,
    is_loopback,
    launch_server,
    log_tail,
    read_state,
)
from recording import Feed, request_id

ID_HEADER = "x-request-id"
VERSION_HEADER = "x-mlflow-model-version"

PATHS = ("/invocations", "/ping", "/health", "/version")  # what a scoring server offers
MAX_BODY = 100 * 2**20  # bytes; a request is held in memory so that it can be sent again
REQUEST_TIMEOUT = 5 + float(os.environ.get("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "60"))  # s; MLflow gives up before
HEALTHY_TIMEOUT = 60.0  # s that a request waits for a healthy server before it is refused
IDLE_TIMEOUT = 60.0  # s that a client may take to begin a request, and to send its body
PING_TIMEOUT = 1.5  # s; a server that misses two in a row, and has not worked meanwhile, hangs
BUSY_MISSES = 40  # pings that a server may miss while it works
MAX_LOST = 3  # a request under which this many servers broke off is not sent to another one

_log = logging.getLogger("local_proxy")


def processor_seconds(pid: int) -> tuple[float, bool]:
    """The processor time of a process, and whether a thread of it wants more now; 0 and False except on Linux."""
    seconds, wants = 0.0, False
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        wants = any(") R " in thread.read_text() for thread in Path(f"/proc/{pid}/task").glob("*/stat"))
    return seconds, wants


class Backend:
    """A model server as the proxy sees it."""

    def __init__(self, colour: str, server: Server, session: aiohttp.ClientSession) -> None:
        self.colour = colour
        self.server = server
        self.session = session
        self.name = f"{colour} (version {server.version})"
        self.pid = self.port = 0
        self.headers: dict[str, str] = {}
        self.ready = False
        self.in_flight = self.restarts = 0
        self.credit = 0  # see Proxy.choose
        self.missed, self.worked = 0, 0.0  # pings in a row, and processor seconds at the last one
        self.process: subprocess.Popen[bytes] | None = None
        self.supervisor: asyncio.Task[None] | None = None

    def check_alive(self) -> bool:
        """Whether the process is there; if not, its supervisor starts another one."""
        if self.process is not None:
            self.process.poll()  # a dead child of ours would stay as a zombie
        record = holder(Path(self.server.folder), "server")
        if record is None:
            self.ready = False
            return False
        self.pid, self.port, self.headers = record["pid"], record["port"], {SERVER_TOKEN_HEADER: record["token"]}
        return True

    async def check_ready(self) -> bool:
        """Ask a server whether its model is loaded and it answers."""
        answered = False
        if self.check_alive():
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=PING_TIMEOUT)
                url = f"http://127.0.0.1:{self.port}/ping"
                async with self.session.get(url, headers=self.headers, timeout=timeout) as reply:
                    # What answers on that port is our server only if that is still there.
                    answered = reply.status == 200 and self.check_alive()
        if answered:
            self.ready, self.missed = True, 0
        return answered

    def miss(self) -> None:
        """Kill a server that has missed pings and does not work: its requests then go to another one."""
        worked, wants = processor_seconds(self.pid)
        busy = wants or worked - self.worked > 0.2  # on a machine with much to do it may get little time
        self.missed, self.worked = self.missed + 1, worked
        if self.missed >= (BUSY_MISSES if busy else 2):
            _log.error("%s hangs: it is killed", self.name)
            self.ready = False
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def supervise(self) -> None:
        """Keep the server running, for ever; one that does not start is tried less and less often."""
        pause = 0.5
        while True:
            if not self.check_alive():
                await self.restart()
                pause = 0.5 if self.ready else min(2 * pause, 64)
                told = "serves again" if self.ready else f"did not start: next try in {pause:g} s"
                _log.info("%s %s", self.name, told)
            elif not await self.check_ready() and self.ready and self.check_alive():
                self.miss()
            await asyncio.sleep(pause)

    async def restart(self) -> None:
        """Start the server again and wait until it is ready or has ended."""
        tail = log_tail(Path(self.server.folder) / "server.log", 5)
        _log.error("%s is not running: starting it. The last lines of its log:\n%s", self.name, tail)
        self.restarts += 1
        self.missed = 0
        try:
            self.process = launch_server(self.server)
            while self.process.poll() is None and not await self.check_ready():
                await asyncio.sleep(0.1)
        except (OSError, RuntimeError):
            _log.exception("%s cannot be started", self.name)


class Proxy:
    """Shares the requests among the backends as the state says, and loses none when a backend dies or is replaced."""

    def __init__(self, directory: Path, token: str | None) -> None:
        self.directory = directory
        self.token = token
        self.backends: dict[str, Backend] = {}  # by colour
        self.retired: list[Backend] = []  # no longer in the state, perhaps still answering a request
        self.feed: Feed | None = None  # to the recorder
        self.closing: set[asyncio.Task[None]] = set()  # old recorders, which write what they have
        self.silent: set[Any] = set()  # the new connections, on which no request has come yet

    async def run(self, _: web.Application) -> Any:
        """Set up before the first request, clean up after the last one (an aiohttp clean-up context)."""
        # The servers close an idle connection after 5 s: let go of it earlier, or a request would meet the closing.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self.session:
            await self.load()
            yield
            for backend in self.backends.values():
                if backend.supervisor:
                    backend.supervisor.cancel()
            await self.record(None)
            await asyncio.gather(*self.closing)

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
            backend.supervisor = backend.supervisor or asyncio.create_task(backend.supervise())
        for backend in previous.values():
            if backend.supervisor and backend not in backends.values():
                backend.supervisor.cancel()
                self.retired.append(backend)
        _log.info("traffic: %s", ", ".join(f"{b.name} {state.traffic[b.colour]} %" for b in backends.values()))
        await self.record(state.recording)

    async def record(self, wanted: Recording | None) -> None:
        """Follow a changed recording; an old recorder writes what it has, and ends."""
        old = self.feed
        if wanted != (old.recording if old else None):
            self.feed = Feed(wanted, self.state.name) if wanted else None
            if old:  # not awaited: a proxy that reloads must answer before it is taken for one that hangs
                self.closing = {each for each in self.closing if not each.done()}
                self.closing.add(asyncio.create_task(old.close()))

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
        try:
            body = await asyncio.wait_for(request.read(), IDLE_TIMEOUT)
        except TimeoutError:
            return _refuse(408, f"the request was not complete in {IDLE_TIMEOUT:g} s")
        headers = {key: request.headers[key] for key in ("Content-Type", "Accept") if key in request.headers}
        # /ping and the like ask how things are now: they are not made to wait until things are better.
        patience = HEALTHY_TIMEOUT if request.path == "/invocations" else 0
        deadline, lost = time.monotonic() + patience, 0
        while True:
            backend = self.choose()
            if backend is None:
                if time.monotonic() > deadline:
                    return _refuse(503, "no model server is healthy")
                await asyncio.sleep(0.05)
                continue
            backend.in_flight += 1
            try:
                response = await self.ask(backend, request, body, headers)
                if request.path == "/invocations":
                    self.identify(request, backend, body, response)
                return response
            except TimeoutError:
                return _refuse(504, f"version {backend.server.version} did not answer in {REQUEST_TIMEOUT:g} s")
            except aiohttp.ClientError as error:
                backend.check_alive()
                if not isinstance(error, aiohttp.ClientConnectorError):  # else the request never reached the server
                    lost += 1
                    deadline = time.monotonic() + patience  # for the next server to start
                _log.warning("%s broke off: %r", backend.name, error)
                if lost == MAX_LOST:
                    return _refuse(502, f"given up: {lost} model servers in a row broke off at this request")
                await asyncio.sleep(0.02)  # a dying process may hold its lock some milliseconds longer than its sockets
            finally:
                backend.in_flight -= 1

    def identify(self, request: web.Request, backend: Backend, body: bytes, response: web.Response) -> None:
        """Give an answer the id of its request, and record both."""
        identifier = request_id(request.headers.get(ID_HEADER, ""))
        response.headers[ID_HEADER] = identifier
        if self.feed and response.status == 200 and isinstance(response.body, bytes):
            model, kind = backend.server.model_uri.split("/")[1], request.headers.get("Content-Type", "")
            self.feed.add(identifier, model, backend.server.version, kind, body, response.body)

    async def ask(self, backend: Backend, request: web.Request, body: bytes, headers: dict[str, str]) -> web.Response:
        """The answer of one model server.

        Read to its end before a byte goes out: the whole answer comes from one version, or from the next try.
        """
        url = f"http://127.0.0.1:{backend.port}{request.path}"
        async with self.session.request(
            request.method, url, data=body or None, headers=headers | backend.headers, allow_redirects=False
        ) as reply:
            content = await reply.read()
            kept = {key: reply.headers[key] for key in ("Content-Type", "Allow") if key in reply.headers}
            kept[VERSION_HEADER] = backend.server.version
            return web.Response(status=reply.status, body=content, headers=kept)

    async def status(self, _: web.Request) -> web.Response:
        """What only the proxy knows of each server, by folder; a retired one is listed while it answers requests."""
        self.retired = [backend for backend in self.retired if backend.in_flight]
        backends = [*self.backends.values(), *self.retired]
        keys = ("ready", "in_flight", "restarts")
        return web.json_response({b.server.folder: {key: getattr(b, key) for key in keys} for b in backends})

    async def recorded(self, _: web.Request) -> web.Response:
        """What has been recorded since the proxy started, or since the recording was changed."""
        return web.json_response(await self.feed.counts() if self.feed else {})

    async def reload(self, request: web.Request) -> web.Response:
        """Follow a changed state file; the answer is `status` under the new state."""
        await self.load()
        return await self.status(request)

    @web.middleware
    async def authorise(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let nobody in without the token, when there is one."""
        self.silent.discard(request.protocol)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode(errors="replace"), (self.token or "").encode())
        if self.token and not (known and scheme.lower() == "bearer"):
            return _refuse(401, "send the deployment's token: 'Authorization: Bearer <token>'")
        response: web.StreamResponse = await handler(request)
        return response

    def connection(self, server: Any) -> Any:
        """The protocol of a new connection; it is closed when no request comes."""
        protocol = server()
        self.silent.add(protocol)

        def hang_up() -> None:
            if protocol in self.silent:
                self.silent.discard(protocol)
                if protocol.transport is not None:
                    protocol.transport.close()

        asyncio.get_running_loop().call_later(IDLE_TIMEOUT, hang_up)
        return protocol


def _refuse(status: int, message: str) -> web.Response:
    # The shape of the scoring server's own errors.
    return web.json_response({"error_code": str(status), "message": message}, status=status)


async def serve(directory: Path, listening: socket.socket) -> None:
    """Serve at a listening socket until SIGTERM, then finish the requests under way."""
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
    app.add_routes([web.post("/-/recording", proxy.recorded)])
    for path in PATHS:
        app.router.add_route("*", path, proxy.forward)
    encryption = None
    if state.certificate:
        encryption = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        encryption.load_cert_chain(state.certificate)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75, shutdown_timeout=REQUEST_TIMEOUT)
    await runner.setup()
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    inner = runner.server
    # Not web.SockSite: it would keep a connection for ever on which no request comes.
    server = await loop.create_server(lambda: proxy.connection(inner), sock=listening, ssl=encryption)
    await stopped.wait()
    server.close()
    await runner.cleanup()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
