"""Generate a Declarative Automation Bundle from the MLproject files of the examples: `python on_databricks/bundle.py`.

A bundle (`databricks bundle deploy`, `databricks bundle run`) reads no MLproject, so its jobs are derived from it: one
job an example, its entry points as tasks, its parameters as job parameters. Only the task of the entry point that the
job parameter `entry_point` names runs.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import yaml

COLLECTION = Path(__file__).resolve().parent.parent
EXAMPLES = ("classification", "clustering", "git_project", "registry_deploy")
FILES = "${workspace.file_path}"  # where `databricks bundle deploy` puts the files of the collection
CHOICE = "entry_point"
EXPERIMENT = "experiment_id"


class Quoted(str):
    """Text that stays text in every YAML reader: 1e-09 and true are values of parameters here."""


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def job_parameters(entry_points: dict[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The job parameters of an example with their defaults, and for each entry point parameter -> job parameter.

    A parameter keeps its name, and entry points that agree on its default share it. Where an entry point has another
    default than an earlier one, the job parameter is called `<entry point>_<parameter>`. A parameter that has no
    default is empty, because a job parameter must have one: the script then says that it is needed.

    Raises click.ClickException where two parameters would get one name.
    """
    shared: dict[tuple[str, str | None], str] = {}
    defaults = {CHOICE: "main", EXPERIMENT: ""}
    own_names: dict[str, dict[str, str]] = {}
    for name, entry_point in entry_points.items():
        own_names[name] = {}
        for parameter, description in (entry_point.get("parameters") or {}).items():
            # MLflow passes what the file holds as Python writes it; so does a job.
            default = str(description["default"]) if "default" in description else None
            if (parameter, default) not in shared:
                first = parameter not in {known for known, _ in shared}
                called = parameter if first else f"{name}_{parameter}"
                if called in defaults:
                    raise click.ClickException(f"{called!r}, of entry point {name!r}, is another job parameter.")
                shared[parameter, default] = called
                defaults[called] = default or ""
            own_names[name][parameter] = shared[parameter, default]
    return defaults, own_names


def script_and_arguments(command: str, names: dict[str, str]) -> tuple[str, list[str]]:
    """The Python file of an entry point's command and its arguments, parameters as references to job parameters.

    `--x {x}` becomes the one argument `--x={{job.parameters.x}}`: a value keeps its spaces, and an empty one its place.

    Raises click.ClickException where the command is not `python FILE ...`.
    """
    words = shlex.split(command)
    if len(words) < 2 or words[0] != "python" or not words[1].endswith(".py"):
        raise click.ClickException(f"{command!r} is no command of the form `python FILE ...`.")
    arguments: list[str] = []
    for word in words[2:]:
        value = re.sub(r"\{(\w+)\}", lambda found: "{{job.parameters." + names[found[1]] + "}}", word)
        if value != word and arguments and re.fullmatch(r"--\w+", arguments[-1]):
            arguments[-1] += f"={value}"
        else:
            arguments.append(value)
    return words[1], arguments


