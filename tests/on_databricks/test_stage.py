"""stage.py: a project's twin for today's runtimes, derived from its one MLproject."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.projects.utils import load_project
from running import COLLECTION
from submitting import CLUSTER, write_json, write_project

STAGE = COLLECTION / "on_databricks" / "stage.py"
EXAMPLES = ("classification", "clustering", "git_project", "registry_deploy")


def stage(project: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(STAGE), str(project), str(folder)], capture_output=True, text=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_a_twin_that_mlflow_accepts(name: str, tmp_path: Path) -> None:
    done = stage(COLLECTION / name, tmp_path / "twin")
    assert done.returncode == 0, done.stderr
    said = yaml.safe_load((COLLECTION / name / "MLproject").read_text(encoding="utf-8"))
    twin = load_project(tmp_path / "twin")
    assert twin.databricks_spark_job_spec is not None
    for entry_point, point in said["entry_points"].items():
        staged = twin.get_entry_point(entry_point)
        assert staged.command == point["command"].replace("python ", "python databricks_spark_job.py ", 1)
        for parameter, description in (point.get("parameters") or {}).items():
            assert staged.parameters[parameter].default == description.get("default")
    libraries = json.loads((COLLECTION / name / "cluster.json").read_text(encoding="utf-8"))["libraries"]
    packages = [library["pypi"]["package"] for library in libraries]
    assert twin.databricks_spark_job_spec.python_libraries == packages


def test_a_second_staging_gives_the_same_bytes(tmp_path: Path) -> None:
    project = write_project(tmp_path / "small")
    assert stage(project, tmp_path / "one").returncode == 0
    assert stage(project, tmp_path / "two").returncode == 0
    first = content(tmp_path / "one")
    assert first == content(tmp_path / "two")
    (tmp_path / "one" / "left over").write_text("from before")
    assert stage(project, tmp_path / "one").returncode == 0
    assert content(tmp_path / "one") == first


def test_what_does_not_belong_to_the_project_stays_here(tmp_path: Path) -> None:
    """What .gitignore names, outside a checkout too, and runs, databases and caches, ignored or not."""
    assert stage(write_project(tmp_path / "small"), tmp_path / "twin").returncode == 0
    own = {"MLproject", "python_env.yaml", ".gitignore", "say.py", "sibling.py", "nested/fail.py"}
    assert set(content(tmp_path / "twin")) == own | {"refuse.py", "wait.py", "databricks_spark_job.py"}


def test_a_path_becomes_text_and_a_library_a_package(tmp_path: Path) -> None:
    parameters = {"a": "path", "b": {"type": "path", "default": "x"}}
    said = {"entry_points": {"main": {"parameters": parameters, "command": "python a.py {a} {b}"}}}
    project = write_project(tmp_path / "small", {"MLproject": json.dumps(said), "a.py": ""})
    write_json(project / "cluster.json", {"new_cluster": CLUSTER, "libraries": [{"pypi": {"package": "skops==0.16"}}]})
    done = stage(project, tmp_path / "twin")
    assert "Note: a of main was a path" in done.stdout
    twin = load_project(tmp_path / "twin")
    assert [parameter.type for parameter in twin.get_entry_point("main").parameters.values()] == ["string", "string"]
    assert twin.databricks_spark_job_spec.python_libraries == ["skops==0.16"]


def one(command: str, **more: Any) -> str:
    return json.dumps({"entry_points": {"main": {"command": command}}, **more})


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"MLproject": one("python a.py", docker_env={"image": "x"})}, "A project with docker_env cannot be staged"),
        ({"MLproject": one("bash a.sh")}, "'bash a.sh', is not of the form `python FILE ...`"),
        ({"MLproject": one("python -m a")}, "'python -m a', is not of the form `python FILE ...`"),
        ({"MLproject": one("python b.py")}, "starts b.py, which is not among the files"),
        ({"MLproject": one("python a.py | tee log")}, "needs a shell"),
        ({"MLproject": one("python a.py $HOME")}, "needs a shell"),
        ({"MLproject": one("python a.py", databricks_spark_job={})}, "has databricks_spark_job already"),
        ({"MLproject": "name: x"}, "has no entry_points"),
        ({"MLproject": "name: [x"}, "is malformed YAML at line 1, column"),
        ({"MLproject": '{"entry_points": {"main": "python a.py"}}'}, "'main' of"),
        ({"MLproject": one("python a.py"), "databricks_spark_job.py": ""}, "has a file databricks_spark_job.py"),
        (
            {"MLproject": one("python a.py"), "cluster.json": '{"libraries": [{"whl": "dbfs:/a.whl"}]}'},
            "can only name those of the form",
        ),
        ({"README": ""}, "has no MLproject file"),
    ],
)
def test_a_project_that_cannot_be_turned_is_refused_in_one_line(
    files: dict[str, str], line: str, tmp_path: Path
) -> None:
    done = stage(write_project(tmp_path / "small", {"a.py": "", **files}), tmp_path / "twin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert not (tmp_path / "twin").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    project = write_project(tmp_path / "small")
    other = write_project(tmp_path / "other")
    assert "is not empty and holds no staged project" in stage(project, other).stderr
    assert "lie in each other" in stage(project, project / "twin").stderr
    assert (other / "password.secret").exists()


def test_a_twin_runs_by_the_bare_command_and_ends_its_run(workspace: Any, tmp_path: Path) -> None:
    """`mlflow run -b databricks` does not wait, so that the job itself has to end the run, well or badly."""
    assert stage(write_project(tmp_path / "small"), tmp_path / "twin").returncode == 0
    config = write_json(tmp_path / "flat.json", CLUSTER)
    command = [sys.executable, "-m", "mlflow", "run", str(tmp_path / "twin"), "-b", "databricks"]
    command += ["--backend-config", str(config), "--experiment-name", "/Shared/staged"]
    experiment = workspace.client.create_experiment("/Shared/staged")
    # One after the other: two clients that upload the same project at once get in each other's way.
    for entry_point in ("main", "refuses"):
        subprocess.run([*command, "-e", entry_point], env=workspace.environment, cwd=tmp_path, check=True, timeout=120)
    deadline = time.monotonic() + 120
    runs = workspace.client.search_runs([experiment])
    while any(run.info.status == "RUNNING" for run in runs) and time.monotonic() < deadline:
        time.sleep(1)
        runs = workspace.client.search_runs([experiment])
    ends = {run.data.tags["mlflow.project.entryPoint"]: run.info.status for run in runs}
    assert ends == {"main": "FINISHED", "refuses": "FAILED"}
