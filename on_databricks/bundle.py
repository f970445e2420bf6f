"""Generate the jobs of the bundle from the MLproject files of the examples: `python on_databricks/bundle.py`.

A bundle (`databricks bundle deploy`, `databricks bundle run`) reads no MLproject, so its jobs are derived from it: one
job an example, its entry points as tasks, its parameters as job parameters. Only the task of the entry point that the
job parameter `entry_point` names runs. Every resource is made by Databricks's own classes, which check it. What does
not follow from an MLproject, as the targets and what only production has, stands in databricks.yml.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, cast

import click
import yaml
from clusters import SINGLE_NODE
from databricks.bundles.experiments import MlflowExperiment
from databricks.bundles.jobs import Job, JobDict

COLLECTION = Path(__file__).resolve().parent.parent
RESOURCES = COLLECTION / "on_databricks" / "resources"
EXAMPLES = ("classification", "clustering", "git_project", "registry_deploy")
FILES = "${workspace.file_path}"  # where `databricks bundle deploy` puts the files of the collection
PLACE = "${var.catalog}.${var.schema}"  # of the registered models
RUNNER = "../mlflow_databricks_jobs/run_entry_point.py"
CHOICE = "entry_point"
EXPERIMENT = "experiment_id"
MACHINE = {"spark_version": "${var.spark_version}", "node_type_id": "${var.node_type_id}", **SINGLE_NODE}


class Dumper(yaml.SafeDumper):
    """YAML without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    """Text that stays text in every reader of YAML: 1e-09 is a number to those that are not written in Python."""
    quoted = re.match(r"[-+.\d]", text) or text.lower() in ("true", "false", "yes", "no", "on", "off", "null")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


Dumper.add_representer(str, _text)


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
            default = with_place(parameter, str(description["default"])) if "default" in description else None
            if (parameter, default) not in shared:
                first = parameter not in {known for known, _ in shared}
                called = parameter if first else f"{name}_{parameter}"
                if called in defaults:
                    raise click.ClickException(f"{called!r}, of entry point {name!r}, is another job parameter.")
                shared[parameter, default] = called
                defaults[called] = default or ""
            own_names[name][parameter] = shared[parameter, default]
    return defaults, own_names


def with_place(parameter: str, default: str) -> str:
    """A default in which the name of a registered model has its catalog and schema."""
    if parameter == "name":
        return f"{PLACE}.{default}"
    return default.replace("models:/", f"models:/{PLACE}.", 1) if default.startswith("models:/") else default


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
    choice = "{{job.parameters." + CHOICE + "}}"
    found: list[dict[str, Any]] = []
    for name, entry_point in entry_points.items():
        script, arguments = script_and_arguments(entry_point["command"], names[name])
        condition = {"left": choice, "op": "EQUAL_TO", "right": name}
        words = ["task", "{{job.parameters." + EXPERIMENT + "}}", f"{FILES}/{example}/{script}", *arguments]
        renamed = [f"{parameter} by {called}" for parameter, called in names[name].items() if parameter != called]
        task: dict[str, Any] = {
            "task_key": name,
            "depends_on": [{"task_key": f"is_{name}", "outcome": "true"}],
            "spark_python_task": {"python_file": RUNNER, "parameters": words},
        }
        if renamed:
            task["description"] = f"Job parameters: {', '.join(renamed)}; the others by their own names."
        found += [{"task_key": f"is_{name}", "condition_task": condition}, task]
    none = {
        "task_key": "unknown_entry_point",
        "depends_on": [{"task_key": f"is_{name}", "outcome": "false"} for name in entry_points],
        "spark_python_task": {"python_file": RUNNER, "parameters": ["unknown", choice, *entry_points]},
    }
    return [*found, none]


def job_file(example: str) -> dict[str, Any]:
    """The job of an example, what each target adds to it, and the experiment that its runs go to."""
    project = yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))
    defaults, names = job_parameters(project["entry_points"])
    defaults[EXPERIMENT] = f"${{resources.experiments.{example}.id}}"
    steps = tasks(example, project["entry_points"], names)
    job = {
        "name": f"${{bundle.name}} {example}",
        "description": f"The entry point of {example}/MLproject that the parameter {CHOICE} names.",
        "max_concurrent_runs": 4,
        "timeout_seconds": 7200,
        "parameters": [{"name": name, "default": value} for name, value in defaults.items()],
        "tasks": steps,
    }
    requirements = f"../../{example}/requirements.txt"
    run = [step["task_key"] for step in steps if "spark_python_task" in step]
    spec = {"environment_version": "5", "dependencies": [f"-r {requirements}"]}
    serverless: dict[str, Any] = {
        "environments": [{"environment_key": "example", "spec": spec}],
        "tasks": [{"task_key": name, "environment_key": "example"} for name in run],
    }
    installed = [{"requirements": requirements}]
    cluster = {
        "job_clusters": [{"job_cluster_key": "example", "new_cluster": MACHINE}],
        "tasks": [{"task_key": name, "job_cluster_key": "example", "libraries": installed} for name in run],
    }
    view = [{"level": "CAN_VIEW", "group_name": "users"}]
    prod = {**serverless, "max_concurrent_runs": 1, "permissions": view}
    if example == "classification":  # trained again each week, from the day on which you resume the schedule
        weekly = {"quartz_cron_expression": "0 0 4 ? * MON", "timezone_id": "UTC", "pause_status": "PAUSED"}
        prod["schedule"] = weekly
    targets = {"serverless": serverless, "cluster": cluster, "prod": prod}
    # A name is taken once, so each target has an experiment of its own.
    name = f"/Users/${{workspace.current_user.userName}}/${{bundle.name}}-${{bundle.target}}-{example}"
    experiment = MlflowExperiment(name=name).as_dict()
    return {
        "resources": {"experiments": {example: experiment}, "jobs": {example: checked(job)}},
        "targets": {name: {"resources": {"jobs": {example: checked(added)}}} for name, added in targets.items()},
    }


def checked(job: dict[str, Any]) -> dict[str, Any]:
    """A job, or a part of it, once Databricks's own class has taken it; raises ValueError for what it does not know."""
    return dict(Job.from_dict(cast(JobDict, job)).as_dict())


def generated(example: str) -> str:
    """The text of resources/<example>.job.yml; raises click.ClickException for a command that is no Python file."""
    text = yaml.dump(job_file(example), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
    command = "python on_databricks/bundle.py"
    return f"# Generated from {example}/MLproject by `{command}`: change that and run it again.\n{text}"


if __name__ == "__main__":
    for name in EXAMPLES:
        (RESOURCES / f"{name}.job.yml").write_text(generated(name), encoding="utf-8", newline="\n")
