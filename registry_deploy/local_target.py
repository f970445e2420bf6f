"""Serves a registered model on this machine: MLflow's own scoring servers behind a reverse proxy on a fixed port."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

import local_proxy
import processes
import recorder
from candidate import Candidate, predictions_of
from model_files import reason
from processes import TOKEN_VARIABLE, Recording, Server, State, holder, read_state, write_state
from rollout import Target
from support.ports import free_port
from target import Colour, DeploymentError, Status

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5001  # `mlflow ui` and `mlflow models serve` have 5000
PROXY_TIMEOUT = 15.0  # s; a proxy that says nothing of itself for so long hangs

_log = logging.getLogger(__name__)


@dataclass
class LocalTarget(Target):
    """One endpoint on this machine, with at most two versions behind it.

    What it starts goes on when the program that called it ends. All its state is in `directory`: every new instance on
    the same directory finds what an earlier one deployed. Needs Linux or macOS. If the environment variable
    DEPLOYMENT_TOKEN is set, requests need it; it is handed to the proxy by the environment and written nowhere.

    directory: where the downloaded models, the logs and the state go; one endpoint each.
    host, port: where it listens; default those of the endpoint already in `directory`, else 127.0.0.1 and 5001; -1 for
    any free port. Any other host than this machine's own loopback needs a token.
    env_manager: `local` serves with this program's own packages, `uv` in the environment that the model asks for.
    certificate: PEM file with a certificate and its private key: the endpoint then speaks HTTPS.
    recording: what the next `deploy` has recorded of the requests; an empty `record` stops it. Default: as it was.
    say: where progress is told.
    start_timeout: seconds that a server may take until it answers /ping.
    drain_timeout: seconds that a replaced server may take to finish its requests before it is stopped.
    """

    name: str
    _: dataclasses.KW_ONLY
    directory: Path
    host: str | None = None
    port: int | None = None
    env_manager: str = "local"
    certificate: str = ""
    recording: Recording | None = None
    say: Callable[[str], object] = print
    start_timeout: float = 300
    drain_timeout: float = 75

    kind = "local"
    colours = ("blue", "green")

    def __post_init__(self) -> None:
        if sys.platform == "win32":
            raise DeploymentError("target=local needs Linux or macOS (on Windows: WSL)")
        self.directory = self.directory.absolute()
        self.token = os.environ.get(TOKEN_VARIABLE)
        self._started: dict[str, Server] = {}  # by the operation under way, by colour

    @property
    def owner(self) -> str:
        """Who serves here: this machine and the directory of the endpoint."""
        return f"{socket.gethostname()}:{self.directory}"

    def status(self) -> Status:
        """What is deployed now; a colour's state is `healthy` or says in words what is wrong."""
        state = self._state()
        if not state.servers:
            return Status(self.name, found=state)
        view, colours = self._ask_proxy(state, "GET", "/-/status"), {}
        for colour, server in sorted(state.servers.items()):
            if view is None:
                condition = "unreachable: the proxy is not running, `start` or `deploy` brings it back"
            elif not view.get(server.folder, {}).get("ready") or not _answers_ping(server):
                condition = f"down: it is being started again, see {server.folder}/server.log"
            elif restarts := view[server.folder]["restarts"]:
                condition = f"healthy; it had died and was started again ({restarts} x)"
            else:
                condition = "healthy"
            name, identity = server.model_uri.split("/")[1], f"{server.model_uri} {server.model_uuid}"
            colours[colour] = Colour(name, server.version, condition, state.traffic[colour], identity)
        recording = self._recorded(state) if view is not None and state.recording else ""
        return Status(self.name, _url(state, "/invocations"), colours, state.fallback or "", recording, state)

    def start(self) -> Status:
        """Bring back what was deployed after the proxy was killed or hung, or the machine was switched off."""
        with self._changing("start"):
            before = self._deployed()
            for colour in before.live:
                self._wait(before.found.servers[colour])
            return self.status()

    # The state, and who may change it

    def _state(self) -> State:
        """What is deployed, or an endpoint without servers; DeploymentError where the directory is another one's."""
        state = read_state(self.directory)
        port = None if self.port == -1 else self.port
        if state is None:
            address = self.host or DEFAULT_HOST, port or (DEFAULT_PORT if self.port != -1 else free_port())
            return State(self.name, *address, bool(self.token), {}, {}, certificate=self.certificate)
        given = {"name": self.name, "host": self.host, "port": port, "certificate": self.certificate or None}
        for key, wanted in given.items():
            if wanted is not None and wanted != getattr(state, key):
                there = f"in {self.directory} {state.name} is deployed on {state.host}:{state.port}"
                raise DeploymentError(f"{key}={wanted}: {there}; take these, or undeploy it first")
        return state

    @contextlib.contextmanager
    def _changing(self, operation: str) -> Iterator[Path]:
        """One operation at a time, with a running proxy; what the state does not name at its end is removed."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.directory / "operation.lock", "a+", opener=processes.private) as file:
            if not processes.lock(file):
                file.seek(0)
                other = file.read() or "another operation"
                raise DeploymentError(f"{other} of {self.name} is under way: try again when it has ended")
            file.truncate(0)
            file.write(f"{operation} by process {os.getpid()}")
            file.flush()
            self._started = {}
            state = self._state()
            if operation == "deploy":
                self._check_address(state)
            if state.servers and operation != "undeploy" and self._follow(state):
                _log.warning("the proxy of %s was not running: it was started again", self.name)
            servers = self.directory / "servers"
            servers.mkdir(exist_ok=True, mode=0o700)
            try:
                yield Path(tempfile.mkdtemp(dir=servers))
            finally:
                self._sweep()

    def _sweep(self) -> None:
        """Stop and remove every server that the state does not name, also those of a deploy that was killed."""
        state = read_state(self.directory)
        wanted = {server.folder for server in state.servers.values()} if state else set()
        for folder in (self.directory / "servers").glob("*"):
            if str(folder) not in wanted:
                processes.stop(folder, "server", 10)
                shutil.rmtree(folder)

    def _check_address(self, state: State) -> None:
        """Say what stands against the address, the token and the recording before anything is begun."""
        if self.recording and self.recording.record:
            try:
                recorder.check(self.recording, self.name)
            except (OSError, ValueError) as error:
                told = f"record={self.recording.record}: cannot be written ({reason(error)})"
                raise DeploymentError(told) from error
        if state.servers:
            if self.token and not state.token_required:
                raise DeploymentError(f"{self.name} was deployed without a token: undeploy it before you set one")
            return
        if state.certificate:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(state.certificate)
            except OSError as error:
                wanted = "a PEM file with a certificate and its private key"
                raise DeploymentError(f"certificate={state.certificate}: expected {wanted} ({error})") from error
        if not processes.is_loopback(state.host) and not self.token:
            raise DeploymentError(f"host={state.host} lets other machines in: set a token in {TOKEN_VARIABLE} first")
        _listen(state).close()

    # What a rollout needs

    def _check(self, model: Candidate) -> None:
        if model.request is None:
            self.say(f"{model.title}: no input example: its smoke test is /ping only")

    def _identity(self, model: Candidate) -> str:
        return f"{model.uri} {model.identity}"

    def _start(self, model: Candidate, colour: str, before: Status) -> None:
        folder, path = str(model.folder), str(model.path)
        server = Server(folder, path, model.uri, model.version, model.identity, model.python)
        self._started[colour] = server
        self._wait(server, processes.launch_server(server))

    def _wait(self, server: Server, process: subprocess.Popen[bytes] | None = None) -> None:
        """Return when a server answers; `process` is given for a new one, which nobody starts again."""
        deadline = time.monotonic() + self.start_timeout
        while not _answers_ping(server):
            if process is not None and process.poll() is not None:
                raise DeploymentError(f"version {server.version} ended while starting (exit code {process.returncode})")
            if time.monotonic() > deadline:
                log = "" if process else f": see {server.folder}/server.log"  # of a new one the end is printed
                raise DeploymentError(f"version {server.version} did not answer /ping in {self.start_timeout:g} s{log}")
            time.sleep(0.1)

    def _ask(self, request: str, colour: str = "") -> Any:
        state = self._state()
        if not (state.servers or colour):
            raise self._nothing()
        where = f"{colour} of {self.name}" if colour else _url(state, "/invocations")
        try:
            if colour:
                server = {**state.servers, **self._started}[colour]
                self._wait(server)
                reply = _ask_server(server, "POST", "/invocations", self.start_timeout, request)
            else:
                reply = self._request(state, "POST", "/invocations", 2 * local_proxy.REQUEST_TIMEOUT, request)
        except HTTPError as error:
            if colour in self._started:
                raise DeploymentError(f"{where} broke off at its input example ({reason(error)})") from error
            raise DeploymentError(f"{where} cannot be reached ({reason(error)}): see status, and start it") from error
        if reply.status != 200:
            raise DeploymentError(f"{where} answered {reply.status}: {_reason(reply)}")
        return predictions_of(reply.json())

    def _route(self, before: Status, traffic: dict[str, int], previous: str) -> None:
        """Put a state in force: for the running proxy in one step, and for every proxy started later."""
        state: State = before.found
        servers = {**state.servers, **self._started}
        for colour in traffic.keys() & state.servers.keys():
            if traffic[colour] > state.traffic[colour]:
                self._wait(servers[colour])
        shares = {colour: traffic.get(colour, 0) for colour in servers}
        recording = self.recording or state.recording
        recording = recording if recording and recording.record else None
        # Without a previous colour: the version that was rolled back must not take over when this one is restarted.
        wanted = replace(state, servers=servers, traffic=shares, fallback=previous or None, recording=recording)
        if wanted != read_state(self.directory):
            write_state(self.directory, wanted)
            self._follow(wanted)

    def _undo(self, before: Status, colour: str, wanted: dict[str, int]) -> str:
        state: State = before.found
        if not state.servers:
            processes.stop(self.directory, "proxy", 5)
            (self.directory / "state.json").unlink(missing_ok=True)
        elif read_state(self.directory) != state:
            write_state(self.directory, state)
            with contextlib.suppress(DeploymentError, HTTPError):
                self._follow(state)
        if (server := self._started.get(colour)) is None:
            return ""
        log, kept = Path(server.folder) / "server.log", self.directory / "failed.log"
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(log, kept)
        return f"{kept}:\n{processes.log_tail(log)}"

    def _tidy(self, before: Status, kept: Collection[str]) -> None:
        """Let a server that was replaced finish its requests, before it is removed."""
        state, deadline = self._state(), time.monotonic() + self.drain_timeout
        for server in before.found.servers.values():
            while server not in state.servers.values() and server.folder in (
                self._ask_proxy(state, "GET", "/-/status") or {}
            ):
                if time.monotonic() > deadline:
                    _log.warning("version %s still has requests after %g s", server.version, self.drain_timeout)
                    return
                time.sleep(0.05)

    def _remove(self) -> bool:
        """Finish the requests under way, stop every process that was started here, remove what was written here."""
        there = bool(self._state().servers)
        processes.stop(self.directory, "proxy", self.drain_timeout)
        (self.directory / "state.json").unlink(missing_ok=True)
        self._sweep()
        shutil.rmtree(self.directory / "servers", ignore_errors=True)
        for leftover in ("state.json.new", "proxy.lock", "proxy.log", "failed.log", "operation.lock"):
            (self.directory / leftover).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there: not ours to remove
            self.directory.rmdir()
        return there

    # The proxy

    def _recorded(self, state: State) -> str:
        """What has been recorded, in words."""
        counts = self._ask_proxy(state, "POST", "/-/recording")
        if not state.recording or not counts:
            return ""
        lost = "".join(f"; {number:,} not recorded: {why}" for why, number in counts["lost"].items())
        waiting = f"; {counts['waiting']:,} not written yet" if counts["waiting"] else ""
        return f"recording to {state.recording.record}: {counts['recorded']:,} requests{waiting}{lost}"

    def _follow(self, state: State) -> bool:
        """Have the proxy follow the state file; whether it had to be started for that, or in place of one that hung."""
        try:
            if self._ask_proxy(state, "POST", "/-/reload") is not None:
                return False
        except _ProxyHangsError:
            processes.stop(self.directory, "proxy", 1)
        if state.token_required and not self.token:
            raise DeploymentError(f"{self.name} was deployed with a token: set it in {TOKEN_VARIABLE}")
        environment = processes.inherited()
        if self.token and state.token_required:
            environment[TOKEN_VARIABLE] = self.token  # every user of the machine can read a command line
        command = [sys.executable, str(Path(local_proxy.__file__).absolute()), str(self.directory)]
        # It inherits the socket: while its lock is held, nobody else can answer at the endpoint's address.
        with _listen(state) as listening:
            command.append(str(listening.fileno()))
            processes.launch(command, self.directory, "proxy", environment, {}, pass_fds=(listening.fileno(),))
        if self._ask_proxy(state, "GET", "/-/status", self.start_timeout) is None:
            tail = " ... ".join(processes.log_tail(self.directory / "proxy.log", 3).splitlines())
            raise DeploymentError(f"the proxy of {self.name} did not start: {tail}")
        return True

    def _ask_proxy(self, state: State, method: str, path: str, patience: float = 0) -> dict[str, Any] | None:
        """What the proxy says of its servers, by folder; None when there is no proxy.

        Raises _ProxyHangsError where it is there and does not answer.
        """
        patience = patience or PROXY_TIMEOUT
        deadline = time.monotonic() + patience
        while holder(self.directory, "proxy") is not None:
            try:
                reply = self._request(state, method, path, patience)
            except HTTPError as error:  # it may just be starting, or ending
                if time.monotonic() > deadline:
                    raise _ProxyHangsError(f"the proxy of {self.name} does not answer: `start` replaces it") from error
                time.sleep(0.05)
                continue
            if reply.status == 401:
                told = f"{self.name} was deployed with a token, not this one: set it in {TOKEN_VARIABLE}"
                raise DeploymentError(told)
            if reply.status != 200:
                raise DeploymentError(f"the proxy of {self.name} answered {reply.status}: {_reason(reply)}")
            view: dict[str, Any] = reply.json()
            return view
        return None

    def _request(
        self, state: State, method: str, path: str, timeout: float, data: str | None = None
    ) -> BaseHTTPResponse:
        """Ask the proxy; nothing is sent where another program listens on its port.

        Raises HTTPError.
        """
        if holder(self.directory, "proxy") is None:
            raise HTTPError("the proxy does not run")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return _http(method, _url(state, path), headers, timeout, data, state.certificate)


class _ProxyHangsError(DeploymentError):
    """The proxy is there and does not answer."""


def _listen(state: State) -> socket.socket:
    """A socket that listens at the endpoint's address; DeploymentError where nobody can."""
    host, port = state.host, state.port
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise DeploymentError(f"port={port} of {host} is taken by another program: choose another") from error
        raise DeploymentError(f"cannot listen on host={host} port={port}: {error.strerror}") from error


