"""A stand-in for the Databricks CLI, which no package index has: the commands and flags that the pages type.

It reads `databricks.yml` as the CLI does (targets joined by key, variables, the prefix of mode: development, paths
below the workspace's), uploads what Git would commit, creates the resources, and refuses what it does not know.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from pathlib import Path
from typing import Any, cast

import click
import yaml
from databricks.bundles.jobs import Job, JobDict
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import RunResultState
from databricks.sdk.service.workspace import ImportFormat
from mlflow import MlflowClient

Fields = dict[str, Any]
KEYS = ("task_key", "job_cluster_key", "environment_key")  # by which the CLI joins lists
BUNDLE = [
    click.option("-t", "--target"),
    click.option("--var", "given", multiple=True, metavar="NAME=VALUE"),
]


# What the SDK asks of the CLI for a profile; a shell answers, because it asks often.
EXECUTABLE = """#!/bin/sh
case "$*" in
"version --output json") echo '{"Version": "1.13.0", "Major": 1, "Minor": 13, "Patch": 0}' ;;
"auth token --"*)
  echo '{"token_type": "Bearer", "expiry": "2099-01-01T00:00:00Z", "access_token": "'"$STAND_IN_TOKEN"'"}' ;;
*) echo "Error: unknown command: $*" >&2; exit 1 ;;
esac
"""


def install(folder: Path) -> None:
    """Write an executable `databricks` into a folder for PATH, of the size by which the SDK knows the new CLI."""
    file = folder / "databricks"
    file.write_text(f"{EXECUTABLE}exit\n#{'.' * 2**20}\n", encoding="utf-8")
    file.chmod(0o755)


@click.group()
def cli() -> None:
    """Databricks, in part."""


@cli.group()
def auth() -> None:
    """Sign in."""


@auth.command()
@click.option("--host", required=True)
@click.option("-p", "--profile", required=True)
def login(host: str, profile: str) -> None:
    """Make a profile; the CLI opens a browser for the token, which is a variable of the test here."""
    file = Path.home() / ".databrickscfg"
    known = configparser.ConfigParser()
    known.read(file)
    known[profile] = {"host": host, "auth_type": "databricks-cli"}
    with file.open("w") as opened:
        known.write(opened)


class Bundle:
    """The bundle of the current folder as one target has it, and what was deployed of it."""

    def __init__(self, target: str | None, given: tuple[str, ...]) -> None:
        said = _read(Path("databricks.yml"))
        for name in said["include"]:
            said = joined(said, _read(Path(name)))
        targets = said["targets"]
        self.target = target or next(name for name, each in targets.items() if (each or {}).get("default"))
        if self.target not in targets:
            raise click.ClickException(f"{self.target}: no such target. Available targets: {', '.join(targets)}")
        self.said = joined(said, targets[self.target])
        self.sdk = WorkspaceClient()
        self.name, self.user = said["bundle"]["name"], self.sdk.current_user.me().user_name
        self.known = {f"var.{name}": each["default"] for name, each in said["variables"].items()}
        for name, value in (each.split("=", 1) for each in given):
            if f"var.{name}" not in self.known:
                raise click.ClickException(f"variable {name} has not been defined")
            self.known[f"var.{name}"] = value
        self.known |= {
            "bundle.name": self.name,
            "bundle.target": self.target,
            "workspace.current_user.userName": self.user,
        }
        own = f"/Workspace/Users/{self.user}/.bundle/{self.name}/{self.target}"
        self.root = self.filled((self.said.get("workspace") or {}).get("root_path", own))
        self.known["workspace.file_path"] = f"{self.root}/files"
        self.kept = Path(".databricks", "bundle", self.target, "resources.json")
        self.ids: dict[str, str] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.known |= {f"resources.{key}.id": number for key, number in self.ids.items()}

    def filled(self, value: Any) -> Any:
        """Text with what its references name; raises click.ClickException for a reference to nothing."""
        if isinstance(value, dict):
            return {name: self.filled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if not isinstance(value, str):
            return value
        for name in re.findall(r"\$\{([\w.]+)\}", value):
            if name not in self.known:
                raise click.ClickException(f"reference does not exist: ${{{name}}}")
            value = value.replace(f"${{{name}}}", self.known[name])
        return value

    def upload(self) -> None:
        """Put the files there that Git would commit and `sync` does not exclude."""
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], text=True).split("\n")
        left_out = tuple(each.removesuffix("**") for each in self.said["sync"]["exclude"])
        files = [name for name in listed if Path(name).is_file() and not name.startswith(left_out)]
        for folder in {Path(name).parent.as_posix() for name in files}:
            self.sdk.workspace.mkdirs(f"{self.root}/files/{folder}")
        for name in files:
            content, place = Path(name).read_bytes(), f"{self.root}/files/{name}"
            self.sdk.workspace.upload(place, content, format=ImportFormat.AUTO, overwrite=True)

    def create(self, kind: str, key: str, resource: Fields) -> None:
        """Create a resource, or change the job that is there, and keep its number."""
        there = self.ids.get(f"{kind}.{key}")
        made: Any = {}
        if kind == "jobs":
            Job.from_dict(cast(JobDict, resource))  # refuses what is no job
            call, body = ("reset", {"job_id": int(there), "new_settings": resource}) if there else ("create", resource)
            made = self.sdk.api_client.do("POST", f"/api/2.2/jobs/{call}", body=body)
        elif there:
            return
        elif kind == "experiments":
            made = {"id": MlflowClient().create_experiment(resource["name"])}
        elif kind == "registered_models":
            name = ".".join(resource[part] for part in ("catalog_name", "schema_name", "name"))
            made = {"id": MlflowClient(registry_uri="databricks-uc").create_registered_model(name).name}
        elif kind == "model_serving_endpoints":
            self.sdk.api_client.do("POST", "/api/2.0/serving-endpoints", body=resource)
            made = {"id": resource["name"]}
        number = str(there or next(iter(made.values())))
        self.ids[f"{kind}.{key}"] = self.known[f"resources.{kind}.{key}.id"] = number
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        self.kept.write_text(json.dumps(self.ids))


def _read(file: Path) -> Fields:
    """A file of the bundle, its paths as paths below the workspace's files."""
    text = file.read_text(encoding="utf-8")
    for up in range(len(file.parts) - 1, 0, -1):
        text = text.replace("../" * up, "/".join(["${workspace.file_path}", *file.parts[: -1 - up], ""]))
    found: Fields = yaml.safe_load(text)
    return found


