"""Look at the registry and keep it in order: list, describe, load, history, rename, archive, delete."""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import predictions_to_json

from answers import raw_model
from model_files import reason
from owners import records, refuse_deployed
from support.entry_point import run_command
from support.table import bad
from versions import (
    CHALLENGER,
    CHAMPION,
    champions,
    explained,
    find_model,
    find_version,
    moment,
    now,
    quiet,
    say_whose,
    tags_of,
    versions,
    who,
)

uri_option = click.option(
    "--model_uri", default="models:/churn@champion", help="models:/<name>@<alias> or models:/<name>/<version>."
)


def table_of_versions(name: str, metric: str) -> pd.DataFrame:
    """One row a version, the newest first: aliases, when it was registered, a metric, what uses it."""
    named = find_model(name).aliases.items()
    return pd.DataFrame(
        {
            "name": name,
            "version": version.version,
            "aliases": ", ".join(alias for alias, number in named if str(number) == str(version.version)),
            "registered": moment(version.creation_timestamp),
            metric: tags_of(version).get(f"metric.{metric}", ""),
            "deployed": ", ".join(records(version)),
            "archived": tags_of(version).get("archived_at", ""),
        }
        for version in versions(name)
    )


def reigns(name: str) -> pd.DataFrame:
    """The history of champions, oldest first, from the tags that `promote` and `rollback` leave on the model."""
    model = find_model(name)
    noted = champions(model)
    table = pd.DataFrame(list(noted.values()), columns=["version", "by", "run"]).fillna("")
    table.insert(1, "from", list(noted))
    table.insert(2, "until", [*list(noted)[1:], ""][: len(noted)])
    table.insert(3, "how", np.where(table["run"] != "", "promoted", "rolled back"))
    today = str(model.aliases.get(CHAMPION, ""))
    if today != "".join(table["version"].tail(1)):
        how = "alias moved by other means" if today else "alias removed by other means"
        table.loc[len(table)] = [today or "none", "?", "", how, "?", ""]
    return table.rename(columns={"run": "evaluation_run"})


def description_of(version: ModelVersion) -> str:
    """All that is known of a version, one fact a line."""
    uri = f"models:/{version.name}/{version.version}"
    info = mlflow.models.get_model_info(uri)
    facts: dict[str, Any] = {
        "model": uri,
        "aliases": ", ".join(version.aliases) or "none",
        "registered": moment(version.creation_timestamp),
        "description": version.description or "none",
        "model id": info.model_id or info.model_uuid,
        "flavours": ", ".join(info.flavors),
        "inputs": columns_of(info.signature and info.signature.inputs),
        "outputs": columns_of(info.signature and info.signature.outputs),
        "input example": "yes" if info.saved_input_example_info else "none",
        **dict(sorted(tags_of(version).items())),
    }
    return "\n".join(f"{key:<18} {value}" for key, value in facts.items())


def columns_of(schema: Any) -> str:
    """The columns of a schema and their types, in one line."""
    return ", ".join(map(str, schema.inputs)) if schema else "not declared"


def refuse_used(version: ModelVersion, parameter: str, doing: str, but: str = "") -> None:
    """Raise click.BadParameter where an alias (`but` one) or a deployment uses a version."""
    uri = f"models:/{version.name}/{version.version}"
    if held := [alias for alias in version.aliases if alias != but]:
        raise bad(parameter, uri, f"is {', '.join(held)}: move or remove the alias before you {doing} it.")
    refuse_deployed(version, parameter, doing)


@click.group()
def registry() -> None:
    """Look at registered models and keep them in order."""
    quiet()


@registry.command("list")
@click.option("--name", default="", help="One registered model; default: all.")
@click.option("--metric", default="roc_auc", help="Which metric to show.")
def list_versions(name: str, metric: str) -> None:
    """List the versions of one registered model, or of all."""
    with explained():
        names = [name] if name else [model.name for model in mlflow.search_registered_models()]
        tables = [table for table in (table_of_versions(each, metric) for each in names) if len(table)]
        if not tables:
            click.echo("No version is registered.")
            return
        listed = pd.concat(tables)
        click.echo(listed.to_string(index=False))
        if not listed[metric].any():
            click.echo(f"No version has the metric {metric!r}: `describe` shows those of a version.")