def _ask_server(server: Server, method: str, path: str, timeout: float, data: str | None = None) -> BaseHTTPResponse:
    """Ask a model server itself, with its token.

    Raises HTTPError, also where it does not run.
    """
    record = holder(Path(server.folder), "server")
    if record is None:
        raise HTTPError("it does not run")
    url, headers = f"http://127.0.0.1:{record['port']}{path}", {processes.SERVER_TOKEN_HEADER: record["token"]}
    return _http(method, url, headers, timeout, data)


def _answers_ping(server: Server) -> bool:
    with contextlib.suppress(HTTPError):
        return _ask_server(server, "GET", "/ping", 5).status == 200
    return False


def _http(
    method: str, url: str, headers: dict[str, str], timeout: float, data: str | None, certificate: str = ""
) -> BaseHTTPResponse:
    """Ask this machine; a proxy for HTTP in the environment does not get between. Raises urllib3's HTTPError.

    certificate: the endpoint's own, which alone is trusted, for any name and from any authority.
    """
    trust: dict[str, Any] = {}
    if certificate:
        text = Path(certificate).read_text()
        pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.S)
        der = ssl.PEM_cert_to_DER_cert(pem.group() if pem else "")
        trust = {"cert_reqs": "CERT_NONE", "assert_fingerprint": hashlib.sha256(der).hexdigest()}
    with PoolManager(retries=False, **trust) as pool:
        headers = {"Content-Type": "application/json"} | headers
        return pool.request(method, url, body=data, headers=headers, timeout=timeout)


def _url(state: State, path: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(state.host, state.host)
    scheme = "https" if state.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{state.port}{path}"


def _reason(reply: BaseHTTPResponse) -> str:
    try:
        return reason(reply.json()["message"])
    except (ValueError, LookupError, TypeError):
        return reason(reply.data.decode(errors="replace"))
