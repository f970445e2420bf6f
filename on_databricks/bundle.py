"""Generate a Declarative Automation Bundle from the MLproject files of the examples: `python on_databricks/bundle.py`.

A bundle (`databricks bundle deploy`, `databricks bundle run`) reads no MLproject, so its jobs are derived from it: one
job an example, its entry points as tasks, its parameters as job parameters. Only the task of the entry point that the
job parameter `entry_point` names runs. Every resource is made by Databricks's own classes, which check it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import yaml
from databricks.bundles.experiments import MlflowExperiment
from databricks.bundles.jobs import (
    ClusterSpec,
    ConditionTask,
    ConditionTaskOp,
    CronSchedule,
    Environment,
    Job,
    JobCluster,
    JobEnvironment,
    JobParameterDefinition,
    JobPermission,
    JobPermissionLevel,
    Library,
    SparkPythonTask,
    Task,
    TaskDependency,
)
from databricks.bundles.model_serving_endpoints import (
    EndpointCoreConfigInput,
    ModelServingEndpoint,
    ServedEntityInput,
)
from databricks.bundles.registered_models import RegisteredModel

COLLECTION = Path(__file__).resolve().parent.parent
EXAMPLES = ("classification", "clustering", "git_project", "registry_deploy")
FILES = "${workspace.file_path}"  # where `databricks bundle deploy` puts the files of the collection
PLACE = "${var.catalog}.${var.schema}"  # of the registered models
CHOICE = "entry_point"
EXPERIMENT = "experiment_id"
VARIABLES = {  # of the bundle: what each is for, and its default
    "catalog": ("of the registered models", "main"),
    "schema": ("of the registered models", "default"),
    "spark_version": ("Databricks Runtime of the target cluster, 16.4 LTS or later", "17.3.x-scala2.13"),
    "node_type_id": (
        "machine of the target cluster: Standard_D4ds_v5 on Azure, m5d.xlarge on AWS",
        "Standard_D4ds_v5",
    ),
    "run_as": ("application id of the service principal that the target prod runs as", ""),
    "served_version": ("version of churn that the endpoint of the target prod serves; it must exist", "1"),
}
# One machine: a driver that works.
SINGLE_NODE = ClusterSpec.from_dict(
    {
        "spark_version": "${var.spark_version}",
        "node_type_id": "${var.node_type_id}",
        "num_workers": 0,
        "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
        "custom_tags": {"ResourceClass": "SingleNode"},
        "data_security_mode": "SINGLE_USER",
    }
)


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


def tasks(example: str, entry_points: dict[str, Any], names: dict[str, dict[str, str]]) -> list[Task]:
    """For each entry point a condition and the task behind it; and one that fails where `entry_point` names none."""
    choice = "{{job.parameters." + CHOICE + "}}"
    found: list[Task] = []
    for name, entry_point in entry_points.items():
        script, arguments = script_and_arguments(entry_point["command"], names[name])
        condition = ConditionTask(left=choice, op=ConditionTaskOp.EQUAL_TO, right=name)
        found.append(Task(task_key=f"is_{name}", condition_task=condition))
        renamed = [f"{parameter} by {called}" for parameter, called in names[name].items() if parameter != called]
        task = Task(
            task_key=name,
            description=f"Job parameters: {', '.join(renamed)}; the others by their own names." if renamed else None,
            depends_on=[TaskDependency(task_key=f"is_{name}", outcome="true")],
            spark_python_task=SparkPythonTask(
                python_file="../run_entry_point.py",
                parameters=["{{job.parameters." + EXPERIMENT + "}}", f"{FILES}/{example}/{script}", *arguments],
            ),
        )
        found.append(task)
    none = Task(
        task_key="unknown_entry_point",
        depends_on=[TaskDependency(task_key=f"is_{name}", outcome="false") for name in entry_points],
        spark_python_task=SparkPythonTask(python_file="../unknown_entry_point.py", parameters=[choice, *entry_points]),
    )
    return [*found, none]


def job_file(example: str) -> dict[str, Any]:
    """The job of an example, what each target adds to it, and the experiment that its runs go to."""
    project = yaml.safe_load((COLLECTION / example / "MLproject").read_text(encoding="utf-8"))
    defaults, names = job_parameters(project["entry_points"])
    defaults[EXPERIMENT] = f"${{resources.experiments.{example}.id}}"
    steps = tasks(example, project["entry_points"], names)
    job = Job(
        name=f"${{bundle.name}} {example}",
        description=f"The entry point of {example}/MLproject that the parameter {CHOICE} names.",
        max_concurrent_runs=4,
        timeout_seconds=7200,
        parameters=[JobParameterDefinition(name=name, default=value) for name, value in defaults.items()],
        tasks=[*steps],
    )
    requirements = f"../../{example}/requirements.txt"
    run = [str(task.task_key) for task in steps if task.spark_python_task]
    spec = Environment(environment_version="5", dependencies=[f"-r {requirements}"])
    serverless = {
        "environments": [JobEnvironment(environment_key="example", spec=spec).as_dict()],
        "tasks": [Task(task_key=key, environment_key="example").as_dict() for key in run],
    }
    library = Library(requirements=requirements)
    cluster = {
        "job_clusters": [JobCluster(job_cluster_key="example", new_cluster=SINGLE_NODE).as_dict()],
        "tasks": [Task(task_key=key, job_cluster_key="example", libraries=[library]).as_dict() for key in run],
    }
    prod: dict[str, Any] = {**serverless, "max_concurrent_runs": 1}
    prod["permissions"] = [JobPermission(level=JobPermissionLevel.CAN_VIEW, group_name="users").as_dict()]
    if example == "classification":  # trained again each week, from the day on which you resume the schedule
        weekly = CronSchedule.from_dict(
            {"quartz_cron_expression": "0 0 4 ? * MON", "timezone_id": "UTC", "pause_status": "PAUSED"}
        )
        prod["schedule"] = weekly.as_dict()
    experiment = MlflowExperiment(name=f"/Users/${{workspace.current_user.userName}}/${{bundle.name}}-{example}")
    return {
        "resources": {"experiments": {example: experiment.as_dict()}, "jobs": {example: job.as_dict()}},
        "targets": {
            target: {"resources": {"jobs": {example: added}}}
            for target, added in {"serverless": serverless, "cluster": cluster, "prod": prod}.items()
        },
    }


def bundle_file() -> dict[str, Any]:
    """The bundle itself: its files, its variables, its targets, and what only production has."""
    project = yaml.safe_load((COLLECTION / "MLproject").read_text(encoding="utf-8"))
    model = RegisteredModel(
        catalog_name="${var.catalog}", schema_name="${var.schema}", name="churn", comment="Who is about to leave"
    )
    served = ServedEntityInput(
        name="blue",
        entity_name=f"{PLACE}.churn",
        entity_version="${var.served_version}",
        workload_size="Small",
        scale_to_zero_enabled=True,
    )
    endpoint = ModelServingEndpoint(
        name="${bundle.name}-churn", config=EndpointCoreConfigInput(served_entities=[served])
    )
    production = {
        "mode": "production",
        "run_as": {"service_principal_name": "${var.run_as}"},
        "workspace": {"root_path": "/Workspace/Shared/.bundle/${bundle.name}/${bundle.target}"},
        "resources": {
            "registered_models": {"churn": model.as_dict()},
            "model_serving_endpoints": {"churn": endpoint.as_dict()},
        },
    }
    return {
        "bundle": {"name": project["name"]},
        "include": [f"on_databricks/resources/{example}.job.yml" for example in EXAMPLES],
        "sync": {"exclude": ["benchmarks/**", "docs/**", "tests/**"]},
        "variables": {
            name: {"description": description, "default": default} for name, (description, default) in VARIABLES.items()
        },
        "targets": {
            "serverless": {"default": True, "mode": "development"},
            "cluster": {"mode": "development"},
            "prod": production,
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