@registry.command()
@uri_option
def describe(model_uri: str) -> None:
    """Show all that is known of a version."""
    with explained():
        click.echo(description_of(find_version(model_uri)))


@registry.command()
@uri_option
def load(model_uri: str) -> None:
    """Load a version and let it answer its own input example."""
    with explained():
        version = find_version(model_uri)
        uri = f"models:/{version.name}/{version.version}"
        say_whose(version)
        said = StringIO()
        try:
            model = mlflow.pyfunc.load_model(uri)
            if model.input_example is not None:
                predictions_to_json(model.predict(model.input_example), said)
        except Exception as error:  # a model may raise anything
            raise bad("model_uri", model_uri, f"cannot be loaded here: {reason(error)}") from None
        what = type(raw_model(model) or model.unwrap_python_model()).__name__
        click.echo(f'{uri}: mlflow.pyfunc.load_model("{model_uri}") gives a {what}.')
        answer = f"Its answer to its own input example: {said.getvalue()}"
        click.echo(answer if said.getvalue() else "It has no input example to try it on.")


@registry.command()
@click.option("--name", default="churn", help="The registered model.")
def history(name: str) -> None:
    """Show the history of champions, oldest first."""
    with explained():
        table = reigns(name)
        click.echo(table.to_string(index=False) if len(table) else f"{name} has never had a {CHAMPION}.")


@registry.command()
@click.option("--name", required=True, help="The registered model.")
@click.option("--new_name", required=True, help="Its new name.")
def rename(name: str, new_name: str) -> None:
    """Give a registered model another name; versions, aliases, tags and history go along."""
    with explained():
        find_model(name)
        for version in versions(name):
            refuse_deployed(version, "name", "rename")
        try:
            MlflowClient().rename_registered_model(name, new_name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"):
                raise  # a lack of rights is not the fault of the name
            raise bad("new_name", new_name, f"cannot be the new name: {reason(error)}") from None
        click.echo(f"{name} is called {new_name} now. Programs that load models:/{name}... must be changed.")


@registry.command()
@click.option("--model_uri", required=True, help="models:/<name>@<alias> or models:/<name>/<version>.")
def archive(model_uri: str) -> None:
    """Mark a version as archived: it is kept, loses the alias challenger and is not promoted any more."""
    with explained():
        client, version = MlflowClient(), find_version(model_uri)
        refuse_used(version, "model_uri", "archive", but=CHALLENGER)
        if CHALLENGER in version.aliases:
            client.delete_registered_model_alias(version.name, CHALLENGER)
        for key, value in {"archived_at": now(), "archived_by": who()}.items():
            client.set_model_version_tag(version.name, version.version, key, value)
        click.echo(f"models:/{version.name}/{version.version} is archived.")


@registry.command()
@click.option("--name", required=True, help="The registered model.")
@click.option("--version", default="", help="One version; default: the model with all its versions.")
@click.option("--confirm", default="", help="Type the name again: churn/3, or churn for all versions.")
def delete(name: str, version: str, confirm: str) -> None:
    """Delete a version, or a registered model with all its versions, for good; the runs and logged models stay."""
    with explained():
        client, wanted = MlflowClient(), f"{name}/{version}" if version else name
        find_model(name)
        doomed = [find_version(f"models:/{name}/{version}", "version")] if version else versions(name)
        for each in doomed:
            refuse_used(client.get_model_version(name, each.version), "name", "delete")
        if not confirm and sys.stdin.isatty():
            confirm = click.prompt(f"This deletes {wanted} for good. Type its exact name to go on")
        if confirm != wanted:
            raise bad("confirm", confirm, f"is not the exact name: {wanted} deletes {len(doomed)} version(s) for good.")
        if version:
            client.delete_model_version(name, version)
        else:
            client.delete_registered_model(name)
        click.echo(f"{wanted} is deleted.")


if __name__ == "__main__":
    run_command(registry)
