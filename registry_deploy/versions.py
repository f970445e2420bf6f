"""What the registry's verbs share: find a version, see who uses it, move the champion, one change at a time."""

from __future__ import annotations

import getpass
import json
import logging
import os
import random
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import click
import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from model_files import REGISTERED, reason
from support.table import bad

CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"

# Tags of ours on a registered model, written with `tag_key` and read with `tags_of`.
HISTORY = "champion."
LOCK = "lock."

LOCK_SECONDS = 60.0  # what is done under the lock takes a second: an older lock was left by a process that died
LOCK_WAIT = 10.0  # seconds to wait for the lock of another process


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the tracking server or the registry refuses into one line, a click.ClickException."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        raise click.ClickException(f"MLflow: {reason(error)}") from None


def quiet() -> None:
    """Silence what MLflow says at each request and nobody can act on."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The page of each child run; that of the parent is told by `say_where_to_look`.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Of a target in integers, which is never missing.
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    for name in ("mlflow.tracking.fluent", "mlflow.models.evaluation", "mlflow.store"):
        logging.getLogger(name).setLevel(logging.ERROR)


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601; sorts as text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def who() -> str:
    """Who runs this: the user of the tracking server, else of this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


def moment(milliseconds: int) -> str:
    """A time of MLflow's in UTC, to the minute."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def in_unity_catalog() -> bool:
    """Whether the registry is Databricks's Unity Catalog, where a model is called catalog.schema.model."""
    return mlflow.get_registry_uri().startswith("databricks-uc")


def tag_key(key: str) -> str:
    """What the registry calls a tag: Unity Catalog refuses six characters, of which each becomes `__<code>__` there."""
    return re.sub(r"[.,\-=/:]", lambda found: f"__{ord(found[0]):02X}__", key) if in_unity_catalog() else key


def tags_of(thing: Any) -> dict[str, str]:
    """The tags of a version or a registered model, by the keys that `tag_key` was given."""
    named = re.compile(r"__(2C|2D|2E|2F|3A|3D)__")
    return {named.sub(lambda found: chr(int(found[1], 16)), key): value for key, value in thing.tags.items()}


def find_version(model_uri: str, parameter: str = "model_uri") -> ModelVersion:
    """The registered version behind `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises click.BadParameter where there is none.
    """
    parts = REGISTERED.fullmatch(model_uri)
    if parts is None:
        raise bad(parameter, model_uri, "names no version: give models:/<name>@<alias> or models:/<name>/<version>.")
    name, alias, number = parts.groups()
    client = MlflowClient()
    with _known(parameter, model_uri):
        return client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, alias)


def find_model(name: str) -> Any:
    """A registered model with its aliases and tags.

    Raises click.BadParameter where there is none.
    """
    with _known("name", name):
        return MlflowClient().get_registered_model(name)


