"""A year of a deployed model, month by month: quiet, broken data, a changed world, a new champion that earns it."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import click
import mlflow
import numpy as np
import pandas as pd
import requests

from conclude import conclude_canary
from drift import find_drift, log_drift, shown
from labels import by_week, log_labels
from labels import shown as shown_labels
from origin import logged_table, project_of, run_project, train_again
from records import pick_version, read_records, window_of
from reference import CHAMPION, find_served, read_reference
from retrain import retrain as entry_point
from retrain import retrain_champion, settings_of
from support.entry_point import describe_run, run_command, say_where_to_look
from support.ports import free_port
from support.stories import fresh_start
from support.table import absolute
from truth import with_truth
from year import TARGET, broken, changed, customers, move_to

YEAR, MONTHLY, REQUEST = 2025, 350, 10  # rows a month, rows a request
MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
MONTHS += ["August", "September", "October", "November", "December"]
BROKEN, CHANGED = 4, 7  # the month of broken data, and the first one of the changed world
CANARY = 30  # percent
PATIENCE = 600  # s that an answer or a file may take on a busy machine


class World:
    """The year: customers who come month by month, what they will do, and the endpoint that they ask.

    settings: of `retrain`. url: of the endpoint. live: where it records.
    """

    def __init__(self, settings: Any, url: str, live: str, random_state: int) -> None:
        self.settings, self.url, self.live = settings, url, live
        self.generator = np.random.default_rng(random_state)
        table = customers(Path(absolute("data/churn.csv")))
        self.rows = table.iloc[self.generator.permutation(len(table))].reset_index(drop=True)
        self.labels: list[pd.DataFrame] = []

    def before(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The customers of the years before: rows to learn from, and rows for the first gate."""
        return self.rows[:2200], self.rows[2200:2800]

    def of(self, month: int) -> pd.DataFrame:
        """The customers of a month, 1 to 12."""
        start = 2800 + (month - 1) * MONTHLY
        rows = self.rows[start : start + MONTHLY].reset_index(drop=True)
        if month == BROKEN:
            return broken(rows, "unit", self.generator)
        return changed(rows, self.generator) if month >= CHANGED else rows

    def ask(self, month: int) -> str:
        """Let the customers of a month ask the endpoint, in requests of ten; says who answered.

        What the endpoint has recorded is moved to the month in which the story is.
        """
        rows, counts, times = self.of(month), Counter[str](), {}
        started = pd.Timestamp(year=YEAR, month=month, day=1, hour=9, tz="UTC")
        for place in range(0, len(rows), REQUEST):
            asked, identifier = rows[place : place + REQUEST], f"{YEAR}-{month:02}-{place // REQUEST:03}"
            body = {"dataframe_split": json.loads(asked.drop(columns=TARGET).to_json(orient="split", index=False))}
            reply = requests.post(self.url, json=body, headers={"x-request-id": identifier}, timeout=PATIENCE)
            reply.raise_for_status()
            counts[reply.headers["x-mlflow-model-version"]] += len(asked)
            times[identifier] = started + pd.Timedelta(days=27) * place / len(rows)
            truths = {"request_id": identifier, "row": range(len(asked)), TARGET: asked[TARGET].tolist()}
            self.labels.append(pd.DataFrame(truths).assign(month=month))
        self.wait_for_the_recorder()
        live, record = (Path(folder) / self.settings.endpoint for folder in (self.live, self.settings.record))
        if (recorded := move_to(times, live, record)) != len(rows):
            raise click.ClickException(f"{len(rows)} rows were sent, and {recorded} recorded.")
        return ", ".join(f"{count} rows answered by version {version}" for version, count in sorted(counts.items()))

    def wait_for_the_recorder(self) -> None:
        """Have it write what it has, which it would do within a minute. Raises click.ClickException where it cannot."""
        deadline, url = time.monotonic() + PATIENCE, self.url.replace("invocations", "-/recording")
        while (told := requests.post(url, timeout=PATIENCE).json())["waiting"]:
            if time.monotonic() > deadline:
                raise click.ClickException(f"the recorder does not write: {told}.")
            time.sleep(0.2)

    def know(self, month: int) -> None:
        """The true answers of the months up to this one arrive."""
        known = pd.concat(self.labels).query("month <= @month").drop(columns="month")
        known.to_csv(self.settings.labels, index=False)

    def at_the_end_of(self, month: int, months: int = 1, **more: Any) -> Any:
        """The settings at the end of a month, with a window of so many months."""
        end = pd.Timestamp(year=YEAR, month=month, day=1) + pd.DateOffset(months=1)
        start = end - pd.DateOffset(months=months)
        window = {"until": f"{end:%Y-%m-%d}", "window": float((end - start).days)}
        return SimpleNamespace(**vars(self.settings) | window | more)


def say(month: int, what: str) -> None:
    """Show what happened in a month."""
    click.echo(f"\n[{MONTHS[month - 1]}] {what}")


