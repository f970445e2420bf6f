"""Deploys a model on this machine, blue/green: MLflow's own scoring servers behind a reverse proxy on a fixed port."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import mlflow
import numpy
import pandas
import requests
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import scoring_server
from requests.adapters import HTTPAdapter

import local_proxy
import processes
import recorder
from candidate import serving_input
from model_files import download, pin, python_of, reason, same
from processes import (
    SERVER_TOKEN_HEADER,
    TOKEN_VARIABLE,
    Recording,
    Server,
    State,
    holder,
    private,
    read_state,
    write_state,
)
from target import Colour, DeploymentError, Status, check_canary

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5001  # `mlflow ui` and `mlflow models serve` have 5000
PROXY_TIMEOUT = 15.0  # s; a proxy that says nothing of itself for so long hangs

_log = logging.getLogger(__name__)


@dataclass
class LocalTarget:
    """One endpoint on this machine, with at most two versions behind it, `blue` and `green`: a `target.Target`.

    What it starts goes on when the program that called it ends. All its state is in `directory`: every new instance on
    the same directory finds what an earlier one deployed. Needs Linux or macOS. If the environment variable
    DEPLOYMENT_TOKEN is set, requests need it; it is handed to the proxy by the environment and written nowhere.

    directory: where the downloaded models, the logs and the state go; one endpoint each.
    host, port: where it listens; default those of the endpoint already in `directory`, else 127.0.0.1 and 5001; -1 for
    any free port. Any other host than this machine's own loopback needs a token.
    env_manager: `local` serves with this program's own packages, `uv` in the environment that the model asks for.
    certificate: PEM file with a certificate and its private key: the endpoint then speaks HTTPS.
    recording: what the next `deploy` has recorded of the requests; an empty `record` stops it. Default: as it was.
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
    start_timeout: float = 120
    drain_timeout: float = 75

    kind = "local"

    def __post_init__(self) -> None:
        if sys.platform == "win32":
            raise DeploymentError("target=local needs Linux or macOS (on Windows: WSL)")
        self.directory = self.directory.absolute()
        self.token = os.environ.get(TOKEN_VARIABLE)

    @property
    def owner(self) -> str:
        """Who serves here: this machine and the directory of the endpoint."""
        return f"{socket.gethostname()}:{self.directory}"

    def deploy(self, model_uri: str, *, canary: int = 100) -> Status:
        """Serve a model version: start it beside the live one, test it, then give it its share of the requests.

        A version that is up already is not started again: only its share changes.

        model_uri: `models:/churn@champion` (pinned to the version that the alias means now) or `models:/churn/3`.
        canary: percent of the requests that this version gets, 1 to 100; 100 when nothing else is deployed.

        Raises DeploymentError: nothing has changed, except that a proxy which had been killed runs again.
        """
        check_canary(canary)
        with self._lock("deploy"):
            state = self._state_to_change()
            self._sweep()  # what a deploy left that was killed
            uri, version, uuid = _identified(model_uri)
            before, state = state, self._with_recording(state)
            for colour, server in state.servers.items():
                if (server.model_uri, server.model_uuid) == (uri, uuid):
                    if state.traffic[colour] not in (canary, 100):
                        self._wait(server)
                        state = _shifted(state, colour, canary)
                    if state != before:
                        self._apply(state)
                    return self.status()
            live = [colour for colour, percent in state.traffic.items() if percent]
            if len(live) > 1:
                told = ", ".join(f"version {state.servers[c].version} {state.traffic[c]} %" for c in live)
                raise DeploymentError(f"a canary is under way ({told}): finish it (canary=100) or roll it back first")
            if not live and canary < 100:
                _log.warning("nothing else is deployed: version %s gets all requests, not %s %%", version, canary)
            new = "green" if live == ["blue"] else "blue"
            with self._started(uri, version, uuid) as server:
                self._smoke_test(server)
                replaced = state.servers.get(new)
                self._apply(_shifted(dataclasses.replace(state, servers={**state.servers, new: server}), new, canary))
            if replaced:
                self._drain(replaced)
            self._sweep()
            return self.status()

    def status(self) -> Status:
        """What is deployed now; a colour's state is `healthy` or says in words what is wrong."""
        state = self._read()
        if state is None:
            return Status(endpoint=self.name, scoring_uri="")
        view = self._ask(state, "GET", "/-/status")
        colours = {}
        for colour, server in sorted(state.servers.items()):
            if view is None:
                condition = "unreachable: the proxy is not running, `start` or `deploy` brings it back"
            elif not view.get(server.folder, {}).get("ready") or not _answers_ping(server):
                condition = f"down: it is being started again, see {server.folder}/server.log"
            elif restarts := view[server.folder]["restarts"]:
                condition = f"healthy; it had died and was started again ({restarts} x)"
            else:
                condition = "healthy"
            colours[colour] = Colour(server.model_uri.split("/")[1], server.version, condition, state.traffic[colour])
        recording = self._recorded(state) if view is not None else ""
        return Status(self.name, _url(state, "/invocations"), colours, recording)

    def start(self) -> Status:
        """Bring back what was deployed after the proxy was killed or hung, or the machine was switched off."""
        with self._lock("start"):
            state = self._deployed()
            self._revive(state)
            for colour, percent in state.traffic.items():
                if percent:
                    self._wait(state.servers[colour])
            return self.status()

    def rollback(self) -> Status:
        """Give all requests back to the colour that had them before the last deploy.

        The version that is rolled back stays up without requests; to take it again, deploy it again.
        """
        with self._lock("rollback"):
            state = self._deployed()
            if state.fallback is None:
                raise DeploymentError(f"{self.name} has no previous version to roll back to")
            self._revive(state)
            self._wait(state.servers[state.fallback])
            # No fallback: the version that was rolled back must not take over when this one has to be restarted.
            self._apply(dataclasses.replace(_shifted(state, state.fallback, 100), fallback=None))
            return self.status()

    def undeploy(self) -> None:
        """Finish the requests under way, stop every process that was started here and remove what was written here."""
        with self._lock("undeploy"):
            self._read()  # refuses another endpoint's directory
            processes.stop(self.directory, "proxy", self.drain_timeout)
            (self.directory / "state.json").unlink(missing_ok=True)
            self._sweep()
            shutil.rmtree(self.directory / "servers", ignore_errors=True)
            for leftover in ("state.json.new", "proxy.lock", "proxy.log", "failed.log", "operation.lock"):
                (self.directory / leftover).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there: not ours to remove
            self.directory.rmdir()

    def score(self, instances: pandas.DataFrame | dict[str, numpy.ndarray]) -> list[Any]:
        """Predictions of the endpoint, one for each row of a table or of the arrays of its columns.

        Raises DeploymentError: nothing is deployed, it cannot be reached, or the model refuses the instances.
        """
        state = self._deployed()
        url = _url(state, "/invocations")
        body = serving_input(instances)
        try:
            reply = self._request(state, "POST", "/invocations", timeout=2 * local_proxy.REQUEST_TIMEOUT, data=body)
        except requests.RequestException as error:
            raise DeploymentError(f"{url} cannot be reached ({reason(error)}): see status, and start it") from error
        if reply.status_code != 200:
            raise DeploymentError(f"{url} answered {reply.status_code}: {_reason(reply)}")
        predictions = reply.json()["predictions"]
        return predictions if isinstance(predictions, list) else [predictions]

    # The recording

    def _with_recording(self, state: State) -> State:
        """The state with the recording that is asked for, which can be written."""
        if self.recording is None:
            return state
        try:
            if self.recording.record:
                recorder.check(self.recording, self.name)
        except (OSError, ValueError) as error:
            raise DeploymentError(f"record={self.recording.record}: cannot be written ({reason(error)})") from error
        return dataclasses.replace(state, recording=self.recording if self.recording.record else None)

    def _recorded(self, state: State) -> str:
        """What has been recorded, in words."""
        counts = self._ask(state, "POST", "/-/recording") if state.recording else None
        if not state.recording or not counts:
            return ""
        lost = "".join(f"; {number:,} not recorded: {why}" for why, number in counts["lost"].items())
        waiting = f"; {counts['waiting']:,} not written yet" if counts["waiting"] else ""
        return f"recording to {state.recording.record}: {counts['recorded']:,} requests{waiting}{lost}"

    # State and lock

    def _read(self) -> State | None:
        state = read_state(self.directory)
        if state is not None:
            port = None if self.port == -1 else self.port
            given = {"name": self.name, "host": self.host, "port": port, "certificate": self.certificate or None}
            for key, wanted in given.items():
                if wanted is not None and wanted != getattr(state, key):
                    raise DeploymentError(
                        f"{key}={wanted}: in {self.directory} {state.name} is deployed on {state.host}:{state.port}; "
                        "take these, or undeploy it first"
                    )
        return state

    def _deployed(self) -> State:
        state = self._read()
        if state is None:
            raise DeploymentError(f"{self.name} is not deployed in {self.directory}")
        return state

    def _state_to_change(self) -> State:
        """What is deployed, with a running proxy; of a new endpoint its address, on which nobody listens."""
        state = self._read()
        if state is None:
            port = processes.free_port() if self.port == -1 else self.port or DEFAULT_PORT
            state = State(
                self.name, self.host or DEFAULT_HOST, port, bool(self.token), {}, {}, certificate=self.certificate
            )
            self._check_address(state)
        elif self.token and not state.token_required:
            raise DeploymentError(f"{self.name} was deployed without a token: undeploy it before you set one")
        else:
            self._revive(state)
        return state

    @contextlib.contextmanager
    def _lock(self, operation: str) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.directory / "operation.lock", "a+", opener=private) as file:
            if not processes.lock(file):
                file.seek(0)
                other = file.read() or "another operation"
                raise DeploymentError(f"{other} of {self.name} is under way: try again when it has ended")
            file.truncate(0)
            file.write(f"{operation} by process {os.getpid()}")
            file.flush()
            yield

    def _apply(self, state: State) -> None:
        """Put a state in force: for the running proxy in one step, and for every proxy started later."""
        before = read_state(self.directory)
        write_state(self.directory, state)
        try:
            self._follow(state)
        except BaseException:
            if before is None:
                processes.stop(self.directory, "proxy", 5)
                (self.directory / "state.json").unlink()
            else:
                write_state(self.directory, before)
                with contextlib.suppress(DeploymentError, requests.RequestException):
                    self._follow(before)
            raise

    # The proxy

    def _check_address(self, state: State) -> None:
        """Say what stands against listening there before a server is started for it."""
        host = state.host
        if state.certificate:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(state.certificate)
            except OSError as error:
                wanted = "a PEM file with a certificate and its private key"
                raise DeploymentError(f"certificate={state.certificate}: expected {wanted} ({error})") from error
        if not processes.is_loopback(host) and not self.token:
            raise DeploymentError(f"host={host} lets other machines in: set a token in {TOKEN_VARIABLE} first")
        self._listen(state).close()

    @staticmethod
    def _listen(state: State) -> socket.socket:
        """A socket that listens at the endpoint's address; DeploymentError where nobody can."""
        host, port = state.host, state.port
        try:
            return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise DeploymentError(f"port={port} of {host} is taken by another program: choose another") from error
            raise DeploymentError(f"cannot listen on host={host} port={port}: {error.strerror}") from error

    def _revive(self, state: State) -> None:
        if self._follow(state):
            _log.warning("the proxy of %s was not running: it was started again", self.name)

    def _follow(self, state: State) -> bool:
        """Have the proxy follow the state file; whether it had to be started for that, or in place of one that hung."""
        try:
            if self._ask(state, "POST", "/-/reload") is not None:
                return False
        except _ProxyHangsError:
            processes.stop(self.directory, "proxy", 1)
        if state.token_required and not self.token:
            raise DeploymentError(f"{self.name} was deployed with a token: set it in {TOKEN_VARIABLE}")
        # By the environment: the command line of a process can be read by every user of the machine.
        environment = processes.inherited()
        if self.token and state.token_required:
            environment[TOKEN_VARIABLE] = self.token
        command = [sys.executable, str(Path(local_proxy.__file__).absolute()), str(self.directory)]
        # It inherits the socket: while its lock is held, nobody else can answer at the endpoint's address.
        with self._listen(state) as listening:
            command.append(str(listening.fileno()))
            processes.launch(command, self.directory, "proxy", environment, {}, pass_fds=(listening.fileno(),))
        if self._ask(state, "GET", "/-/status", self.start_timeout) is None:
            tail = processes.log_tail(self.directory / "proxy.log", 3)
            raise DeploymentError(f"the proxy of {self.name} did not start: {tail}")
        return True

    def _ask(self, state: State, method: str, path: str, patience: float | None = None) -> dict[str, Any] | None:
        """What the proxy says of its servers, by folder; None when there is no proxy.

        Raises _ProxyHangsError where it is there and does not answer.
        """
        patience = patience or PROXY_TIMEOUT
        deadline = time.monotonic() + patience
        while holder(self.directory, "proxy") is not None:
            try:
                reply = self._request(state, method, path, timeout=patience)
            except requests.RequestException as error:  # it may just be starting, or ending
                if time.monotonic() > deadline:
                    raise _ProxyHangsError(f"the proxy of {self.name} does not answer: `start` replaces it") from error
                time.sleep(0.05)
                continue
            if reply.status_code == 401:
                raise DeploymentError(
                    f"{self.name} was deployed with a token, not this one: set it in {TOKEN_VARIABLE}"
                )
            if reply.status_code != 200:
                raise DeploymentError(f"the proxy of {self.name} answered {reply.status_code}: {_reason(reply)}")
            view: dict[str, Any] = reply.json()
            return view
        return None

    def _request(
        self, state: State, method: str, path: str, *, timeout: float, data: str | None = None
    ) -> requests.Response:
        """Ask the proxy; nothing is sent where another program listens on its port.

        Raises requests.RequestException.
        """
        if holder(self.directory, "proxy") is None:
            raise requests.ConnectionError("the proxy does not run")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return _http(method, _url(state, path), headers, timeout, data, state.certificate)

    # The servers

    @contextlib.contextmanager
    def _started(self, uri: str, version: str, uuid: str) -> Iterator[Server]:
        """A running, healthy server of a model; stopped and removed when the block fails."""
        (self.directory / "servers").mkdir(exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=self.directory / "servers"))
        try:
            model = download(uri, folder / "model")
            server = Server(str(folder), str(model), uri, version, uuid, python_of(model, self.env_manager))
            _log.info("starting version %s", version)
            self._wait(server, processes.launch_server(server))
            yield server
        except BaseException:  # Ctrl-C too
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(folder / "server.log", self.directory / "failed.log")
            self._sweep()
            raise

    def _wait(self, server: Server, process: subprocess.Popen[bytes] | None = None) -> None:
        """Return when a server answers; `process` is given for a new one, which is not waited for once it has ended."""
        deadline = time.monotonic() + self.start_timeout
        while not _answers_ping(server):
            if process is not None and process.poll() is not None:
                self._fail(server, f"ended while starting (exit code {process.returncode})")
            if time.monotonic() > deadline and process is not None:
                self._fail(server, f"did not answer /ping in {self.start_timeout:g} s")
            if time.monotonic() > deadline:
                log = f"see {server.folder}/server.log"
                raise DeploymentError(f"version {server.version} does not answer, so it gets no traffic: {log}")
            time.sleep(0.1)

    def _smoke_test(self, server: Server) -> None:
        """The server must answer the model's own input example as the model does without a server."""
        model = Model.load(server.model)
        example = model.get_serving_input(server.model)
        if isinstance(rows := model.load_input_example(server.model), pandas.DataFrame):
            example = serving_input(rows)  # MLflow's own form fails where only some times have a fraction of a second
        if example is None:
            _log.warning("version %s has no input example: its smoke test was /ping only", server.version)
            return
        try:
            reply = _ask_server(server, "POST", "/invocations", self.start_timeout, example)
            answer = reply.json() if reply.status_code == 200 else None
        except requests.RequestException as error:
            self._fail(server, f"broke off at its input example ({type(error).__name__})")
        if answer is None:
            self._fail(server, f"refused its own input example ({reply.status_code}: {_reason(reply)})")
        try:
            expected = self._predict_without_server(server, example)
        except Exception as error:  # whatever the code of a model raises
            self._fail(server, f"answers its input example only in the server, not here ({reason(error)})")
        if not same(answer, expected):
            answered, right = json.dumps(answer)[:200], json.dumps(expected)[:200]
            self._fail(server, f"answered its input example with {answered}, the model itself says {right}")

    def _predict_without_server(self, server: Server, example: str) -> Any:
        if self.env_manager == "local":
            model = mlflow.pyfunc.load_model(server.model)
            answer = scoring_server.invocations(example, "application/json", model, model.metadata.get_input_schema())
            return json.loads(answer.response)
        given, answered = (Path(server.folder) / name for name in ("example.json", "expected.json"))
        given.write_text(example)
        script = Path(__file__).with_name("local_scoring") / "expected.py"
        command = [*server.python, str(script), server.model, str(given), str(answered)]
        done = subprocess.run(command, env=processes.without_credentials(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return json.loads(answered.read_text())

    def _fail(self, server: Server, what: str) -> NoReturn:
        message = f"version {server.version} ({server.model_uri}) {what}; the traffic is as it was"
        tail = processes.log_tail(Path(server.folder) / "server.log")
        raise DeploymentError(f"{message}. The last lines of its log ({self.directory / 'failed.log'}):\n{tail}")

    def _drain(self, server: Server) -> None:
        deadline = time.monotonic() + self.drain_timeout
        while server.folder in (self._ask(self._deployed(), "GET", "/-/status") or {}):
            if time.monotonic() > deadline:
                _log.warning("version %s still has requests after %g s", server.version, self.drain_timeout)
                return
            time.sleep(0.05)

    def _sweep(self) -> None:
        """Stop and remove every server that the state does not name."""
        state = read_state(self.directory)
        wanted = {server.folder for server in state.servers.values()} if state else set()
        for folder in (self.directory / "servers").glob("*"):
            if str(folder) not in wanted:
                processes.stop(folder, "server", 10)
                shutil.rmtree(folder)


class _ProxyHangsError(DeploymentError):
    """The proxy is there and does not answer."""


def _identified(model_uri: str) -> tuple[str, str, str]:
    """The URI of a version, its number, and the model's own id: a registry that was made anew counts from 1 again."""
    uri, _, version = pin(model_uri)
    try:
        return uri, version, mlflow.models.get_model_info(uri).model_uuid
    except (MlflowException, OSError, requests.RequestException) as error:
        raise DeploymentError(f"model_uri={uri} cannot be found: {reason(error)}") from error


def _shifted(state: State, colour: str, percent: int) -> State:
    """The state in which a colour has `percent` of the traffic, the other one the rest and the role of fallback."""
    other = next((name for name in state.servers if name != colour), None)
    traffic = {colour: percent, other: 100 - percent} if other else {colour: 100}
    return dataclasses.replace(state, traffic=traffic, fallback=other)


def _ask_server(server: Server, method: str, path: str, timeout: float, data: str | None = None) -> requests.Response:
    """Ask a model server itself, with its token.

    Raises requests.RequestException, also where it does not run.
    """
    record = holder(Path(server.folder), "server")
    if record is None:
        raise requests.ConnectionError("it does not run")
    url = f"http://127.0.0.1:{record['port']}{path}"
    return _http(method, url, {SERVER_TOKEN_HEADER: record["token"]}, timeout, data)


def _answers_ping(server: Server) -> bool:
    with contextlib.suppress(requests.RequestException):
        return _ask_server(server, "GET", "/ping", 5).status_code == 200
    return False


class _OurCertificate(HTTPAdapter):
    """Trusts the endpoint's own certificate alone, for any name and from any authority: we ask this machine."""

    def __init__(self, file: str) -> None:
        pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", Path(file).read_text(), re.S)
        der = ssl.PEM_cert_to_DER_cert(pem.group() if pem else "")
        self.fingerprint = hashlib.sha256(der).hexdigest()
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, assert_fingerprint=self.fingerprint, **options)


def _http(
    method: str, url: str, headers: dict[str, str], timeout: float, data: str | None, certificate: str = ""
) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # a company's HTTP_PROXY must not get between us and this machine
        if certificate:
            session.mount("https://", _OurCertificate(certificate))
            session.verify = False  # not by an authority, but by its fingerprint
        headers = {"Content-Type": "application/json"} | headers
        return session.request(method, url, timeout=timeout, data=data, headers=headers)


def _url(state: State, path: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(state.host, state.host)
    scheme = "https" if state.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{state.port}{path}"


def _reason(reply: requests.Response) -> str:
    try:
        return reason(reply.json()["message"])
    except (ValueError, LookupError, TypeError):
        return reason(reply.text)