@contextmanager
def _known(parameter: str, value: str) -> Iterator[None]:
    """One line for a name that is not there; what else the registry says, such as a lack of rights, stays as it is."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise
        hint = "; promote a version first" if value.endswith(f"@{CHAMPION}") else ""
        raise bad(parameter, value, f"is not in the registry: {reason(error).rstrip('.')}{hint}.") from None


def champions(model: Any) -> dict[str, dict[str, Any]]:
    """Who became champion of a registered model, by time, the oldest first: version, former, by and run."""
    noted = {key.removeprefix(HISTORY): value for key, value in tags_of(model).items() if key.startswith(HISTORY)}
    return {at: json.loads(noted[at]) for at in sorted(noted)}


def aliases(name: str) -> dict[str, str]:
    """Alias -> version of a registered model."""
    return {alias: str(version) for alias, version in MlflowClient().get_registered_model(name).aliases.items()}


def versions(name: str) -> list[ModelVersion]:
    """All versions of a registered model, the newest first, with their tags."""
    quote = '"' if "'" in name else "'"  # MLflow knows no escape
    found = mlflow.search_model_versions(filter_string=f"name={quote}{name}{quote}")
    if in_unity_catalog():  # what a search finds there has neither tags nor aliases nor the model's id
        found = [MlflowClient().get_model_version(name, version.version) for version in found]
    return sorted(found, key=lambda version: -int(version.version))


def say_whose(version: ModelVersion) -> None:
    """Warn on stderr where another user has registered a version: to load a model is to run its program."""
    by = tags_of(version).get("registered_by", "")
    if by and by != who():
        uri = f"models:/{version.name}/{version.version}"
        click.echo(f"{uri} was registered by {by}, not by {who()}: loading it runs its program.", err=True)


@contextmanager
def exclusive(name: str, what: str) -> Iterator[Callable[[], None]]:
    """Let one process at a time change a registered model; yields a function that raises when the lock was lost.

    Each process first writes a tag of its own (`lock.<id>`) on the registered model and then reads all. Who reads no
    other has the lock. Of several, the one with the lowest id leaves its tag and reads again, the others take theirs
    away and try again after a random pause: so one gets through, however many there are. That holds for every tracking
    server whose reads see earlier writes (one database, whatever the number of servers before it).

    A lock older than LOCK_SECONDS was left by a process that died, and is removed: clocks must agree better than that.

    Raises click.ClickException when another process keeps the lock for LOCK_WAIT seconds.
    """
    client, key = MlflowClient(), tag_key(f"{LOCK}{uuid.uuid4().hex}")
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        taken = time.time()
        client.set_registered_model_tag(name, key, json.dumps({"what": what, "by": who(), "at": taken}))
        others = _locks(name, key)
        if not others:
            break
        first, late = key < min(others), time.monotonic() > deadline
        if late or not first:
            client.delete_registered_model_tag(name, key)
        if late:
            raise click.ClickException(f"{min(others.values())} of {name} is under way: try again when it has ended.")
        time.sleep(0.05 if first else random.uniform(0.1, 0.5))

    def still_held() -> None:
        if time.time() - taken > LOCK_SECONDS / 2 or key not in client.get_registered_model(name).tags:
            lost = "took too long and lost its lock: nothing has moved, try again."
            raise click.ClickException(f"{what} of {name} {lost}")

    try:
        yield still_held
    finally:
        with suppress(MlflowException, requests.RequestException):  # it goes stale by itself
            client.delete_registered_model_tag(name, key)


def _locks(name: str, own: str) -> dict[str, str]:
    """Who else holds a lock or waits for it, by key; stale ones are removed."""
    client, held = MlflowClient(), {}
    for key, value in client.get_registered_model(name).tags.items():
        if key.startswith(tag_key(LOCK)) and key != own:
            lock = json.loads(value)
            if time.time() - lock["at"] <= LOCK_SECONDS:
                held[key] = f"{lock['what']} by {lock['by']}"
                continue
            click.echo(f"Warning: {lock['what']} by {lock['by']} left a lock on {name}: removed.", err=True)
            with suppress(MlflowException):  # another process has removed it
                client.delete_registered_model_tag(name, key)
    return held


def move_champion(name: str, version: str, *, judged_against: str | None, run_id: str) -> None:
    """Make a version the champion; the former champion becomes `previous`. Both are tagged with when, who and the run.

    judged_against: the version that must still be champion, None where there must be none.
    run_id: the run that holds the evaluation; empty for a roll back.

    Raises click.ClickException when another process was faster: nothing has moved.
    """
    client = MlflowClient()
    with exclusive(name, f"promotion of version {version}") as still_held:
        before = aliases(name)
        former = before.get(CHAMPION)
        if former != judged_against:
            holder = f"version {former}" if former else "no version"
            rival = f"version {judged_against}" if judged_against else "none"
            raise click.ClickException(
                f"{CHAMPION} of {name} is {holder} now, and version {version} was judged against {rival}: "
                "nothing has moved, promote again."
            )
        still_held()
        try:
            if former is not None:
                client.set_registered_model_alias(name, PREVIOUS, former)
            client.set_registered_model_alias(name, CHAMPION, version)  # last: the one step that requests can see
        except BaseException:
            with suppress(MlflowException, requests.RequestException):
                if PREVIOUS in before:
                    client.set_registered_model_alias(name, PREVIOUS, before[PREVIOUS])
                elif former is not None:
                    client.delete_registered_model_alias(name, PREVIOUS)
            raise
        _note(name, version, former, run_id)
        if before.get(CHALLENGER) == version:
            _remove_alias(name, CHALLENGER)


def _remove_alias(name: str, alias: str) -> None:
    """Remove an alias that says no more; say so where it stays, as the champion has moved by now."""
    try:
        MlflowClient().delete_registered_model_alias(name, alias)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        click.echo(f"The alias {alias} of {name} stays: to remove it takes the right MANAGE on {name}.", err=True)


def _note(name: str, version: str, former: str | None, run_id: str) -> None:
    """Write who became champion and who no longer is: on the registered model and on both versions."""
    client, at, by = MlflowClient(), now(), who()
    entry = {"version": version, "former": former, "by": by, "run": run_id}
    client.set_registered_model_tag(name, tag_key(f"{HISTORY}{at}"), json.dumps(entry))
    # A roll back brings no evaluation: what `promote` has noted stays.
    gained, lost = ("promoted", "replaced") if run_id else ("restored", "rolled_back")
    for number, verb, tag in ((version, gained, "evaluation_run"), (former, lost, "replaced_in_run")):
        told = {f"{verb}_at": at, f"{verb}_by": by} | ({tag: run_id} if run_id else {})
        for key, value in told.items() if number else ():
            client.set_model_version_tag(name, number, key, value)


def step_back(name: str, version: str, left: str) -> bool:
    """Make `version` the champion again after `left` was rolled back; False where `left` is not the champion.

    `previous` is taken away: the version that was left is not good to go back to.
    """
    if aliases(name).get(CHAMPION) != left:
        return False
    move_champion(name, version, judged_against=left, run_id="")
    _remove_alias(name, PREVIOUS)
    return True