def joined(base: Any, more: Any) -> Any:
    """What a target or an included file adds: to objects by name, to lists by the key of their items."""
    if isinstance(base, dict) and isinstance(more, dict):
        return {name: joined(base.get(name), more.get(name)) for name in {**base, **more}}
    if isinstance(base, list) and isinstance(more, list):
        for key in KEYS:
            if key in more[0]:
                both = {each[key]: each for each in base}
                return list({**both, **{each[key]: joined(both.get(each[key]), each) for each in more}}.values())
        return [*base, *more]
    return base if more is None else more


@cli.group()
def bundle() -> None:
    """Jobs and other resources as one."""


def of_a_bundle(function: Any) -> Any:
    for option in BUNDLE:
        function = option(function)
    return bundle.command()(function)


@of_a_bundle
def deploy(target: str | None, given: tuple[str, ...]) -> None:
    """Upload the files and create the resources, jobs after the experiments that they name."""
    whole = Bundle(target, given)
    whole.upload()
    for kind in ("experiments", "jobs", "registered_models", "model_serving_endpoints"):
        for key, said in (whole.said["resources"].get(kind) or {}).items():
            resource = whole.filled(said)
            if kind == "jobs":
                if whole.said["mode"] == "development":
                    resource = {**resource, "name": f"[dev {whole.user}] {resource['name']}"}
                resource |= {name: whole.filled(whole.said[name]) for name in ("run_as",) if name in whole.said}
            whole.create(kind, key, resource)
    click.echo("Deployment complete!")


@of_a_bundle
@click.argument("key")
@click.argument("parameters", nargs=-1)
def run(target: str | None, given: tuple[str, ...], key: str, parameters: tuple[str, ...]) -> None:
    """Run a job with its parameters, and wait."""
    whole = Bundle(target, given)
    if f"jobs.{key}" not in whole.ids:
        raise click.ClickException(f"resource with key {key!r} not found, or not deployed")
    words = dict(word.removeprefix("--").split("=", 1) for word in parameters)
    state = whole.sdk.jobs.run_now_and_wait(int(whole.ids[f"jobs.{key}"]), job_parameters=words).state
    if not state or state.result_state != RunResultState.SUCCESS:
        raise click.ClickException(f"{state and state.result_state}: {state and state.state_message}")


@of_a_bundle
@click.option("--auto-approve", is_flag=True)
def destroy(target: str | None, given: tuple[str, ...], auto_approve: bool) -> None:
    """Delete what was deployed, files included."""
    whole = Bundle(target, given)
    if not auto_approve:
        click.confirm("Would you like to proceed?", abort=True)
    for name, number in whole.ids.items():
        kind = name.partition(".")[0]
        if kind == "jobs":
            whole.sdk.jobs.delete(int(number))
        elif kind == "experiments":
            MlflowClient().delete_experiment(number)
        elif kind == "registered_models":
            MlflowClient(registry_uri="databricks-uc").delete_registered_model(number)
        else:
            whole.sdk.serving_endpoints.delete(number)
    whole.sdk.workspace.delete(whole.root, recursive=True)
    whole.kept.unlink()
    click.echo("Destroy complete!")
