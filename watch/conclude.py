"""End a canary: all requests for the new champion, or back to the one before where the watched metric has fallen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow import MlflowClient

from once import alone
from origin import run_project
from records import read_records, window_of
from reference import CHAMPION, find_served
from retrain import active_run, conclude_with, deploy
from support.entry_point import describe_run, run_command, say_where_to_look
from support.table import bad
from truth import LABEL_OPTIONS, answered, difference, target_of, with_truth

PREVIOUS = "previous"
KEPT, ROLLED_BACK, WAIT, NOTHING = "kept", "rolled back", "undecided", "nothing to do"


def conclude_canary(settings: Any) -> tuple[str, str]:
    """Compare the champion with the one before on what each answered since it was promoted; returns what and why.

    Rolls back where the champion is worse and chance does not explain it, at 95 %. Otherwise it gets all requests, once
    min_rows of its answers are labelled.
    """
    client, name = MlflowClient(), settings.name
    served = find_served(name, CHAMPION)
    tags, number = served.version.tags, str(served.version.version)
    if PREVIOUS not in client.get_registered_model(name).aliases or "canary_concluded" in tags:
        return conclude_with(NOTHING, f"version {number} of {name} is no canary any more.")
    before = find_served(name, PREVIOUS)
    window = window_of(settings.window, settings.until)
    rows = read_records(settings.record, settings.endpoint, name, *window)
    if not rows["version"].str.isdecimal().any():
        raise bad("record", settings.record, "does not say which version answered: end the canary by hand.")
    rows = with_truth(rows, settings.labels, target_of(served, settings.target, rows))
    rows = rows[rows["truth"].notna()]
    since = rows.loc[rows["version"] == number, "time"].min()  # the canary's first answer: both get requests from there
    sides = [
        rows[(rows["version"] == str(each.version.version)) & (rows["time"] >= since)].reset_index(drop=True)
        for each in (served, before)
    ]
    if min(map(len, sides)) < settings.min_rows:
        counted = (
            f"{len(sides[0]):,} labelled rows of version {number}, and {len(sides[1]):,} of the one before since then"
        )
        return conclude_with(WAIT, f"{counted}; min_rows={settings.min_rows}: wait for labels.")
    with alone(name, active_run().info.run_id):
        new, old = (answered(each, part) for each, part in zip((served, before), sides, strict=True))
        if lacking := new.lacking or old.lacking:
            return conclude_with(WAIT, f"{lacking} in the labelled rows of a version: wait for labels.")
        metric = settings.metric or ("roc_auc" if new.probabilities is not None else "accuracy")
        value, low, high = difference(new, old, metric)
        mlflow.log_metrics({"difference": value, "difference_low": low, "difference_high": high})
        told = f"{metric} {value:+.3f} [{low:+.3f}, {high:+.3f}] against version {before.version.version}"
        if high < 0:
            where = {"target": settings.deploy_to, "endpoint": settings.endpoint, "directory": settings.directory}
            run_project(settings.registry_deploy, "rollback", where, "rollback")
            return conclude_with(ROLLED_BACK, f"version {number} of {name}: {told}.")
        deploy(settings, number, 100)
        client.set_model_version_tag(name, number, "canary_concluded", pd.Timestamp.now("UTC").isoformat())
        return conclude_with(KEPT, f"version {number} of {name} gets all requests: {told}.")


@click.command(params=[*LABEL_OPTIONS])
@click.option("--metric", default="", help="The watched one; default: roc_auc, or accuracy without probabilities.")
@click.option("--min_rows", type=click.IntRange(30), default=100, help="Labelled rows of each version.")
@click.option("--deploy_to", type=click.Choice(["local", "azureml", "databricks"]), default="local")
@click.option("--directory", default="", help="Of the local deployment.")
@click.option("--registry_deploy", default="../registry_deploy", help="That example: a folder or a Git URL.")
def conclude(**options: Any) -> None:
    """Keep a canary or roll it back."""
    with mlflow.start_run() as run:
        describe_run(run, "conclude")
        decision, why = conclude_canary(SimpleNamespace(**options))
        click.echo(f"{decision.capitalize()}: {why}")
        say_where_to_look()
    if decision == WAIT:
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    run_command(conclude)
