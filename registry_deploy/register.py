"""Register a model as a version: the one of a URI, or the best of an experiment, with where it comes from as tags."""

from __future__ import annotations

import re
from contextlib import suppress

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from model_files import reason
from support.entry_point import run_command
from support.table import bad
from versions import CHALLENGER, exclusive, explained, quiet, tag_key, tags_of, versions, who

UNFINISHED = (LoggedModelStatus.PENDING, LoggedModelStatus.FAILED)  # as where the store was full or away meanwhile


def best_model(experiment: str, metric: str, greater_is_better: bool) -> str:
    """The URI of the logged model of an experiment with the best value of a metric.

    Raises click.BadParameter where the experiment, or a model with that metric, is not there.
    """
    found = MlflowClient().get_experiment_by_name(experiment)
    if found is None:
        raise bad("experiment", experiment, "is not there: give the name that the Tracking UI shows.")
    best = [{"field_name": f"metrics.{metric}", "ascending": not greater_is_better}]
    models = mlflow.search_logged_models([found.experiment_id], order_by=best, output_format="list")
    models = [model for model in models if model.status not in UNFINISHED]
    if not models:
        raise bad("experiment", experiment, "holds no logged model.")
    if metric not in [each.key for each in models[0].metrics or []]:  # without the metric they come last
        have = ", ".join(sorted({each.key for model in models for each in model.metrics or []}))
        raise bad("metric", metric, f"is a metric of no model there; they have: {have or 'none, so give model_uri'}.")
    return f"models:/{models[0].model_id}"


def register_version(model_uri: str, name: str, description: str = "", alias: str = CHALLENGER) -> ModelVersion:
    """Register a model, unless it is registered under that name already; tell where it comes from in tags.

    model_uri: `runs:/<run id>/<model>` or `models:/<model id>`.
    alias: moved to the version when it is new; empty for none.

    Raises click.BadParameter where there is no such model, it was not logged to its end, or the name cannot be one.
    """
    client = MlflowClient()
    try:
        info = mlflow.models.get_model_info(model_uri)
    except (MlflowException, OSError) as error:
        raise bad("model_uri", model_uri, f"is no logged model: {reason(error)}") from None
    if info.model_id and client.get_logged_model(info.model_id).status in UNFINISHED:
        raise bad("model_uri", model_uri, "was not logged to its end: files may be missing. Log it again.")
    # MLflow leaves ModelVersion.model_id empty, and the source names the model; in Unity Catalog it may be the reverse.
    source = f"models:/{info.model_id}" if info.model_id else model_uri
    named = re.match(r"runs:/([0-9a-f]{32})/", model_uri)  # a model of the former layout does not name its run
    run_id = info.run_id or (named[1] if named else None)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise bad("name", name, f"cannot be the name of a model: {reason(error)}") from None
    with exclusive(name, "registration"):
        for version in versions(name):
            if _is_of(version, info, source):
                return client.get_model_version(name, version.version)
        tags = {tag_key(key): value for key, value in _origin(info, run_id).items()}
        told = description or None
        try:
            version = client.create_model_version(
                name, source, run_id, tags=tags, description=told, model_id=info.model_id
            )
        except MlflowException as error:
            raise bad("model_uri", model_uri, f"cannot be registered: {reason(error)}") from None
        if alias:
            client.set_registered_model_alias(name, alias, version.version)
    return client.get_model_version(name, version.version)


def _is_of(version: ModelVersion, info: ModelInfo, source: str) -> bool:
    """Whether a version is of a model. One that was not registered here is asked for the id of its model."""
    if version.source == source or (info.model_id and version.model_id == info.model_id):
        return True
    known = tags_of(version).get("model_uuid")
    if known is None and not str(version.source).startswith("models:/"):
        with suppress(MlflowException, OSError):  # its files may be gone
            known = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}").model_uuid
    return bool(known == info.model_uuid)


def _origin(info: ModelInfo, run_id: str | None) -> dict[str, str]:
    """Where a model comes from, as tags."""
    tags = {"registered_by": who(), "model_uuid": info.model_uuid}
    if run_id:
        run = MlflowClient().get_run(run_id)
        tags["source_run"] = run_id
        for tag in ("git_commit", "git_dirty"):
            if value := run.data.tags.get(f"mlflow.source.{tag.replace('_', '.')}"):
                tags[tag] = value
        for used in run.inputs.dataset_inputs if run.inputs else []:
            if any(tag.key == "mlflow.data.context" and tag.value == "training" for tag in used.tags):
                tags["dataset"] = f"{used.dataset.name} {used.dataset.digest}"
    metrics = MlflowClient().get_logged_model(info.model_id).metrics if info.model_id else None
    return tags | {f"metric.{metric.key}": f"{metric.value:.6g}" for metric in metrics or []}


@click.command()
@click.option("--model_uri", default="", help="runs:/<run id>/model or models:/<model id>; default: by experiment.")
@click.option("--experiment", default="", help="Take the best model of this experiment.")
@click.option("--metric", default="roc_auc", help="The metric that the best model is best at.")
@click.option("--greater_is_better", type=bool, default=True, help="Whether more of it is better.")
@click.option("--name", default="churn", help="The registered model.")
@click.option("--description", default="", help="Of the version, in Markdown.")
@click.option("--alias", default=CHALLENGER, help="Moved to the version when it is new; may be empty.")
def register(
    model_uri: str, experiment: str, metric: str, greater_is_better: bool, name: str, description: str, alias: str
) -> None:
    """Register a model as a version."""
    quiet()
    if bool(model_uri) == bool(experiment):
        raise click.UsageError("Give either model_uri or experiment.")
    if not name.strip() or re.search(r"[/:@]", name) or {"'", '"'} <= set(name):
        raise bad("name", name, "cannot be the name of a model: not empty, without / : @, and not with both ' and \".")
    with explained():
        chosen = model_uri or best_model(experiment, metric, greater_is_better)
        known = {version.version for version in versions(name)}
        version = register_version(chosen, name, description, alias)
        if version.version in known:
            click.echo(f"{chosen} is registered already, as {name} version {version.version}.")
            return
        click.echo(f"{chosen} is {name} version {version.version} now.")
        if alias:
            click.echo(f"{alias} -> version {version.version}")


if __name__ == "__main__":
    run_command(register)
