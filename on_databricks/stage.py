"""Make the twin of a project that MLflow's own Databricks backend runs: `python on_databricks/stage.py PROJECT FOLDER`.

From runtime 13.0 ML on, MLflow's own backend runs projects with `databricks_spark_job` only, whose packages are
libraries of the cluster. The twin is made from the project's MLproject and cluster.json each time.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import mlflow_databricks_jobs
import yaml
from mlflow_databricks_jobs.project import OF_A_SHELL, project_files

RUNNER = Path(mlflow_databricks_jobs.__file__).with_name("run_entry_point.py")
MARK = "# Made by stage.py from another MLproject: edit that one."


def twin_of(project: dict[str, Any], packages: list[str]) -> dict[str, Any]:
    """The MLproject of the twin.

    packages: that the cluster installs, such as skops==0.16.0.

    Raises click.ClickException for a project that the cluster could not run.
    """
    for key in ("docker_env", "databricks_spark_job"):
        if key in project:
            raise click.ClickException(f"The project has {key}, so it has no twin.")
    points = {}
    for name, point in (project.get("entry_points") or {}).items():
        command = " ".join(str(point["command"]).split())
        if not re.match(r"python \S+\.py\b", command) or OF_A_SHELL.search(command):
            raise click.ClickException(
                f"The command of {name}, {command!r}, must be `python FILE ...`: a Databricks Spark job has no shell."
            )
        parameters = {}
        for key, kind in (point.get("parameters") or {}).items():  # without the type `path`, which a twin may not have
            spelt = kind if isinstance(kind, dict) else {"type": kind}
            parameters[key] = {**spelt, "type": "string"} if spelt.get("type") == "path" else kind
        runner_command = f"python {RUNNER.name} twin {command.removeprefix('python ')}"
        points[name] = {**point, "parameters": parameters, "command": runner_command}
    if not points:
        raise click.ClickException("The project has no entry points, so it has no twin.")
    kept = {key: value for key, value in project.items() if key not in ("conda_env", "python_env", "entry_points")}
    return {**kept, "databricks_spark_job": {"python_libraries": packages}, "entry_points": points}


@click.command()
@click.argument("project", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def stage(project: Path, folder: Path) -> None:
    """Write the databricks_spark_job twin of PROJECT to FOLDER; its libraries are those of PROJECT/cluster.json.

    FOLDER is new or empty, or an earlier twin, which is replaced.
    """
    try:
        said = yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))
        cluster = json.loads((project / "cluster.json").read_text(encoding="utf-8"))
        packages = [each["pypi"]["package"] for each in cluster["libraries"]]
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())
        raise click.ClickException(f"{project} needs an MLproject and a cluster.json: {line}") from None
    twin = twin_of(said, packages)
    if folder.is_dir() and any(folder.iterdir()):
        old = folder / "MLproject"
        if not old.is_file() or not old.read_text(encoding="utf-8").startswith(MARK):
            raise click.ClickException(f"{folder} is not empty and holds no twin: choose another folder.")
        shutil.rmtree(folder)
    for path in project_files(project):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / path, folder / path)
    shutil.copy(RUNNER, folder)
    written_out = json.loads(json.dumps(twin))  # entry points that share their parameters would be anchors in YAML
    text = yaml.safe_dump(written_out, sort_keys=False, allow_unicode=True, width=120)
    (folder / "MLproject").write_text(f"{MARK}\n{text}", encoding="utf-8")
    flat = json.dumps(cluster["new_cluster"], indent=2)
    (folder / "cluster.json").write_text(f"{flat}\n", encoding="utf-8")
    click.echo(f"Staged {project} in {folder}.")


if __name__ == "__main__":
    try:
        stage.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
