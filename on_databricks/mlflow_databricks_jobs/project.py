"""What of an MLflow Project goes to Databricks: its files, its requirements, and the command of an entry point."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import yaml
from mlflow.exceptions import ExecutionException

LEFT_OUT = (".git", "mlruns", "mlartifacts", "__pycache__", "*.pyc", "mlflow.db", "mlflow.db-*")
# A command with one of these needs a shell, and so a process of its own.
OF_A_SHELL = re.compile(r"[$`|&;<>()*?~\n]")


def project_files(project: Path) -> list[Path]:
    """The files that Git would commit, relative to the project; without runs, databases and caches.

    Without Git on the machine, .gitignore is not read.
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


def pack(project: Path, job: dict[str, Any]) -> bytes:
    """A project as a .tar.gz: its files in the folder `project`, and job.json, which says what to run."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in project_files(project):
            archive.add(project / path, f"project/{path.as_posix()}")
        text = json.dumps(job).encode()
        entry = tarfile.TarInfo("job.json")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return packed.getvalue()


def requirements_of(project: Any) -> list[str]:
    """The lines of a requirements.txt that hold a project's environment; none where it has none.

    project: as MLflow loads it. Packages of conda are taken from PyPI under the same name, which is said.

    Raises ExecutionException for an environment that Databricks cannot install.
    """
    if project.docker_env:
        raise ExecutionException("The project has docker_env: a Databricks job has no image.")
    if project.databricks_spark_job_spec:
        raise ExecutionException("The project has databricks_spark_job: run it by `-b databricks`.")
    if not project.env_config_path:
        return []
    path = Path(project.env_config_path)
    said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    lines: list[str] = []
    for each in said.get("dependencies") or []:
        if isinstance(each, dict):
            lines += each.get("pip") or []
        elif project.env_type == "python_env":
            lines.append(str(each))
        elif not re.match(r"(python|pip|setuptools|wheel)\b(?!-)", package := str(each).rpartition("::")[2]):
            name, _, version = package.replace("==", "=").partition("=")
            lines.append(f"{name}=={version.split('=')[0]}" if version else name)
            click.echo(f"Note: {path.name} asks conda for {each}; Databricks takes {lines[-1]} from PyPI.")
    return [line for given in lines for line in flat(given, path.parent)]


def requirement_files(lines: list[str]) -> dict[str, str]:
    """The lines of `requirements_of` as files: requirements.txt, and constraints.txt, which it names, beside it."""
    constraints = [line.removeprefix("-c ") for line in lines if line.startswith("-c ")]
    first = ["-c constraints.txt"] if constraints else []
    plain = [*first, *(line for line in lines if not line.startswith("-c "))]
    files = {"requirements.txt": plain, "constraints.txt": constraints}
    return {name: "".join(f"{line}\n" for line in content) for name, content in files.items() if content}


def flat(line: str, place: Path) -> Iterator[str]:
    """A line of requirements, or those of the file that it includes, each constraint as `-c PACKAGE`.

    Raises ExecutionException for a file that cannot be read, and for a requirement that is a path.
    """
    line = re.sub(r"(^|\s)#.*", "", line).strip()
    if included := re.fullmatch(r"(-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", line):
        mark, file = "-c " if "c" in included[1] else "", place / included[2]
        try:
            text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        except OSError as error:
            raise ExecutionException(f"The project's requirements {file} cannot be read: {error.strerror}.") from None
        for each in text.splitlines():
            yield from (f"{mark}{flat.removeprefix('-c ')}" if mark else flat for flat in flat(each, file.parent))
    elif line.startswith(("-e", "--editable", ".", "/", "file:")):
        raise ExecutionException(
            f"The requirement {line!r} is a path, and Databricks installs packages before the project is there: "
            "publish the package, or name a wheel in a Volume."
        )
    elif line:
        yield line


def command_of(project: Any, entry_point: str, parameters: dict[str, str], folder: Path) -> dict[str, Any]:
    """What the job runs: {"python": words after `python`} in the process that has Spark, or {"shell": command}.

    Raises ExecutionException for a parameter of the type path that names a file outside the project.
    """
    point = project.get_entry_point(entry_point)
    for name, parameter in point.parameters.items():
        value = str(parameters.get(name, ""))
        within = not os.path.isabs(value) and (folder / value).exists()
        if parameter.type == "path" and os.path.exists(value) and not within:
            raise ExecutionException(
                f"The parameter {name} is {value!r}, a file on this machine: copy it to a Volume "
                "(`/Volumes/...`) or into the project."
            )
    command = point.compute_command(parameters, None)  # None: paths are of the job's machine, so they stay as they are
    template = (point.command or "").replace("\\\n", " ").strip()
    in_python = re.match(r"python3? +(\S+\.py\b|-m +\S)", template) and not OF_A_SHELL.search(template)
    return {"python": shlex.split(command)[1:]} if in_python else {"shell": command}
