"""Write the cluster.json of every example, for Azure and for AWS: `python on_databricks/clusters.py`.

All of them follow from the few facts below and from what the example's requirements.txt pins: cluster.json is for
Azure, cluster-aws.json for AWS, and cluster-oneline.json is the first on one line, a JSON Lines table of one row.
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
# The runtime's Python, on a common processor.
MACHINE = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.12"}
MACHINE |= {"python_full_version": "3.12.0"}
AZURE, AWS = "Standard_DS3_v2", "m5d.xlarge"  # 4 cores each, 14 and 16 GB
NODES = {"cluster.json": AZURE, "cluster-aws.json": AWS, "cluster-oneline.json": AZURE}

# The runtime has TensorFlow under its plain name; a second one beside it would overwrite half of its files.
RENAMED = {"tensorflow-cpu": "tensorflow"}

# A job on a cluster of this collection runs on the driver: one machine is enough, and half the price.
SINGLE_NODE = {
    "num_workers": 0,
    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
    "custom_tags": {"ResourceClass": "SingleNode"},
    "data_security_mode": "SINGLE_USER",  # what Unity Catalog asks of a cluster with an ML runtime
}


GROUPS = tomllib.loads((COLLECTION / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]


def examples() -> list[Path]:
    """The folders of the examples; a twin that stage.py has made has an MLproject too, and no pins of its own."""
    return sorted(path.parent for path in COLLECTION.glob("*/MLproject") if path.parent.name in GROUPS)


def libraries(example: Path) -> list[dict[str, Any]]:
    """What a cluster has to install: the packages that the example imports, at its pins for the runtime's Python.

    The runtime lacks skops and kneed; of the others it has versions older than those that the example is written for.
    """
    direct = {Requirement(each).name.lower() for each in resolve_dependency_groups(GROUPS, example.name)}
    lines = re.findall(r"^[\w.-]+==.*", (example / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = [pin for pin in map(Requirement, lines) if not pin.marker or pin.marker.evaluate(MACHINE)]
    pins = {RENAMED.get(pin.name, pin.name): pin.specifier for pin in pinned if pin.name.lower() in direct}
    return [{"pypi": {"package": f"{name.lower()}{pins[name]}"}} for name in sorted(pins)]


def backend_config(example: Path, node: str) -> dict[str, Any]:
    """What `--backend-config` takes: a new cluster and its libraries."""
    cluster = {"spark_version": RUNTIME, "node_type_id": node, **SINGLE_NODE}
    return {"new_cluster": cluster, "libraries": libraries(example)}


def write() -> None:
    """Write all the files anew."""
    for example in examples():
        for name, node in NODES.items():
            config, indent = backend_config(example, node), None if "oneline" in name else 2
            (example / name).write_text(f"{json.dumps(config, indent=indent)}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
