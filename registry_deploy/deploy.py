"""Put a registered model behind an endpoint, here or on Azure; look at it, roll it back, take it down, score."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.types import ColSpec, Schema

import owners
from answers import as_input
from instances import all_rows, instances
from local_target import LocalTarget
from processes import Recording
from rollout import Target
from support.entry_point import FiniteRange, run_command
from support.inputs import to_frame
from support.kinds import decide
from support.names import free_names, split_list
from support.table import OpenedTable, bad, open_table
from target import Colour, DeploymentError, Status
from versions import explained, find_version, in_unity_catalog, quiet, say_whose, step_back

DEFAULT_ENDPOINT = "churn"
ENDPOINT = [  # the options that say which endpoint is meant
    click.Option(["--target"], type=click.Choice(["local", "azureml", "databricks"]), default="local"),
    click.Option(["--endpoint"], default=DEFAULT_ENDPOINT, help="The endpoint's name."),
    click.Option(["--directory"], default="", help="local: where models, logs and state go; one endpoint each."),
    click.Option(["--config"], default="azure.json", help="azureml: JSON file with workspace and machines."),
    *(
        click.Option([f"--{name}"], default="", help="azureml: instead of the file's.")
        for name in ("subscription_id", "resource_group", "workspace_name")
    ),
]


def make_target(
    target: str,
    endpoint: str,
    directory: str,
    config: str,
    *,
    host: str = "",
    port: int = 0,
    env_manager: str = "local",
    certificate: str = "",
    recording: Recording | None = None,
    **machines: Any,
) -> Target:
    """The target of the options; empty ones mean its defaults.

    Raises click.BadParameter for a name that cannot be an endpoint's, DeploymentError for what the target refuses.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", endpoint):
        raise bad("endpoint", endpoint, "is no name for an endpoint: letters, digits, - and _.")
    if target == "local":
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return LocalTarget(
            endpoint,
            directory=Path(directory).expanduser() if directory else Path(state) / "registry_deploy" / endpoint,
            host=host or None,
            port=port or None,
            env_manager=env_manager,
            certificate=str(Path(certificate).expanduser().absolute()) if certificate else "",
            recording=recording,
            say=click.echo,
        )
    if recording is not None:
        theirs = {"azureml": "the data collector of Azure", "databricks": "AI Gateway's inference tables"}[target]
        raise bad("record", recording.record, f"is for target=local: for {target} use {theirs}, see README.md.")
    cloud = cloud_target(target, endpoint, config, {name: given for name, given in machines.items() if given})
    cloud.env_manager = env_manager  # in which it is asked, before the cloud serves it
    return cloud


def cloud_target(target: str, endpoint: str, config: str, machines: dict[str, Any]) -> Target:
    """A target in a cloud; its packages are imported only for it. Raises DeploymentError."""
    try:
        if target == "databricks":
            from databricks_target import DatabricksTarget

            return DatabricksTarget(endpoint, workload_size=machines.get("instance_type", "Small"), say=click.echo)
        from azure_target import AzureConfig, AzureTarget
    except ImportError as error:
        packages = "requirements-azure.txt" if target == "azureml" else "requirements.txt"
        told = f"target={target}: {error}; install this project's {packages} into this environment"
        raise DeploymentError(told) from error
    file = Path(__file__).with_name("azure.json") if config == "azure.json" else Path(config).expanduser()
    settings = AzureConfig.read(file, **machines)
    if endpoint == DEFAULT_ENDPOINT:  # unique in its region: surely taken by somebody
        endpoint += f"-{hashlib.sha256(settings.workspace.encode()).hexdigest()[:6]}"
    return AzureTarget(endpoint, config=settings, say=click.echo)


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a target's error into one line; what stands below it, such as the end of a log, is printed before."""
    with explained():
        try:
            yield
        except DeploymentError as error:
            line, _, log = str(error).partition("\n")
            if log:
                click.echo(f"The last lines of its log: {log}", err=True)
            raise click.ClickException(f"{line.rstrip(':.')}.") from None


