"""The descriptions of clusters that stand in the examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples import module
from mlflow_databricks_jobs.config import read_config

clusters = module("on_databricks", "clusters")
NAMES = ("cluster.json", "cluster-aws.json", "cluster-oneline.json")


@pytest.mark.parametrize("example", clusters.examples(), ids=lambda example: example.name)
def test_each_example_has_its_files_which_install_what_it_pins_and_differ_by_the_machine(example: Path) -> None:
    azure, aws, line = (json.loads((example / name).read_text(encoding="utf-8")) for name in NAMES)
    assert azure == clusters.backend_config(example, "Standard_DS3_v2"), "run python on_databricks/clusters.py"
    assert aws == clusters.backend_config(example, "m5d.xlarge")
    assert line == azure
    assert not any(read_config(said).serverless for said in (azure, aws))
    assert (example / NAMES[2]).read_text(encoding="utf-8").count("\n") == 1
    installed = {library["pypi"]["package"] for library in azure["libraries"]}
    assert {package.partition("==")[0] for package in installed} >= {"mlflow", "skops", "scikit-learn"}
    assert installed <= set((example / "requirements.txt").read_text(encoding="utf-8").split())
