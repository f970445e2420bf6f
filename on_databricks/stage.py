"""Turn an MLflow Project into its twin that runs on today's Databricks: `python on_databricks/stage.py PROJECT FOLDER`.

From runtime 13.0 ML on, Databricks runs no project that brings its own environment. It runs projects with
`databricks_spark_job`, whose packages are libraries of the cluster. The twin is derived from the project's MLproject
each time; nothing in it is edited by hand.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import yaml
from command_line import run_command

RUNNER = Path(__file__).with_name("databricks_spark_job.py")
MARK = "# Made by stage.py from another MLproject: edit that one."
LEFT_OUT = (".git", "mlruns", "mlartifacts", "__pycache__", "*.pyc", "*.db", "*.db-*")
ENVIRONMENTS = ("conda_env", "python_env")
OF_A_SHELL = {"|", "||", "&", "&&", ";", "<", ">", ">>", "(", ")"}


class Dumper(yaml.SafeDumper):
    """YAML without anchors: entry points that share their parameters are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def mlproject_path(project: Path) -> Path:
    """The MLproject file of a folder, whose name MLflow reads in any case.

    Raises click.ClickException where there is none.
    """
    if not project.is_dir():
        raise click.ClickException(f"{project} is no folder.")
    for path in sorted(project.iterdir()):
        if path.name.lower() == "mlproject":
            return path
    raise click.ClickException(f"{project} has no MLproject file.")


def read_mlproject(project: Path) -> dict[str, Any]:
    """What a project's MLproject file says; raises click.ClickException where it is not there or malformed."""
    path = mlproject_path(project)
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise click.ClickException(f"{path} is malformed YAML{where}: {getattr(error, 'problem', error)}.") from None
    if not isinstance(said, dict) or not isinstance(said.get("entry_points", {}), dict):
        raise click.ClickException(f"{path} must be a mapping, and so must its entry_points.")
    for name, point in said.get("entry_points", {}).items():
        if not isinstance(point, dict) or not isinstance(point.get("parameters") or {}, dict):
            raise click.ClickException(f"The entry point {name!r} of {path} and its parameters must be mappings.")
    return said


def project_files(project: Path) -> list[Path]:
    """The files that belong to a project, relative to it: not what .gitignore names, nor runs, databases and caches.

    Without Git on the machine .gitignore is not read.
    """
    listed = _listed_by_git(project)
    if listed is None:
        listed = [path.relative_to(project) for path in project.rglob("*")]
    return sorted(
        path
        for path in listed
        if (project / path).is_file() and not any(fnmatch(part, kind) for part in path.parts for kind in LEFT_OUT)
    )


def _listed_by_git(project: Path) -> list[Path] | None:
    asked = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    with tempfile.TemporaryDirectory() as empty:
        # Outside a checkout, or in a folder that its checkout ignores, an empty repository reads the .gitignore files.
        elsewhere = [f"--git-dir={empty}", f"--work-tree={project}"]
        try:
            subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True, capture_output=True)
            for place in ([], elsewhere):
                done = subprocess.run(["git", *place, *asked], cwd=project, capture_output=True, text=True)
                names = done.stdout.split("\0") if done.returncode == 0 else []
                if any(name.lower() == "mlproject" for name in names):
                    return [Path(name) for name in names if name]
        except (OSError, subprocess.CalledProcessError):
            pass
    return None


def copy_project(project: Path, folder: Path) -> list[Path]:
    """Copy the files that belong to a project; returns them, relative to it."""
    files = project_files(project)
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / path, folder / path)
    return files


def libraries_of(project: Path) -> list[dict[str, Any]]:
    """The libraries that a project's own cluster.json names; none where it has no such file."""
    path = project / "cluster.json"
    if not path.is_file():
        return []
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.ClickException(f"{path} is malformed JSON: {error}.") from None
    return list(said.get("libraries") or []) if isinstance(said, dict) else []


def pypi_packages(libraries: list[dict[str, Any]]) -> list[str]:
    """Libraries in the form that an MLproject file has for them.

    Raises click.ClickException for a library that is not of PyPI: an MLproject file cannot name it.
    """
    packages = []
    for library in libraries:
        pypi = library.get("pypi") if isinstance(library, dict) else None
        if not isinstance(pypi, dict) or set(pypi) != {"package"}:
            right = 'an MLproject file can only name those of the form {"pypi": {"package": "NAME==VERSION"}}'
            raise click.ClickException(f"The library {json.dumps(library)} cannot be staged: {right}.")
        packages.append(str(pypi["package"]))
    return packages


