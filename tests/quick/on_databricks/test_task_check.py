"""What the local workspace refuses in the description of a job, and how it reads conditions and parameters."""

from __future__ import annotations

from typing import Any

import pytest
from examples import module

task_check = module("on_databricks/workspace", "task_check")
CLUSTER = {"spark_version": "17.3.x-cpu-ml-scala2.13", "node_type_id": "m5d.large", "num_workers": 0}
PYTHON = {"python_file": "/Workspace/Shared/a.py"}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CLUSTER.items() if name not in names}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"new_cluster": without("spark_version"), "spark_python_task": PYTHON}, "new_cluster.spark_version"),
    ({"new_cluster": without("node_type_id"), "spark_python_task": PYTHON}, "new_cluster.node_type_id"),
    ({"new_cluster": without("num_workers"), "spark_python_task": PYTHON}, "new_cluster.size"),
    ({"new_cluster": {**CLUSTER, "spark_version": "latest"}, "spark_python_task": PYTHON}, "Invalid spark version"),
    (
        {"new_cluster": {**CLUSTER, "spark_version": "12.2.x-scala2.12"}, "spark_python_task": PYTHON},
        "Invalid spark version 12.2.x-scala2.12.",
    ),
    ({"new_cluster": {**CLUSTER, "num_workers": -1}, "spark_python_task": PYTHON}, "num_workers"),
    ({"existing_cluster_id": "1-2-x", "spark_python_task": PYTHON}, "Cluster 1-2-x does not exist"),
    ({"spark_python_task": PYTHON}, "An environment is required for serverless task a"),
    ({"environment_key": "x", "spark_python_task": PYTHON}, "references environment x, which is not defined"),
    ({"job_cluster_key": "x", "spark_python_task": PYTHON}, "references the job cluster x, which is not defined"),
    ({"new_cluster": CLUSTER}, "A task without a kind: not in this local workspace"),
    ({"new_cluster": CLUSTER, "sql_task": {"query": "1"}}, "sql_task: not in this local workspace"),
    ({"new_cluster": CLUSTER, "shell_command_task": {"command": ["ls"]}}, "no longer supported"),
    ({"new_cluster": CLUSTER, "spark_python_task": {"python_file": "/etc/passwd"}}, "python_file must begin with"),
    ({"environment_key": "x", "notebook_task": {"notebook_path": "/Shared/x"}}, "can not be provided for notebook"),
    ({"condition_task": {}, "depends_on": [{"task_key": "b"}]}, "depends on b, which is no task before it"),
]


@pytest.mark.parametrize(("task", "line"), REFUSED)
def test_a_task_that_a_workspace_refuses(task: dict[str, Any], line: str) -> None:
    with pytest.raises(task_check.Refusal) as refused:
        task_check.check_tasks({"tasks": [{"task_key": "a", **task}]})
    assert refused.value.code == "INVALID_PARAMETER_VALUE"
    assert line in str(refused.value)


def test_parameters_are_filled_in_and_what_is_unknown_stays() -> None:
    said = {"a": ["--x={{job.parameters.x}}", "{{ job.run_id }}", "{{tasks.a.values.b}}"]}
    filled = task_check.fill_in(said, {"job.parameters.x": "1 2", "job.run_id": "7"})
    assert filled == {"a": ["--x=1 2", "7", "{{tasks.a.values.b}}"]}