def begin(world: World, classification: str) -> None:
    """Train the first champion at a pinned commit, let it pass the gate, and deploy it."""
    settings, name = world.settings, world.settings.name
    learnt, validation = world.before()
    with tempfile.TemporaryDirectory() as folder:
        for what, rows in (("before", learnt), ("first_validation", validation)):
            rows.to_csv(f"{folder}/{what}.csv", index=False)
            mlflow.log_artifact(f"{folder}/{what}.csv")
    origin = project_of(classification, "decision_tree", {"random_state": "0"})
    click.echo(f"The first champion learns from {len(learnt):,} customers: {origin.line}")
    model_uri, _ = train_again(origin, "data", logged_table("before.csv"), "first champion")
    run_project(settings.registry_deploy, "register", {"model_uri": model_uri, "name": name}, "register")
    judged = {"model_uri": f"models:/{name}@challenger", "data": logged_table("first_validation.csv")}
    run_project(settings.registry_deploy, "promote", judged, "first gate")
    where = {"endpoint": settings.endpoint, "directory": settings.directory, "port": urlsplit(world.url).port}
    asked = {"model_uri": f"models:/{name}@{CHAMPION}", "record": world.live}
    run_project(settings.registry_deploy, "deploy", {**asked, **where}, "deploy")


def look(world: World, month: int, whole: bool = False) -> None:
    """The drift of a month, as a run of its own. whole: print the table as well."""
    settings = world.at_the_end_of(month)
    start, end = window_of(settings.window, settings.until)
    served = find_served(settings.name, CHAMPION)
    rows = pick_version(
        read_records(settings.record, settings.endpoint, settings.name, start, end), str(served.version.version)
    )
    with mlflow.start_run(run_name=f"drift {YEAR}-{month:02}", nested=True):
        found = find_drift(served, read_reference(served), rows)
        log_drift(found, start, end)
    if whole:
        click.echo(shown(found, 4))
    click.echo(found.line)


def retrain(world: World, month: int, months: int) -> str:
    """A round of retraining at the end of a month, as a run of its own; the decision."""
    with mlflow.start_run(run_name=f"retrain {YEAR}-{month:02}", nested=True):
        decision, why = retrain_champion(world.at_the_end_of(month, months))
    click.echo(f"{decision.capitalize()}: {why}")
    return decision


def half_a_quiet_year(world: World) -> None:
    """January to June: nothing changes, but for a month of broken data, of which nothing comes."""
    for month in range(1, CHANGED):
        if month == BROKEN:
            say(month, "A change upstream: one column comes in another unit.")
        else:
            say(month, "As always.")
        world.ask(month)
        look(world, month)
        world.know(month)  # in time for this half of the year
        if month == BROKEN:
            retrain(world, month, 2)


def the_world_changes(world: World) -> bool:
    """July to September: a shift, its notice, late labels, and a retraining that the gate judges: does it pass?"""
    say(7, "Fibre becomes dearer, and customers leave for it.")
    world.ask(7)
    look(world, 7, whole=True)
    retrain(world, 7, 1)

    say(8, "The true answers of July arrive, a month late.")
    world.ask(8)
    world.know(7)
    settings = world.at_the_end_of(7, 2)
    served = find_served(settings.name, CHAMPION)
    window = window_of(settings.window, settings.until)
    rows = read_records(settings.record, settings.endpoint, settings.name, *window)
    with mlflow.start_run(run_name="labels", nested=True):
        table = by_week(served, with_truth(rows, settings.labels, TARGET), "M")
        log_labels(served, table)
    click.echo(shown_labels(table))

    say(9, "The true answers of August arrive: drift asks for a retraining, and there are labels to learn from.")
    world.know(8)
    passed = retrain(world, 8, 2) == "promoted"
    click.echo("Once more, on the same rows:")
    retrain(world, 8, 2)
    return passed


def the_canary(world: World) -> None:
    """September to December: both versions answer, and then the new one alone."""
    for month in (9, 10, 11):
        say(month, world.ask(month))
        world.know(month)
    with mlflow.start_run(run_name="conclude", nested=True):
        decision, why = conclude_canary(world.at_the_end_of(11, 3, min_rows=100))
    say(12, f"The canary: {decision}: {why}")
    click.echo(world.ask(12))


@click.command()
@click.option("--name", default="churn_watch", help="The registered model that the story makes.")
@click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0)
@click.option("--classification", default="../classification", help="That example: a folder or a Git URL.")
@click.option("--registry_deploy", default="../registry_deploy", help="That example: a folder or a Git URL.")
def story(name: str, random_state: int, classification: str, registry_deploy: str) -> None:
    """Tell a year of a deployed model."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for logger in ("mlflow.projects", "mlflow.tracking.fluent"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    started = time.monotonic()
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        describe_run(run, "main")
        fresh_start(name, "watch")
        shared: dict[str, Any] = {"name": name, "endpoint": name, "directory": f"{folder}/endpoint", "canary": CANARY}
        shared |= {"record": f"{folder}/record", "labels": f"{folder}/labels.csv", "registry_deploy": registry_deploy}
        settings = settings_of(entry_point, **shared)
        world = World(settings, f"http://127.0.0.1:{free_port()}/invocations", f"{folder}/live", random_state)
        try:
            begin(world, classification)
            half_a_quiet_year(world)
            if the_world_changes(world):
                the_canary(world)
            else:
                click.echo("\nThe gate lets no new champion in: the old one goes on alone.")
        finally:
            if Path(settings.directory).exists():
                where = {"endpoint": name, "directory": settings.directory}
                run_project(registry_deploy, "undeploy", where, "undeploy")
        click.echo(f"\nTold in {time.monotonic() - started:.0f} s.")
        say_where_to_look()


if __name__ == "__main__":
    run_command(story)
