"""The processes of a deployment on this machine, and the file that says what is deployed. Imports neither MLflow nor
aiohttp, because the proxy and a model's own environment need it too.

A process that we start inherits a locked file. The kernel frees the lock when the process ends, however it ends, and
whatever its parent is: "the lock is held" says that it lives, and that the process id in the file is still its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

if sys.platform != "win32":  # so that this module can at least be imported on Windows
    import fcntl

TOKEN_VARIABLE = "DEPLOYMENT_TOKEN"
SERVER_TOKEN_HEADER = "x-model-server-token"
# What a model in an environment of its own inherits: where things are, and nothing that lets anyone in.
HARMLESS = [
    *("HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PATH", "SSL_CERT_FILE", "TMPDIR", "TZ"),
    *("MLFLOW_ENV_ROOT", "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "UV_CACHE_DIR", "XDG_CACHE_HOME"),
]


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
class Recording:
    """Where and which answered requests are recorded."""

    record: str  # an absolute path or a URI; the endpoint's rows lie in <record>/<endpoint>/date=YYYY-MM-DD/
    share: float  # of the requests
    omit: list[str]  # columns that are left out
    keep_days: int


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
    certificate: str = ""  # PEM file with a certificate and its key, for HTTPS
    recording: Recording | None = None


def read_state(directory: Path) -> State | None:
    """The state kept in `directory`, None when nothing is deployed there."""
    try:
        data = json.loads((directory / "state.json").read_text())
    except FileNotFoundError:
        return None
    servers = {colour: Server(**server) for colour, server in data["servers"].items()}
    recording = Recording(**data["recording"]) if data.get("recording") else None
    return State(**{**data, "servers": servers, "recording": recording})


def write_state(directory: Path, state: State) -> None:
    """Replace the state in `directory` by renaming, so that a reader or a crash sees the old one or the new one."""
    temporary = directory / "state.json.new"
    with open(temporary, "w", opener=private) as file:
        json.dump(dataclasses.asdict(state), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, directory / "state.json")


def private(path: str, flags: int) -> int:
    """Open a file that its owner alone may read: the opener of `open`."""
    return os.open(path, flags, 0o600)


def without_credentials() -> dict[str, str]:
    """The variables of this process that say where things are, and none that lets anyone in."""
    kept = {name: os.environ[name] for name in HARMLESS if name in os.environ}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true"}


def lock(file: TextIO) -> bool:
    """Take the lock of an open file; False when another process (or another opening of the file) holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def launch(
    command: list[str],
    folder: Path,
    name: str,
    environment: dict[str, str],
    record: dict[str, Any],
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one.

    It works in `folder`, writes to `name`.log there and holds `name`.lock, in which stand its process id and `record`.
    pass_fds: open files that it inherits.

    Raises RuntimeError where the process is already there.
    """
    with (
        open(folder / f"{name}.lock", "a+", opener=private) as file,
        open(folder / f"{name}.log", "ab", opener=private) as log,
    ):
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
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[file.fileno(), *pass_fds],
            start_new_session=True,
            umask=0o077,
        )
        file.write(json.dumps({"pid": process.pid, **record}))
    return process


def inherited() -> dict[str, str]:
    """The variables of this process, for one that outlives it: without its run and its token."""
    # The run that deploys ends long before the server, and the server must not write into it.
    return {key: value for key, value in os.environ.items() if key not in ("MLFLOW_RUN_ID", TOKEN_VARIABLE)}


def holder(folder: Path, name: str) -> dict[str, Any] | None:
    """The record of the living process that `launch` started, with its process id; None when it is gone."""
    while True:
        try:
            with open(folder / f"{name}.lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with contextlib.suppress(ValueError):  # being started this very moment: the record is not complete
                record: dict[str, Any] = json.loads((folder / f"{name}.lock").read_text())
                return record
        time.sleep(0.01)


def stop(folder: Path, name: str, timeout: float) -> None:
    """End a process started by `launch`, with SIGTERM and after `timeout` seconds with SIGKILL."""
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
        record = holder(folder, name)
        if record is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(record["pid"], number)  # with what it started itself
        deadline = time.monotonic() + patience
        while holder(folder, name) is not None and time.monotonic() < deadline:
            time.sleep(0.02)


def launch_server(server: Server) -> subprocess.Popen[bytes]:
    """Start MLflow's scoring server of a model on a free port of 127.0.0.1; it answers those who have its token."""
    command = [*server.python, "-m", "uvicorn", "--no-access-log", "server:app"]
    command += ["--app-dir", str(Path(__file__).with_name("local_scoring").absolute())]
    own = server.python == [sys.executable]
    # __pyfunc_model_path__ is where MLflow's app looks for its model (scoring_server._SERVER_MODEL_PATH).
    environment = (inherited() if own else without_credentials()) | {"__pyfunc_model_path__": server.model}
    environment["MODEL_SERVER_TOKEN"] = token = secrets.token_hex(16)
    with socket.socket() as bound:  # here, so that nobody else takes the port while the server starts
        bound.bind(("127.0.0.1", 0))
        record = {"port": bound.getsockname()[1], "token": token}
        command += ["--fd", str(bound.fileno())]
        return launch(command, Path(server.folder), "server", environment, record, pass_fds=(bound.fileno(),))


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
