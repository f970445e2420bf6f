"""What a job runs on: the backend configuration, checked before there is a run, and the Python of each runtime."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service.compute import ClusterSpec, Library
from mlflow.exceptions import ExecutionException
from uv import find_uv_bin

from mlflow_databricks_jobs.project import requirement_files

# MLflow adds keys of its own to every backend configuration.
MLFLOW_KEYS = {"ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth"}
JSON_NAMES = {"dict": "an object", "str": "a text", "list": "a list", "int": "a whole number", "bool": "true or false"}

PYTHON_OF_RUNTIME = {14: "3.10", 15: "3.11"}  # and 3.12 from 16.0 on
PYTHON_OF_SERVERLESS = {"1": "3.10", "2": "3.11"}  # and 3.12 from "3" on
FIRST_RUNTIME_WITH = {"3.11": "15.4 LTS", "3.12": "16.4 LTS"}


@dataclass(frozen=True)
class JobConfig:
    """A checked backend configuration. Without a cluster the job runs on serverless compute."""

    new_cluster: dict[str, Any] | None = None
    existing_cluster_id: str = ""
    environment_version: str = "5"
    libraries: list[dict[str, Any]] | None = None
    timeout_seconds: int = 0
    max_retries: int = 0
    tags: dict[str, str] | None = None
    run_as: dict[str, str] | None = None
    volume: str = ""
    wait: bool | None = None

    @property
    def serverless(self) -> bool:
        return not self.new_cluster and not self.existing_cluster_id


def read_config(given: dict[str, Any]) -> JobConfig:
    """Check what `--backend-config` holds.

    given: the JSON object, with the keys that MLflow adds; a cluster stands in `new_cluster`, or flat.

    Raises ExecutionException, which names the key, for anything that Databricks would refuse later or pass over.
    """
    kinds = {each.name: re.split(r"[\[ ]", str(each.type))[0] for each in fields(JobConfig)}
    own = {key: value for key, value in given.items() if key not in MLFLOW_KEYS}
    if "spark_version" in own:  # flat, the form that `-b databricks` needs
        cluster = {key: own.pop(key) for key in list(own) if key not in kinds}
        own["new_cluster"] = cluster
    for key, value in own.items():
        if key not in kinds:
            raise bad(f"has no key {key!r}; it has {', '.join(kinds)}")
        if type(value).__name__ != kinds[key] or (kinds[key] == "int" and value < 0):
            raise bad(f"holds {key}: {value!r}, which must be {JSON_NAMES[kinds[key]]}")
    config = JobConfig(**own)
    if config.new_cluster is not None and config.existing_cluster_id:
        raise bad("holds new_cluster and existing_cluster_id: give one of them, or none for serverless compute")
    if config.serverless and config.libraries is not None:
        raise bad("holds libraries without a cluster: serverless compute installs what the project pins")
    if config.volume and not re.fullmatch(r"/Volumes(/[^/]+){3,}/?", config.volume):
        raise bad(f"holds volume: {config.volume!r}, which must be /Volumes/<catalog>/<schema>/<volume>")
    if config.run_as is not None:
        if not config.run_as.keys() <= {"user_name", "service_principal_name"} or len(config.run_as) != 1:
            raise bad('holds run_as, which must be {"service_principal_name": ...} or {"user_name": ...}')
        if not config.volume:
            raise bad("holds run_as without volume: another identity cannot read your own folder of the workspace")
    if config.new_cluster is not None:
        _check_cluster(config.new_cluster)
    known = {each.name for each in fields(Library)}
    for library in config.libraries or []:
        if not isinstance(library, dict) or not library or not library.keys() <= known:
            form = '{"pypi": {"package": "skops==0.16.0"}}'
            raise bad(f"holds the library {library!r}, which is not of the form {form}")
    return config


def bad(what: str) -> ExecutionException:
    """The refusal of a backend configuration."""
    return ExecutionException(f"The backend configuration {what}.")


def _check_cluster(cluster: dict[str, Any]) -> None:
    if unknown := cluster.keys() - {each.name for each in fields(ClusterSpec)}:
        raise bad(f"holds new_cluster.{min(unknown)}, which Databricks does not have")
    version = cluster.get("spark_version")
    if not isinstance(version, str) or not version:
        raise bad('lacks new_cluster.spark_version, the runtime, such as "17.3.x-cpu-ml-scala2.13"')
    if not cluster.get("node_type_id") and not cluster.get("instance_pool_id"):
        raise bad("lacks new_cluster.node_type_id, the type of machine")
    workers, scale = cluster.get("num_workers"), cluster.get("autoscale")
    if workers is None and scale is None and not cluster.get("is_single_node"):
        raise bad("lacks new_cluster.num_workers or new_cluster.autoscale: how many machines")
    if workers is not None and (type(workers) is not int or workers < 0):
        raise bad(f"holds new_cluster.num_workers: {workers!r}, which must be a whole number")
    python_of_runtime(version)


def python_of_runtime(version: str) -> str:
    """The Python of a Databricks runtime, such as 3.12 for `17.3.x-scala2.13`.

    Raises ExecutionException for a runtime that Databricks no longer supports, or that is none.
    """
    found = re.match(r"(\d+)\.", version)
    if not found:
        raise bad(f'holds the runtime {version!r}, which must be one such as "17.3.x-cpu-ml-scala2.13"')
    major = int(found[1])
    if major < min(PYTHON_OF_RUNTIME):
        raise bad(f"holds the runtime {version}, which Databricks no longer supports: take 17.3 LTS")
    return PYTHON_OF_RUNTIME.get(major, "3.12")


def python_of_serverless(version: str) -> str:
    """The Python of an environment of serverless compute, such as 3.12 for "5"."""
    return PYTHON_OF_SERVERLESS.get(version, "3.12")


def python_of(config: JobConfig, client: WorkspaceClient) -> tuple[str, str]:
    """The Python that a job will have, and the name of what brings it.

    Raises ExecutionException where an existing cluster does not exist.
    """
    if config.serverless:
        return python_of_serverless(
            config.environment_version
        ), f"the serverless environment {config.environment_version}"
    if config.new_cluster:
        runtime = str(config.new_cluster["spark_version"])
    else:
        try:
            runtime = client.clusters.get(config.existing_cluster_id).spark_version or ""
        except NotFound:
            raise bad(
                f"names the cluster {config.existing_cluster_id}, which does not exist in this workspace"
            ) from None
    return python_of_runtime(runtime), f"the runtime {runtime}"


def check_pins(requirements: list[str], python: str, name: str) -> None:
    """Refuse pinned packages that the Python of the runtime cannot install. Without a package index all pass.

    python: such as 3.11; name: of what has it.

    Raises ExecutionException, which names the package, the Python that it needs and the first runtime that has it.
    """
    if not requirements:
        return
    with tempfile.TemporaryDirectory() as folder:
        for file, text in requirement_files(requirements).items():
            (Path(folder) / file).write_text(text, encoding="utf-8")
        command = [find_uv_bin(), "pip", "compile", "--no-deps", "--quiet", "--no-header", "requirements.txt"]
        command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
        for source in (["--offline"], []):  # what uv has seen of pinned versions holds, and costs no request
            done = subprocess.run([*command, *source], capture_output=True, text=True, check=False, cwd=folder)
            refused = re.search(r"(?:and )?(\S+==\S+) depends on Python>=([\d.]+)", " ".join(done.stderr.split()))
            if refused or not done.returncode:
                break
    if done.returncode and refused:
        package, needed = refused[1], refused[2]
        runtime = FIRST_RUNTIME_WITH.get(needed)
        where = f"take the runtime {runtime} or later" if runtime else "take another version of it"
        raise ExecutionException(f"{package} needs Python {needed}, and {name} has Python {python}: {where}.")