def tasks(example: str, entry_points: dict[str, Any], names: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """For each entry point a condition and the task behind it; and one that fails where `entry_point` names none."""
    found: list[dict[str, Any]] = []
    for name, entry_point in entry_points.items():
        script, arguments = script_and_arguments(entry_point["command"], names[name])
        condition = {"left": "{{job.parameters." + CHOICE + "}}", "op": "EQUAL_TO", "right": name}
        found.append({"task_key": f"is_{name}", "condition_task": condition})
        runner = {
            "python_file": "../run_entry_point.py",
            "parameters": ["{{job.parameters." + EXPERIMENT + "}}", f"{FILES}/{example}/{script}", *arguments],
        }
        chosen = [{"task_key": f"is_{name}", "outcome": "true"}]
        task = {"task_key": name, "depends_on": chosen, "spark_python_task": runner}
        renamed = [f"{parameter} by {called}" for parameter, called in names[name].items() if parameter != called]
        if renamed:
            task["description"] = f"Job parameters: {', '.join(renamed)}; the others by their own names."
        found.append(task)
    refusal = {
        "python_file": "../unknown_entry_point.py",
        "parameters": ["{{job.parameters." + CHOICE + "}}", *entry_points],
    }
    none = [{"task_key": f"is_{name}", "outcome": "false"} for name in entry_points]
    return [*found, {"task_key": "unknown_entry_point", "depends_on": none, "spark_python_task": refusal}]


def job_file(example: str) -> dict[str, Any]:
    """The job of an example, what each target adds to it, and the experiment that its runs go to."""
    project = yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))
    entry_points = project["entry_points"]
    defaults, names = job_parameters(entry_points)
    defaults[EXPERIMENT] = f"${{resources.experiments.{example}.id}}"
    job: dict[str, Any] = {
        "name": f"${{bundle.name}} {example}",
        "description": f"The entry point of {example}/MLproject that the parameter {CHOICE} names.",
        "parameters": [{"name": name, "default": Quoted(default)} for name, default in defaults.items()],
        "tasks": tasks(example, entry_points, names),
    }
    requirements = f"../../{example}/requirements.txt"
    run = [task["task_key"] for task in job["tasks"] if "spark_python_task" in task]
    serverless = {
        "environments": [
            {
                "environment_key": "example",
                "spec": {"environment_version": Quoted("4"), "dependencies": [f"-r {requirements}"]},
            }
        ],
        "tasks": [{"task_key": key, "environment_key": "example"} for key in run],
    }
    cluster = {
        "job_clusters": [
            {
                "job_cluster_key": "example",
                "new_cluster": {
                    "spark_version": "${var.spark_version}",
                    "node_type_id": "${var.node_type_id}",
                    "num_workers": 0,  # one machine is all: the three settings below make it a driver that works
                    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
                    "custom_tags": {"ResourceClass": "SingleNode"},
                    "data_security_mode": "SINGLE_USER",
                },
            }
        ],
        "tasks": [
            {"task_key": key, "job_cluster_key": "example", "libraries": [{"requirements": requirements}]}
            for key in run
        ],
    }
    experiment = {"name": f"/Users/${{workspace.current_user.userName}}/${{bundle.name}}-{example}"}
    return {
        "resources": {"experiments": {example: experiment}, "jobs": {example: job}},
        "targets": {
            "serverless": {"resources": {"jobs": {example: serverless}}},
            "cluster": {"resources": {"jobs": {example: cluster}}},
        },
    }


def bundle_file() -> dict[str, Any]:
    """The bundle itself: its files, its variables and its targets."""
    project = yaml.safe_load((COLLECTION / "MLproject").read_text(encoding="utf-8"))
    return {
        "bundle": {"name": project["name"]},
        "include": [f"on_databricks/resources/{example}.job.yml" for example in EXAMPLES],
        "sync": {"exclude": ["benchmarks/**", "docs/**", "tests/**"]},
        "variables": {
            "spark_version": {
                "description": "Databricks Runtime of the target cluster, 15.0 or later",
                "default": "17.3.x-scala2.13",
            },
            "node_type_id": {
                "description": "machine of the target cluster: Standard_D4ds_v5 on Azure, m5d.xlarge on AWS",
                "default": "Standard_D4ds_v5",
            },
        },
        "targets": {
            "serverless": {"default": True, "mode": "development"},
            "cluster": {"mode": "development"},
        },
    }


def generated() -> dict[str, str]:
    """Path in the collection -> text of each file of the bundle.

    Raises click.ClickException where an MLproject cannot be turned into a job.
    """
    files = {"databricks.yml": ("the MLproject files", bundle_file())}
    for example in EXAMPLES:
        files[f"on_databricks/resources/{example}.job.yml"] = (f"{example}/MLproject", job_file(example))
    return {
        path: f"# Generated from {source} by `python on_databricks/bundle.py`: change that and run it again.\n"
        + yaml.dump(content, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
        for path, (source, content) in files.items()
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=COLLECTION)
def bundle(folder: Path) -> None:
    """Write databricks.yml and on_databricks/resources/*.job.yml into FOLDER, by default the collection itself."""
    for path, text in generated().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
        click.echo(path)


if __name__ == "__main__":
    bundle()
