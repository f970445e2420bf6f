"""What a job runs on: the backend configuration, checked before anything is sent, and the Python of each runtime."""

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

PYTHON = {"1": "3.10", "2": "3.11", "14": "3.10", "15": "3.11"}  # of serverless environments and runtimes; then 3.12
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
    """Check what `--backend-config` holds. What a cluster must have is left to Databricks, which refuses the job.

    given: the JSON object, with the keys that MLflow adds; a cluster stands in `new_cluster`, or flat.

    Raises ExecutionException, which names the key, for anything that Databricks would pass over or refuse too late.
    """
    kinds = {each.name: re.split(r"[\[ ]", str(each.type))[0] for each in fields(JobConfig)}
    own = {key: value for key, value in given.items() if key not in MLFLOW_KEYS}
    if "spark_version" in own:  # flat, the form that `-b databricks` needs
        own["new_cluster"] = {key: own.pop(key) for key in list(own) if key not in kinds}
    for key, value in own.items():
        if key not in kinds:
            raise bad(f"has no key {key!r}; it has {', '.join(kinds)}")
        if type(value).__name__ != kinds[key] or (kinds[key] == "int" and value < 0):
            raise bad(f"holds {key}: {value!r}, which must be {JSON_NAMES[kinds[key]]}")
    config = JobConfig(**own)
    if config.new_cluster is not None:
        if config.existing_cluster_id:
            raise bad("holds new_cluster and existing_cluster_id: give one of them, or none for serverless compute")
        if unknown := config.new_cluster.keys() - {each.name for each in fields(ClusterSpec)}:
            raise bad(f"holds new_cluster.{min(unknown)}, which Databricks does not have")
        if not isinstance(config.new_cluster.get("spark_version"), str):
            raise bad('lacks new_cluster.spark_version, the runtime, such as "17.3.x-cpu-ml-scala2.13"')
        python_of(config.new_cluster["spark_version"])
    if config.serverless and config.libraries is not None:
        raise bad("holds libraries without a cluster: serverless compute installs what the project pins")
    if config.volume and not re.fullmatch(r"/Volumes(/[^/]+){3,}/?", config.volume):
        raise bad(f"holds volume: {config.volume!r}, which must be /Volumes/<catalog>/<schema>/<volume>")
    if config.run_as is not None:
        if len(config.run_as) != 1 or not config.run_as.keys() <= {"user_name", "service_principal_name"}:
            raise bad('holds run_as, which must be {"service_principal_name": ...} or {"user_name": ...}')
        if not config.volume:
            raise bad("holds run_as without volume: another identity cannot read your own folder of the workspace")
    known = {each.name for each in fields(Library)}
    for library in config.libraries or []:
        if not isinstance(library, dict) or not library or not library.keys() <= known:
            form = '{"pypi": {"package": "skops==0.16.0"}}'
            raise bad(f"holds the library {library!r}, which is not of the form {form}")
    return config


def bad(what: str) -> ExecutionException:
    """The refusal of a backend configuration."""
    return ExecutionException(f"The backend configuration {what}.")


def python_of(version: str) -> str:
    """The Python of a runtime, such as 3.12 for `17.3.x-scala2.13`.

    Raises ExecutionException for a runtime that Databricks no longer supports, or that is none.
    """
    found = re.match(r"(\d+)\.", version)
    if not found:
        raise bad(f'holds the runtime {version!r}, which must be one such as "17.3.x-cpu-ml-scala2.13"')
    if int(found[1]) < 14:
        raise bad(f"holds the runtime {version}, which Databricks no longer supports: take 17.3 LTS")
    return PYTHON.get(found[1], "3.12")


def python_of_job(config: JobConfig, client: WorkspaceClient) -> tuple[str, str]:
    """The Python that a job will have, and the name of what brings it.

    Raises ExecutionException where an existing cluster does not exist.
    """
    if config.serverless:
        version = config.environment_version
        return PYTHON.get(version, "3.12"), f"the serverless environment {version}"
    if config.new_cluster:
        version = config.new_cluster["spark_version"]
    else:
        number = config.existing_cluster_id
        try:
            version = client.clusters.get(number).spark_version or ""
        except NotFound:
            raise bad(f"names the cluster {number}, which does not exist in this workspace") from None
    return python_of(version), f"the runtime {version}"


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
        package, needed = refused.groups()
        runtime = FIRST_RUNTIME_WITH.get(needed)
        where = f"take the runtime {runtime} or later" if runtime else "take another version of it"
        raise ExecutionException(f"{package} needs Python {needed}, and {name} has Python {python}: {where}.")
