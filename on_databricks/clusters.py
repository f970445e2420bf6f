"""Write the cluster.json of every example, for Azure and for AWS: `python on_databricks/clusters.py`.

All of them follow from the few facts below and from what the example's requirements.txt pins. Each example has

    cluster.json            Azure; `--backend-config cluster.json`
    cluster-aws.json        AWS
    cluster-oneline.json    cluster.json on one line, as a JSON Lines table of one row
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.dependency_groups import resolve_dependency_groups
from packaging.requirements import Requirement

COLLECTION = Path(__file__).resolve().parent.parent

RUNTIME = "17.3.x-cpu-ml-scala2.13"  # 17.3 LTS ML, supported until October 2028
PYTHON = "3.12"  # that of the runtime
NODES = {"cluster.json": "Standard_DS3_v2", "cluster-aws.json": "m5d.xlarge"}  # 4 cores each, 14 and 16 GB

# The runtime has TensorFlow under its plain name; a second one beside it would overwrite half of its files.
RENAMED = {"tensorflow-cpu": "tensorflow"}

# A job on a cluster of this collection runs on the driver: one machine is enough, and half the price.
SINGLE_NODE = {
    "num_workers": 0,
    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
    "custom_tags": {"ResourceClass": "SingleNode"},
    "data_security_mode": "SINGLE_USER",  # what Unity Catalog asks of a cluster with an ML runtime
}


def examples() -> list[Path]:
    """The folders that hold an MLflow Project."""
    return sorted(path.parent for path in COLLECTION.glob("*/MLproject"))


def libraries(example: Path) -> list[dict[str, Any]]:
    """What a cluster has to install: the packages that the example imports, at its pins for the runtime's Python.

    The runtime lacks skops and kneed; of the others it has versions older than those that the example is written for.
    """
    groups = tomllib.loads((COLLECTION / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    pins = _pins(example / "requirements.txt")
    direct = {Requirement(each).name.lower() for each in resolve_dependency_groups(groups, example.name)}
    names = {RENAMED.get(name, name): pins[name] for name in direct if name in pins}
    return [{"pypi": {"package": f"{name}{names[name]}"}} for name in sorted(names)]


def backend_config(example: Path, node: str) -> dict[str, Any]:
    """What `--backend-config` takes: a new cluster and its libraries."""
    cluster = {"spark_version": RUNTIME, "node_type_id": node, **SINGLE_NODE}
    return {"new_cluster": cluster, "libraries": libraries(example)}


def write() -> None:
    """Write all the files anew."""
    for example in examples():
        for name, node in NODES.items():
            text = json.dumps(backend_config(example, node), indent=2)
            (example / name).write_text(f"{text}\n", encoding="utf-8")
        line = json.dumps(backend_config(example, NODES["cluster.json"]))
        (example / "cluster-oneline.json").write_text(f"{line}\n", encoding="utf-8")


def _pins(requirements: Path) -> dict[str, str]:
    """Name -> pin, such as skops -> ==0.16.0, for Linux on a common processor with the runtime's Python."""
    machine = {"sys_platform": "linux", "platform_machine": "x86_64"}
    machine |= {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    lines = re.findall(r"^[\w.-]+==.*", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        each.name.lower(): str(each.specifier) for each in found if not each.marker or each.marker.evaluate(machine)
    }


if __name__ == "__main__":
    write()