def table_of(status: Status) -> str:
    """What is deployed, as text."""
    if not status.colours:
        return f"{status.endpoint}: nothing is deployed."
    rows = [
        (name, colour.model_name, colour.model_version, f"{colour.traffic} %", colour.state)
        for name, colour in status.colours.items()
    ]
    table = pd.DataFrame(rows, columns=["colour", "model", "version", "traffic", "state"]).to_string(index=False)
    return f"{status.endpoint}: {status.scoring_uri}\n{table}\n{status.recording}".rstrip()


def recording_of(record: str, share: float, omit: str, keep_days: int) -> Recording | None:
    """The recording of the options; None where `record` is empty: it stays as it was.

    Raises click.BadParameter.
    """
    if not record:
        for name, given in {"share": share != 1, "omit": omit, "keep_days": keep_days != 90}.items():
            if given:
                raise click.UsageError(f"{name} belongs to a recording: give record= as well.")
        return None
    if record != "off" and "://" not in record:
        path = Path(record).expanduser()
        if not path.is_absolute():
            raise bad("record", record, 'is a relative path: give its full one, "$PWD/...".')
        record = str(path)
    if urlsplit(record).username:
        raise bad("record", record.partition("://")[0] + "://...", "holds credentials: give them in the environment.")
    return Recording("" if record == "off" else record, share, split_list("omit", omit), keep_days)


def say_unknown(recording: Recording | None, version: Any) -> None:
    """Name the columns to omit that are no inputs of the model: perhaps misspelled, and then recorded."""
    if recording is None or not recording.omit:
        return
    signature = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}").signature
    if signature and signature.inputs.has_input_names():
        for name in sorted(set(recording.omit) - set(signature.inputs.input_names())):
            click.echo(f"omit: {name} is no input of {version.name} version {version.version}.", err=True)


@click.group()
def deployment() -> None:
    """Deploy registered models."""
    logging.basicConfig(format="%(message)s")
    quiet()


@deployment.command(params=[*ENDPOINT])
@click.option(
    "--model_uri", default="models:/churn@champion", help="models:/<name>@<alias> or models:/<name>/<version>."
)
@click.option("--canary", type=click.IntRange(1, 100), default=100, help="Percent of the requests that it gets.")
@click.option("--host", default="", help="local: address to listen on; default 127.0.0.1.")
@click.option("--port", type=click.IntRange(-1, 65535), default=0, help="local: 0 for 5001, -1 for a free one.")
@click.option("--env_manager", type=click.Choice(["local", "uv"]), default="local", help="local: the model's packages.")
@click.option("--certificate", default="", help="local: PEM file with a certificate and its key, for HTTPS.")
@click.option("--instance_type", default="", help="azureml: instead of the file's.")
@click.option("--instance_count", type=click.IntRange(0, 50), default=0, help="azureml: instead of the file's.")
@click.option("--record", default="", help="local: folder or URI for requests and answers; off; default: as it was.")
@click.option("--share", type=FiniteRange(0, 1, min_open=True), default=1, help="Of the requests that are recorded.")
@click.option("--omit", default="", help="Columns that are not recorded, comma-separated.")
@click.option("--keep_days", type=click.IntRange(1), default=90, help="How long recorded rows are kept.")
def deploy(model_uri: str, canary: int, record: str, share: float, omit: str, keep_days: int, **options: Any) -> None:
    """Serve a version beside the live one, test it, and give it its share of the requests."""
    with one_line():
        recording = recording_of(record, share, omit, keep_days)
        target = make_target(**options, recording=recording)
        version = find_version(model_uri)
        say_unknown(recording, version)
        say_whose(version)
        # Before it serves: what is on record is not deleted meanwhile.
        owners.record(target, starting=[(version.name, str(version.version))])
        try:
            status = target.deploy(f"models:/{version.name}/{version.version}", canary=canary)
        finally:
            owners.record(target, former=[version.name])
        click.echo(table_of(status))


@deployment.command(params=[*ENDPOINT])
def status(**options: Any) -> None:
    """Show what is deployed."""
    with one_line():
        click.echo(table_of(make_target(**options).status()))


@deployment.command(params=[*ENDPOINT])
def start(**options: Any) -> None:
    """local: bring back what was deployed, after the proxy was killed or the machine was off."""
    with one_line():
        target = make_target(**options)
        if not isinstance(target, LocalTarget):
            raise bad("target", options["target"], "starts by itself: start is for target=local.")
        click.echo(table_of(target.start()))


