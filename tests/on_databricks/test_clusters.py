"""The descriptions of clusters that stand in the examples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import COLLECTION

EXAMPLES = sorted(path.parent for path in COLLECTION.glob("*/MLproject"))
NAMES = ("cluster.json", "cluster-aws.json", "cluster-oneline.json")
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])


def test_regenerating_the_clusters_changes_nothing(tmp_path: Path) -> None:
    shutil.copy(COLLECTION / "pyproject.toml", tmp_path)
    (tmp_path / "on_databricks").mkdir()
    shutil.copy(COLLECTION / "on_databricks" / "clusters.py", tmp_path / "on_databricks")
    for example in EXAMPLES:
        (tmp_path / example.name).mkdir()
        for name in ("MLproject", "requirements.txt"):
            shutil.copy(example / name, tmp_path / example.name)
    subprocess.run([sys.executable, tmp_path / "on_databricks" / "clusters.py"], check=True)
    for example in EXAMPLES:
        for name in NAMES:
            again = (tmp_path / example.name / name).read_text()
            assert again == (example / name).read_text(), f"run python on_databricks/clusters.py: {example.name}/{name}"


@every_example
def test_a_cluster_installs_what_the_example_pins(example: Path) -> None:
    config = json.loads((example / "cluster.json").read_text())
    installed = {library["pypi"]["package"] for library in config["libraries"]}
    pinned = (example / "requirements.txt").read_text()
    assert {package.partition("==")[0] for package in installed} >= {"mlflow", "skops", "scikit-learn"}
    for package in installed:
        assert package in pinned


@every_example
def test_the_clouds_differ_by_the_machine_alone(example: Path) -> None:
    azure, aws, line = (json.loads((example / name).read_text()) for name in NAMES)
    assert line == azure
    assert (example / NAMES[2]).read_text().count("\n") == 1
    machines = azure["new_cluster"].pop("node_type_id"), aws["new_cluster"].pop("node_type_id")
    assert machines == ("Standard_DS3_v2", "m5d.xlarge")
    assert aws == azure
