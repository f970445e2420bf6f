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
from databricks.sdk.service.workspace import ImportFormat
from mlflow import MlflowClient

Fields = dict[str, Any]
KEYS = ("task_key", "job_cluster_key", "environment_key")  # by which the CLI joins lists
KEPT = ".databricks/bundle/{target}/resources.json"  # the numbers of what was deployed
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


class Bundle:
    """The bundle of the current folder as one target has it, and what was deployed of it."""

    def __init__(self, target: str | None, given: tuple[str, ...]) -> None:
        said = _read(Path("databricks.yml"))
        for name in said["include"]:
            said = joined(said, _read(Path(name)))
        target = target or next(name for name, each in said["targets"].items() if each.get("default"))
        self.said = joined(said, said["targets"][target])
        self.sdk = WorkspaceClient()
        name, self.user = said["bundle"]["name"], self.sdk.current_user.me().user_name
        self.known = {f"var.{name}": each["default"] for name, each in said["variables"].items()}
        for each in given:
            variable, _, value = each.partition("=")
            if f"var.{variable}" not in self.known:
                raise click.ClickException(f"variable {variable} has not been defined")
            self.known[f"var.{variable}"] = value
        self.known |= {"bundle.name": name, "bundle.target": target, "workspace.current_user.userName": str(self.user)}
        own = f"/Workspace/Users/{self.user}/.bundle/{name}/{target}"
        self.root = self.filled((self.said.get("workspace") or {}).get("root_path", own))
        self.known["workspace.file_path"] = f"{self.root}/files"
        self.kept = Path(KEPT.format(target=target))
        self.ids: dict[str, str] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.known |= {f"resources.{key}.id": number for key, number in self.ids.items()}

    def filled(self, value: Any) -> Any:
        """A resource with what its references name; raises click.ClickException for a reference to nothing."""
        text = json.dumps(value)
        for name in re.findall(r"\$\{([\w.]+)\}", text):
            if name not in self.known:
                raise click.ClickException(f"reference does not exist: ${{{name}}}")
            text = text.replace(f"${{{name}}}", self.known[name])
        return json.loads(text)

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
        number, ask = self.ids.get(f"{kind}.{key}"), self.sdk.api_client.do
        if kind == "jobs":
            Job.from_dict(cast(JobDict, resource))  # refuses what is no job
            if number:
                ask("POST", "/api/2.2/jobs/reset", body={"job_id": int(number), "new_settings": resource})
            else:
                number = str(cast(Fields, ask("POST", "/api/2.2/jobs/create", body=resource))["job_id"])
        elif number:
            return
        elif kind == "experiments":
            number = MlflowClient().create_experiment(resource["name"])
        elif kind == "registered_models":
            number = ".".join(resource[part] for part in ("catalog_name", "schema_name", "name"))
            MlflowClient(registry_uri="databricks-uc").create_registered_model(number)
        else:
            number = resource["name"]
            ask("POST", "/api/2.0/serving-endpoints", body=resource)
        self.ids[f"{kind}.{key}"] = self.known[f"resources.{kind}.{key}.id"] = str(number)
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        self.kept.write_text(json.dumps(self.ids))


def _read(file: Path) -> Fields:
    """A file of the bundle, its paths as paths below the workspace's files."""
    text = file.read_text(encoding="utf-8")
    for up in range(len(file.parts) - 1, 0, -1):
        text = text.replace("../" * up, "/".join(["${workspace.file_path}", *file.parts[: -1 - up], ""]))
    return dict(yaml.safe_load(text))


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


@click.group()
def cli() -> None:
    """Databricks, in part."""


@cli.command("auth")
@click.argument("verb", type=click.Choice(["login"]))
@click.option("--host", required=True)
@click.option("-p", "--profile", required=True)
def auth(verb: str, host: str, profile: str) -> None:
    """Make a profile; the CLI opens a browser for the token, which is a variable of the test here."""
    known = configparser.ConfigParser()
    known[profile] = {"host": host, "auth_type": "databricks-cli"}
    with (Path.home() / ".databrickscfg").open("w") as opened:
        known.write(opened)


@cli.command("bundle")
@click.argument("verb", type=click.Choice(["deploy", "run", "destroy"]))
@click.option("-t", "--target")
@click.option("--var", "given", multiple=True, metavar="NAME=VALUE")
@click.option("--no-wait", is_flag=True)
@click.argument("rest", nargs=-1)
def bundle(verb: str, target: str | None, given: tuple[str, ...], no_wait: bool, rest: tuple[str, ...]) -> None:
    """Jobs and other resources as one."""
    whole = Bundle(target, given)
    if verb == "run":
        run(whole, no_wait, *rest)
    elif verb == "deploy":
        deploy(whole)
    else:
        click.confirm("Would you like to proceed?", abort=True)
        destroy(whole)


def deploy(whole: Bundle) -> None:
    """Upload the files and create the resources, jobs after the experiments that they name."""
    whole.upload()
    for kind in ("experiments", "jobs", "registered_models", "model_serving_endpoints"):
        for key, said in (whole.said["resources"].get(kind) or {}).items():
            resource = whole.filled(said)
            if kind == "jobs" and whole.said["mode"] == "development":
                resource["name"] = f"[dev {whole.user}] {resource['name']}"
            if kind == "jobs" and "run_as" in whole.said:
                resource["run_as"] = whole.filled(whole.said["run_as"])
            whole.create(kind, key, resource)


def run(whole: Bundle, no_wait: bool, key: str, *parameters: str) -> None:
    """Run a job with its parameters, and wait."""
    words = dict(word.removeprefix("--").split("=", 1) for word in parameters)
    begun = whole.sdk.jobs.run_now(int(whole.ids[f"jobs.{key}"]), job_parameters=words)
    state = None if no_wait else begun.result().state
    if state and state.result_state and state.result_state.value != "SUCCESS":
        raise click.ClickException(f"{state.result_state}: {state.state_message}")


def destroy(whole: Bundle) -> None:
    """Delete what was deployed, files included."""
    delete: dict[str, Any] = {
        "jobs": lambda number: whole.sdk.jobs.delete(int(number)),
        "experiments": MlflowClient().delete_experiment,
        "registered_models": MlflowClient(registry_uri="databricks-uc").delete_registered_model,
        "model_serving_endpoints": whole.sdk.serving_endpoints.delete,
    }
    for name, number in whole.ids.items():
        delete[name.partition(".")[0]](number)
    whole.sdk.workspace.delete(whole.root, recursive=True)
    whole.kept.unlink()