@deployment.command(params=[*ENDPOINT])
@click.option("--move_alias", type=bool, default=True, help="Whether the champion of the registry goes back too.")
def rollback(move_alias: bool, **options: Any) -> None:
    """Give all requests back to the version that had them before."""
    with one_line():
        roll_back(make_target(**options), move_alias=move_alias, say=click.echo)


def roll_back(target: Target, *, move_alias: bool, say: Callable[[str], object]) -> Status:
    """Roll an endpoint back, and the alias champion with it where the version that is left holds it."""
    before = target.status()
    status = target.rollback()
    owners.record(target)
    say(table_of(status))
    live = status.serving
    left = [colour for colour in before.colours.values() if live and colour.model_version != live.model_version]
    if move_alias and live and left and left[0].model_name == live.model_name:
        with explained():
            if step_back(live.model_name, live.model_version, left[0].model_version):
                say(f"champion of {live.model_name} is version {live.model_version} again.")
    return status


@deployment.command(params=[*ENDPOINT])
@click.option("--force", default="", help="Instead: remove the record of an endpoint that is gone, by its exact name.")
def undeploy(force: str, **options: Any) -> None:
    """Stop an endpoint and remove what its deployment wrote."""
    with one_line():
        if force:
            click.echo(f"The record {force} is removed from {', '.join(owners.clear(force))}.")
            return
        target = make_target(**options)
        there = take_down(target)
        billed = "" if target.kind == "local" else ", and no machine of it is billed"
        stopped = f"stopped; nothing is deployed any more{billed}"
        click.echo(f"{target.name}: {stopped if there else 'nothing was deployed'}.")


def take_down(target: Target) -> bool:
    """Undeploy an endpoint, and tell the registry; whether there was one."""
    before = target.status().colours.values() if in_unity_catalog() else ()
    there = target.undeploy()
    owners.record(target, {colour.model_name for colour in before})
    return there


@deployment.command(params=[*ENDPOINT])
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--output", default="", help="Where to write the predictions: a path ending in .csv.")
def score(data: str, output: str, **options: Any) -> None:
    """Send a file of instances to an endpoint."""
    if output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    with one_line():
        target = make_target(**options)
        table = open_table(data)
        rows = all_rows(table)
        predictions = target.score(_as_asked(table, rows, target.status().serving))
    written = rows.to_pandas()
    [column] = free_names(["prediction"], table.names).values()
    written[column] = pd.Series(predictions, dtype=object).to_numpy()
    click.echo(written.iloc[:5, -min(written.shape[1], 3) :].to_string())
    # Of classes how often each was predicted; of numbers and lists of probabilities nothing.
    labels = Counter(predictions) if all(isinstance(each, str | int) for each in predictions) else Counter()
    counted = ", ".join(f"{label} {number:,}" for label, number in labels.most_common(10))
    click.echo(f"{len(written):,} instances: {counted}".removesuffix(": "))
    if output:
        written.to_csv(Path(output).expanduser(), index=False)
        click.echo(f"Predictions: {output}")


def _as_asked(table: OpenedTable, rows: pa.Table, colour: Colour | None) -> pd.DataFrame | dict[str, np.ndarray]:
    """The columns that the deployed model asks for, with their types; all columns where its signature is not known.

    Of a model that asks for one array a column (`export_onnx`), a dictionary of them.
    """
    info = None
    if colour is not None:
        with suppress(MlflowException):  # the endpoint answers without the registry too
            info = mlflow.models.get_model_info(f"models:/{colour.model_name}/{colour.model_version}")
    if info is None or info.signature is None or not info.signature.inputs.has_input_names():
        return to_frame(table, decide(table, asked=table.names))
    inputs = info.signature.inputs
    if not inputs.is_tensor_spec():
        return instances(table, rows, inputs, info.metadata)
    columns: list[Any] = [
        ColSpec("double" if each.type.kind in "fiu" else "string", each.name) for each in inputs.inputs
    ]
    return as_input(instances(table, rows, Schema(columns), info.metadata), inputs)


if __name__ == "__main__":
    run_command(deployment)
