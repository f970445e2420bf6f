"""Who serves a version: a record for each endpoint, as a tag of the version, which only its owner clears.

A record is called `<target>.<endpoint>.<owner>`, the owner being eight hexadecimal digits for a machine and a
directory, or for a workspace of Azure. So an endpoint of the same name elsewhere has a record of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from model_files import reason
from support.server_errors import refused_by_server
from support.table import bad
from versions import in_unity_catalog, now, tag_key, tags_of, versions, who

if TYPE_CHECKING:
    from rollout import Target

DEPLOYED = "deployed."  # before the name of a record, in a tag's key

_log = logging.getLogger(__name__)


def record_of(target: Target) -> str:
    """The name of an endpoint's record."""
    return f"{target.kind}.{target.name}.{hashlib.sha256(target.owner.encode()).hexdigest()[:8]}"


def records(version: ModelVersion) -> dict[str, str]:
    """What serves a version, by the name of its record."""
    return {key.removeprefix(DEPLOYED): told for key, told in tags_of(version).items() if key.startswith(DEPLOYED)}


def refuse_deployed(version: ModelVersion, parameter: str, doing: str) -> None:
    """Raise click.BadParameter where an endpoint serves a version."""
    if used := ", ".join(f"{name} ({told})" for name, told in records(version).items()):
        cure = f"Undeploy it before you {doing} it; for a machine that is gone, -e undeploy -P force=<record>"
        raise bad(parameter, f"models:/{version.name}/{version.version}", f"is deployed: {used}. {cure}.")


def record(target: Target, former: Collection[str] = (), starting: Collection[tuple[str, str]] = ()) -> None:
    """Bring the records of an endpoint up to date: they keep `delete` from a version that is in use.

    former: registered models that the endpoint served before; Unity Catalog cannot be asked for all with a tag.
    starting: names and numbers of versions that are about to be deployed.

    Where the tracking server is away, that is said: the deployment itself needs none.
    """
    key, client = tag_key(DEPLOYED + record_of(target)), MlflowClient()

    def served() -> dict[tuple[str, str], str]:
        return {(each.model_name, each.model_version): name for name, each in target.status().colours.items()}

    try:
        while True:
            before = served()
            wanted = dict.fromkeys(starting, "starting") | before
            for version in _tagged(key, {name for name, _ in wanted} | set(former)):
                if (version.name, str(version.version)) not in wanted:
                    client.delete_model_version_tag(version.name, version.version, key)
            for (name, number), colour in wanted.items():
                told = f"{colour} on {target.owner}, by {who()}, {now()}"
                client.set_model_version_tag(name, number, key, told)
            if served() == before:  # else another process has changed it meanwhile
                return
    except MlflowException as error:
        _log.warning("the registry was not told of this deployment: %s", refused_by_server(error) or reason(error))


def _tagged(key: str, names: Collection[str]) -> list[ModelVersion]:
    """The versions with a tag; in Unity Catalog those of the registered models that are named."""
    if in_unity_catalog():
        return [version for name in sorted(names) for version in versions(name) if key in version.tags]
    return list(mlflow.search_model_versions(filter_string=f"tags.`{key}` LIKE '%'"))


def clear(record_name: str) -> list[str]:
    """Remove a record whose owner is gone; returns the URIs of the versions that had it.

    Raises click.BadParameter where no version has exactly this record.
    """
    key = tag_key(DEPLOYED + record_name)
    names = [model.name for model in mlflow.search_registered_models()] if in_unity_catalog() else []
    found = _tagged(key, names) if record_name else []
    if not found:
        raise bad("force", record_name, "is the record of no version: give its exact name, as `list` shows it.")
    for version in found:
        MlflowClient().delete_model_version_tag(version.name, version.version, key)
    return [f"models:/{version.name}/{version.version}" for version in found]
