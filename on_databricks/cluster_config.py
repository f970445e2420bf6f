"""Read the JSON file that describes a job's cluster, and refuse what Databricks would refuse too late."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import click

LAST_FOR_PROJECTS = 12  # from Databricks Runtime 13.0 ML on an ordinary project does not run
OURS = ("new_cluster", "libraries")


@dataclass(frozen=True)
class ClusterConfig:
    """What a job runs on. `libraries` is None where the file does not speak of them."""

    new_cluster: dict[str, Any]
    libraries: list[dict[str, Any]] | None

    @property
    def runtime(self) -> int | None:
        """The first number of the runtime's version; None where the version does not begin with one."""
        found = re.match(r"(\d+)\.", self.new_cluster["spark_version"])
        return int(found[1]) if found else None


def read_cluster_config(path: Path) -> ClusterConfig:
    """The cluster and libraries of a backend configuration, nested in `new_cluster` or flat.

    Raises click.ClickException for a file that is missing, is no JSON, or lacks what a cluster needs.
    """
    if path.suffix != ".json":
        raise _bad(path, "must end in .json: MLflow reads no other file.")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _bad(path, "is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _bad(path, f"is malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}.") from None
    if not isinstance(said, dict):
        raise _bad(path, "must be a JSON object.")

    nested = said.get("new_cluster", {})
    if "existing_cluster_id" in said or (isinstance(nested, dict) and "existing_cluster_id" in nested):
        raise _bad(path, "names an existing_cluster_id, and a project runs on a new cluster only: give new_cluster.")
    cluster = said.get("new_cluster", {key: value for key, value in said.items() if key not in OURS})
    if not isinstance(cluster, dict):
        raise _bad(path, "holds a new_cluster that is no JSON object.")
    if "new_cluster" in said and (others := sorted(set(said) - set(OURS))):
        raise _bad(path, f"holds {', '.join(others)} beside new_cluster: only libraries may stand there.")
    libraries = said.get("libraries")
    if libraries is not None and not (
        isinstance(libraries, list) and all(isinstance(each, dict) for each in libraries)
    ):
        raise _bad(path, 'holds libraries that are no list of objects such as {"pypi": {"package": "skops"}}.')
    _check_cluster(path, cluster)
    return ClusterConfig(cluster, libraries)


def _check_cluster(path: Path, cluster: dict[str, Any]) -> None:
    if not cluster.get("spark_version"):
        raise _bad(path, 'lacks new_cluster.spark_version, the runtime, such as "17.3.x-cpu-ml-scala2.13".')
    if not cluster.get("node_type_id") and not cluster.get("instance_pool_id"):
        raise _bad(path, "lacks new_cluster.node_type_id, the kind of machine.")
    for key in ("spark_version", "node_type_id"):
        if key in cluster and not isinstance(cluster[key], str):
            raise _bad(path, f"holds a new_cluster.{key} that is no text: {json.dumps(cluster[key])}.")
    workers, scale = cluster.get("num_workers"), cluster.get("autoscale")
    if scale is not None:
        least, most = (scale.get("min_workers"), scale.get("max_workers")) if isinstance(scale, dict) else (None, None)
        if not _is_count(least) or not _is_count(most) or least > most:
            raise _bad(path, "holds a new_cluster.autoscale without min_workers and max_workers, the smaller first.")
    elif workers is None and not cluster.get("is_single_node"):
        raise _bad(path, "lacks new_cluster.num_workers or new_cluster.autoscale: how many machines.")
    elif workers is not None and not _is_count(workers):
        raise _bad(path, f"holds a new_cluster.num_workers that is no whole number: {json.dumps(workers)}.")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _bad(path: Path, what: str) -> click.ClickException:
    return click.ClickException(f"The backend configuration {path} {what}")
