"""Reach a Databricks workspace: check in seconds that it answers, and then be patient while it is busy."""

from __future__ import annotations

import configparser
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import (
    DatabricksError,
    InternalError,
    PermissionDenied,
    ResourceConflict,
    TemporarilyUnavailable,
    TooManyRequests,
    Unauthenticated,
)

SECONDS_TO_ANSWER = 5
BUSY = (TooManyRequests, TemporarilyUnavailable, InternalError, TimeoutError, requests.RequestException)
PROBE = "/dbfs/mlflow-experiments/writable.txt"
ACCESS = "Set DATABRICKS_HOST and DATABRICKS_TOKEN, or DATABRICKS_CONFIG_PROFILE to a profile of ~/.databrickscfg."


class Stop(Protocol):
    """What says that the user, or the system, asked the program to end; `wait` waits for that so many seconds."""

    def is_set(self) -> bool: ...

    def wait(self, seconds: float) -> bool: ...


class StopRequestedError(Exception):
    """The user, or the system, asked the program to end."""


class UnansweredError(Exception):
    """The workspace was busy or away for longer than the patience."""


class Connection:
    """A workspace that answers.

    client: for the calls that MLflow does not make.
    patience: seconds to go on asking a workspace that is busy (429, 503) or away.
    stop: set when the user wants to end.
    """

    def __init__(self, client: WorkspaceClient, patience: float, stop: Stop) -> None:
        self.client = client
        self.patience = patience
        self.stop = stop

    @property
    def host(self) -> str:
        return str(self.client.config.host)

    def hide(self, text: str) -> str:
        """A text without the token."""
        token = self.client.config.token
        return text.replace(token, "***") if token else text

    def call(
        self, method: str, path: str, *, stop_on: tuple[type[Exception], ...] = BUSY, **arguments: Any
    ) -> dict[str, Any]:
        """What a route of the workspace answers; asks again, less and less often, while it is busy or away.

        stop_on: the answers after which the waiting ends when the user asks to.

        Raises DatabricksError where the workspace refuses, UnansweredError where the patience ends, StopRequestedError.
        """
        # Between two looks at a job a kept connection is closed by many a server, and the next request fails.
        fresh = {"Connection": "close"}
        return dict(self._ask(lambda: self.client.api_client.do(method, path, headers=fresh, **arguments), stop_on))

    def _ask(self, request: Callable[[], Any], stop_on: tuple[type[Exception], ...]) -> Any:
        begun, pause = time.monotonic(), 1.0
        while True:
            try:
                return request()
            except BUSY as raised:
                error = raised.__cause__ or raised  # what the SDK met before it said "Timed out"
                if time.monotonic() + pause > begun + self.patience:
                    raise UnansweredError(
                        f"{self.host} did not answer for {self.patience:g} seconds: {error}"
                    ) from None
                if pause == 1.0:
                    click.echo(f"{self.host} is busy or away, trying again: {one_line(error)}")
                heed = isinstance(error, stop_on)
            if not heed:
                time.sleep(pause)
            elif self.stop.wait(pause):
                raise StopRequestedError
            pause = min(2 * pause, 30)

    def check_storage(self) -> None:
        """Raise click.ClickException where the token is refused or DBFS cannot be written to."""
        try:
            self.call("GET", "/api/2.0/dbfs/get-status", query={"path": "/"})
            self.call("POST", PROBE, data=b"written by submit.py\n", raw=True)
        except ResourceConflict:  # it is there since the last time
            pass
        except DatabricksError as error:
            reason = one_line(error)
            # Databricks answers a wrong token with 401 or, at some of its doors, with 403 and a word about the token.
            if isinstance(error, Unauthenticated) or (
                isinstance(error, PermissionDenied) and "token" in reason.lower()
            ):
                raise click.ClickException(f"{self.host} refused the token: {reason} {ACCESS}") from None
            raise click.ClickException(
                f"The storage of {self.host} cannot be written to: {reason} MLflow sends a project by DBFS; "
                "in a workspace without a DBFS root deploy the bundle (databricks.yml) instead."
            ) from None


def connect(tracking_uri: str, patience: float, stop: Stop) -> Connection:
    """Reach the workspace of the environment variables or of a profile.

    tracking_uri: `databricks`, `databricks://PROFILE`, or the http address of an MLflow server beside the workspace.

    Raises click.ClickException where nothing says which workspace, or it does not answer within seconds.
    """
    profile = tracking_uri.removeprefix("databricks").removeprefix("://").strip("/")
    profile = profile if tracking_uri.startswith("databricks://") else ""
    profile = profile or os.environ.get("DATABRICKS_CONFIG_PROFILE", "")
    host = _host(profile)
    try:
        requests.head(host, timeout=SECONDS_TO_ANSWER, allow_redirects=False)
    except requests.Timeout:
        raise click.ClickException(f"{host} does not answer within {SECONDS_TO_ANSWER} seconds.") from None
    except requests.RequestException as error:
        raise click.ClickException(f"{host} cannot be reached: {_reason(error)}.") from None
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    settings: dict[str, Any] = {"profile": profile} if profile else {}  # a profile of None would hide some variables
    try:
        # A second is enough for one request: to ask again, and to say so, is left to Connection.
        config = Config(retry_timeout_seconds=1, http_timeout_seconds=60, **settings)
    except ValueError as error:
        raise click.ClickException(f"No access to {host}: {one_line(error)} {ACCESS}") from None
    return Connection(WorkspaceClient(config=config), patience, stop)


def _host(profile: str) -> str:
    """The address of the workspace."""
    host = os.environ.get("DATABRICKS_HOST", "")
    if not host or profile:
        path = Path(os.environ.get("DATABRICKS_CONFIG_FILE", "~/.databrickscfg")).expanduser()
        profiles = configparser.ConfigParser(default_section="", interpolation=None)
        try:
            profiles.read(path, encoding="utf-8")
        except configparser.Error as error:
            raise click.ClickException(f"{path} is malformed: {one_line(error)}") from None
        section = profile or "DEFAULT"
        if profile and section not in profiles:
            raise click.ClickException(f"There is no profile {profile} in {path}. {ACCESS}")
        host = profiles.get(section, "host", fallback=host)
    if not host:
        raise click.ClickException(f"Nothing says which Databricks workspace to use. {ACCESS}")
    return host if "://" in host else f"https://{host}"


def one_line(error: object) -> str:
    """What an error says, as one line that ends with a full stop, without the settings that the SDK repeats in it."""
    text = " ".join(str(error).split()).partition(" Config: ")[0]
    return text if text.endswith(".") else f"{text}."


def _reason(error: BaseException) -> str:
    """What the system said of a request that did not get through, at the bottom of the chain of errors."""
    found = error
    while following := found.__cause__ or found.__context__:
        found = following
    return str(getattr(found, "strerror", None) or found).rstrip(".")