def spark_job_command(name: str, command: Any, files: list[Path]) -> str:
    """The command of an entry point's twin: the same words, started by the runner.

    Raises click.ClickException where the command is not `python FILE ...`, or needs a shell.
    """
    text = str(command or "").replace("\\\n", " ").strip()
    shown = f"The command of entry point {name!r}, {text!r},"
    try:
        words = shlex.split(text)
        symbols = OF_A_SHELL & set(shlex.shlex(text, posix=True, punctuation_chars=True))
    except ValueError as error:
        raise click.ClickException(f"{shown} is malformed: {error}.") from None
    if symbols or "\n" in text or "$" in text or "`" in text:
        raise click.ClickException(f"{shown} needs a shell, which a Databricks Spark job has not.")
    if len(words) < 2 or words[0] != "python" or not words[1].endswith(".py"):
        raise click.ClickException(f"{shown} is not of the form `python FILE ...`.")
    if Path(os.path.normpath(words[1])) not in files:
        raise click.ClickException(f"{shown} starts {words[1]}, which is not among the files of the project.")
    return f"python {RUNNER.name} {text.removeprefix('python').strip()}"


def spark_job_parameter(description: Any) -> Any:
    """A parameter without the type `path`, which the twin may not have: it passes the value on as it is."""
    if description == "path":
        return "string"
    if isinstance(description, dict) and description.get("type") == "path":
        return {**description, "type": "string"}
    return description


def twin_of(said: dict[str, Any], files: list[Path], packages: list[str]) -> dict[str, Any]:
    """The MLproject of the twin.

    Raises click.ClickException where the project cannot be turned.
    """
    if "docker_env" in said:
        raise click.ClickException("A project with docker_env cannot be staged: a Databricks Spark job has no image.")
    if "databricks_spark_job" in said:
        raise click.ClickException("The project has databricks_spark_job already: it runs as it is.")
    if not said.get("entry_points"):
        raise click.ClickException("The project has no entry_points, so there is nothing to stage.")
    if Path(RUNNER.name) in files:
        raise click.ClickException(f"The project has a file {RUNNER.name} of its own, the name that staging needs.")
    points = {}
    for name, point in said["entry_points"].items():
        command = spark_job_command(name, point.get("command"), files)
        parameters = {key: spark_job_parameter(value) for key, value in (point.get("parameters") or {}).items()}
        points[name] = {**point, "parameters": parameters, "command": command}
    kept = {key: value for key, value in said.items() if key not in (*ENVIRONMENTS, "entry_points")}
    return {**kept, "databricks_spark_job": {"python_libraries": packages}, "entry_points": points}


def stage(project: Path, folder: Path, libraries: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Write the `databricks_spark_job` twin of a project; returns its MLproject.

    project: a folder with an MLproject file.
    folder: where the twin goes; new, empty, or an earlier twin, which is replaced.
    libraries: of the cluster, as Databricks describes them; None for those of the project's own cluster.json.

    Raises click.ClickException where the project cannot be turned or the folder holds something else.
    """
    said = read_mlproject(project)
    files = project_files(project)
    packages = pypi_packages(libraries_of(project) if libraries is None else libraries)
    twin = twin_of(said, files, packages)
    _make_room(project, folder)
    copy_project(project, folder)
    shutil.copy(RUNNER, folder / RUNNER.name)
    text = yaml.dump(twin, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    (folder / mlproject_path(project).name).write_text(f"{MARK}\n{text}", encoding="utf-8")
    return twin


def _make_room(project: Path, folder: Path) -> None:
    if folder.resolve().is_relative_to(project.resolve()) or project.resolve().is_relative_to(folder.resolve()):
        raise click.ClickException(
            f"{folder} and the project's folder {project} lie in each other: choose another one."
        )
    if folder.is_dir() and any(folder.iterdir()):
        twins = [path for path in folder.iterdir() if path.name.lower() == "mlproject"]
        if not twins or not twins[0].read_text(encoding="utf-8").startswith(MARK):
            raise click.ClickException(f"{folder} is not empty and holds no staged project: choose another folder.")
        shutil.rmtree(folder)
    elif folder.exists() and not folder.is_dir():
        raise click.ClickException(f"{folder} is a file; the twin needs a folder.")
    folder.mkdir(parents=True, exist_ok=True)


@click.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def main(project: Path, folder: Path) -> None:
    """Write the databricks_spark_job twin of PROJECT to FOLDER.

    The libraries of the twin are those of the project's cluster.json.
    """
    said = read_mlproject(project)
    twin = stage(project, folder)
    click.echo(f"Staged {project} in {folder}: entry points {', '.join(twin['entry_points'])}.")
    click.echo(f"Libraries: {', '.join(twin['databricks_spark_job']['python_libraries']) or 'none'}.")
    for name, point in said["entry_points"].items():
        for parameter, value in (point.get("parameters") or {}).items():
            if spark_job_parameter(value) != value:
                click.echo(f"Note: {parameter} of {name} was a path and is text now: give a path of the cluster.")


if __name__ == "__main__":
    run_command(main)
