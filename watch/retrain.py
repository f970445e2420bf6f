"""Train the champion's own project again on old and new rows when something asks for it, and let the gate decide."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from checks import broken_features, broken_labels
from drift import find_drift, log_drift
from measures import DRIFT, UNDECIDED, plain
from once import alone, decided, key_of
from origin import logged_table, origin_of, run_project, train_again, try_project
from records import pick_version, read_records, window_of
from reference import CHAMPION, Reference, Served, find_served, log_metrics, read_labelled, read_reference, say_doubt
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.names import free_names
from support.table import bad
from truth import LABEL_OPTIONS, answered, target_of, with_truth

REPEATED = 0.01  # share of training rows; where more repeat others, rows are few-valued and do so by nature
PROMOTED, REFUSED, BROKEN, NOTHING, WAIT = "promoted", "refused", "broken data", "nothing to do", "undecided"


@dataclass(frozen=True)
class Looked:
    """The champion, what it learnt from, and the rows of the window: all, and those that are labelled."""

    served: Served
    reference: Reference
    target: str
    rows: pd.DataFrame
    labelled: pd.DataFrame


def retrain_champion(settings: Any) -> tuple[str, str]:
    """One round, within an active run: look, decide, check, train, judge, deploy. Returns the decision and why.

    settings: the options of the entry point `retrain`, under their names.

    Raises click.ClickException where a step fails, and where another process retrains the same model.
    """
    looked = look(settings)
    key = key_of(settings.name, looked.labelled)
    if len(looked.labelled) and (earlier := decided(key)):
        return conclude_with(NOTHING, told_of(earlier))
    why, undecided = reason(settings, looked)
    if not why:
        return conclude_with(WAIT if undecided else NOTHING, undecided or "nothing asks for it.")
    if lacking := too_few(settings, looked.labelled["time"]):
        known = f"{len(looked.labelled):,} of {len(looked.rows):,} rows are labelled, {lacking}"
        return conclude_with(WAIT, f"{why}; {known}: wait for labels.")
    with alone(settings.name, active_run().info.run_id):
        if earlier := decided(key):  # by another process, meanwhile
            return conclude_with(NOTHING, told_of(earlier))
        if find_served(settings.name, CHAMPION).uri != looked.served.uri:
            return conclude_with(NOTHING, f"{looked.served.uri} is no champion any more.")
        click.echo(f"Retraining of {looked.served.uri}: {why}.")
        if wrong := broken(looked):
            decision, told = BROKEN, f"nothing is trained, the data look broken: {'; '.join(wrong)}."
        else:
            decision, told = act(settings, looked, why)
        mlflow.set_tag("retrain_key", key)
        return conclude_with(decision, told)


def active_run() -> Run:
    """The run that this work belongs to. Raises RuntimeError where there is none."""
    active = mlflow.active_run()
    if active is None:
        raise RuntimeError("no active run")
    return active


def told_of(earlier: Run) -> str:
    """What a run has decided."""
    return f"the same rows were decided on already: {earlier.data.tags['decision']} in run {earlier.info.run_id}."


def conclude_with(decision: str, why: str) -> tuple[str, str]:
    """Note a decision on the active run."""
    mlflow.set_tags({"decision": decision, "mlflow.note.content": why})
    return decision, why


def look(settings: Any) -> Looked:
    """Read what there is: the champion, its training data, the recorded rows and their labels."""
    served, window = find_served(settings.name, CHAMPION), window_of(settings.window, settings.until)
    rows = read_records(settings.record, settings.endpoint, settings.name, *window)
    target = target_of(served, settings.target, rows)
    rows = with_truth(rows, settings.labels, target)
    reference = read_reference(served, settings.reference, target)
    say_doubt(reference, served)
    return Looked(served, reference, target, rows, once_each(rows[rows["truth"].notna()], reference))


def once_each(labelled: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Labelled rows without those that repeat others in every column, where the training rows hardly ever do.

    The gate takes rows for independent: repeated ones would make it too sure.
    """
    again = (labelled["inputs"].map(str) + labelled["truth"].map(str)).duplicated().to_numpy()
    if not again.any() or reference.X.map(str).duplicated().mean() > REPEATED:
        return labelled.reset_index(drop=True)
    click.echo(f"{again.sum():,} labelled rows repeat others in every column: each counts once.")
    return labelled[~again].reset_index(drop=True)


def too_few(settings: Any, times: pd.Series) -> str:
    """Why labelled rows of these times are too few to learn from and to judge by; empty where they are not."""
    if len(times) < settings.min_rows:
        return f"min_rows={settings.min_rows}"
    return "" if not newest_of(settings, times).all() else "all of one time: none is older than those to judge by"


def newest_of(settings: Any, times: pd.Series) -> np.ndarray:
    """Which rows the gate judges by (rows,): the newest, none of them older than a row that is learnt."""
    return (times >= times.quantile(1 - settings.validation_size)).to_numpy()


def reason(settings: Any, looked: Looked) -> tuple[str, str]:
    """Why to retrain, empty where nothing asks for it; and why that cannot be told, where it cannot."""
    if settings.when == "always":
        return "asked for (when=always)", ""
    number = str(looked.served.version.version)
    if not looked.rows["version"].str.isdecimal().any():
        raise bad("record", settings.record, "does not say which version answered: give when=always.")
    if number not in set(looked.rows["version"]):
        return "", f"{looked.served.uri} has answered no row of the window."
    if settings.when == "drift":
        found = find_drift(looked.served, looked.reference, pick_version(looked.rows, number))
        log_drift(found, *window_of(settings.window, settings.until))
        told = {DRIFT: (found.line.rstrip("."), ""), UNDECIDED: ("", found.line)}
        return told.get(found.verdict, ("", ""))
    name, sign, bound = parse_when(settings.when)
    mine = looked.labelled[looked.labelled["version"] == number].reset_index(drop=True)
    given = answered(looked.served, mine) if len(mine) else None
    if given is None or given.lacking:
        lacking = given.lacking if given else "no labels"
        return "", f"{lacking}: {len(mine):,} labelled rows of {looked.served.uri} to work out {name}."
    metrics = given.metrics()
    if name not in metrics:
        raise bad("when", settings.when, f"names no metric; there are: {', '.join(metrics)}.")
    value, low, high = metrics[name]
    log_metrics(looked.served, {name: value})
    surely = high < bound if sign == "<" else low > bound
    return (f"{name} {value:.3f} [{low:.3f}, {high:.3f}] {sign} {bound:g}" if surely else ""), ""


def parse_when(when: str) -> tuple[str, str, float]:
    """Read "roc_auc<0.8": the metric, the sign and the bound. Raises click.BadParameter."""
    found = re.fullmatch(r"\s*(\w+)\s*([<>])\s*(\d+\.?\d*|\.\d+)\s*", when)
    if found is None:
        raise bad("when", when, "is none of drift, always, or a bound for a metric such as roc_auc<0.8.")
    return found[1], found[2], float(found[3])


def broken(looked: Looked) -> list[str]:
    """What of the labelled rows looks broken, or cannot be learnt from."""
    X, times = looked.served.inputs(looked.labelled["inputs"]), looked.labelled["time"]
    if left_out := [name for name in looked.served.columns if name not in X]:
        return [f"column {left_out[0]!r} was not recorded"]
    given = answered(looked.served, looked.labelled)
    known = looked.reference.y.map(plain).value_counts(normalize=True)
    shares = known.reindex([plain(label) for label in given.classes], fill_value=0).to_numpy()
    return broken_features(looked.served, looked.reference, X, times) or broken_labels(given, times, shares)


def act(settings: Any, looked: Looked, why: str) -> tuple[str, str]:
    """Train on old and new rows, register, let the gate judge, and deploy a canary of what passes."""
    client, name, projects = MlflowClient(), settings.name, settings.registry_deploy
    training, validation, slices = tables(settings, looked)
    origin = origin_of(looked.served)
    click.echo(f"{len(looked.reference.X):,} old rows and new ones make {training}\nIts project: {origin.line}")
    model_uri, trained = train_again(origin, settings.data_parameter, training, "retrain")
    described = {"description": f"Retrained: {why}. Its project: {origin.line}.", "name": name}
    run_project(projects, "register", {"model_uri": model_uri, **described}, "register")
    version = str(client.get_model_version_by_alias(name, "challenger").version)
    client.set_model_version_tag(name, version, "retrained_because", why[:250])
    client.set_model_version_tag(name, version, "retrain_run", active_run().info.run_id)
    mlflow.set_tags({"registered_model": name, "version": version, "trained_run": trained.info.run_id})
    rules = {"data": validation, "target": looked.target, "metric": settings.metric, "margin": settings.margin}
    rules |= {"slices": slices, "slice_margin": settings.slice_margin, "thresholds": "", "max_slowdown": 10}
    judged, _ = try_project(projects, "promote", {"model_uri": f"models:/{name}/{version}", **rules}, "promote")
    decision, told = judged.data.tags.get("decision", "pending"), judged.data.tags.get("mlflow.note.content", "")
    if decision == "pending":
        raise click.ClickException(f"the gate failed: {told or judged.info.run_id}")
    if decision != PROMOTED:
        return decision, told or f"version {version} of {name} is neither promoted nor refused."
    canary = ""
    if settings.deploy_to:
        deploy(settings, version, settings.canary)
        canary = f", with {settings.canary} % of the requests"
    return PROMOTED, f"version {version} of {name} is the champion{canary}: {why}."


def deploy(settings: Any, version: str, percent: int) -> None:
    """Give a version its share of the requests, by the entry point `deploy` of registry_deploy."""
    where = {"target": settings.deploy_to, "endpoint": settings.endpoint, "directory": settings.directory}
    asked = {"model_uri": f"models:/{settings.name}/{version}", "canary": percent}
    run_project(settings.registry_deploy, "deploy", {**where, **asked}, f"deploy {percent} %")


def tables(settings: Any, looked: Looked) -> tuple[str, str, str]:
    """Write the training and the validation table into the run: their URIs, and the column with the period.

    The newest of the new rows, `validation_size` of them, are for validation: newer than all that is learnt. Beside
    them stand as many rows that are trusted: those of `trusted`, else those that the champion's run had held out.
    """
    known, target = looked.reference, looked.target
    if known.y.empty:
        raise bad("reference", known.source, f"has no column {target!r}.")
    trusted = (known.held_out, known.held_out_y)
    if settings.trusted:
        trusted = read_labelled(looked.served, settings.trusted, target, "trusted")
    if trusted[0].empty:
        raise bad("trusted", "", "is needed: a table of labelled rows that the champion did not learn from.")
    old = known.X.assign(**{target: known.y})
    new = looked.served.inputs(looked.labelled["inputs"])
    labels = {plain(label): label for label in known.y.unique()}
    new[target] = pd.Series([labels.get(plain(each), each) for each in looked.labelled["truth"]], dtype=known.y.dtype)
    newest = newest_of(settings, looked.labelled["time"])
    kept = trusted[0].assign(**{target: trusted[1]})
    kept = kept.sample(min(len(kept), int(newest.sum())), random_state=0)
    [period] = free_names(["period"], old.columns).values()
    validation = pd.concat([kept.assign(**{period: "trusted"}), new[newest].assign(**{period: "new"})])
    training = pd.concat([old, new[~newest]])
    mlflow.log_metrics({"old_rows": len(old), "new_rows": int(np.sum(~newest)), "validation_rows": len(validation)})
    with tempfile.TemporaryDirectory() as folder:
        for name, table in (("training", training), ("validation", validation)):
            table.to_parquet(Path(folder) / f"{name}.parquet", index=False)
            mlflow.log_artifact(f"{folder}/{name}.parquet")
    return logged_table("training.parquet"), logged_table("validation.parquet"), period


@click.command(params=[*LABEL_OPTIONS])
@click.option("--when", default="drift", help="drift, always, or a bound for a metric: roc_auc<0.8.")
@click.option(
    "--trusted", default="", help="Labelled rows that the champion did not learn from; default: its test rows."
)
@click.option("--reference", default="", help="Where the training data are now; default: as the run recorded.")
@click.option("--validation_size", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.3)
@click.option("--min_rows", type=click.IntRange(2), default=300, help="Labelled rows that a retraining needs.")
@click.option("--metric", default="", help="The gate's metric; default: roc_auc.")
@click.option("--margin", type=FiniteRange(0), default=0.0, help="The gate's margin; 0: it must be better.")
@click.option("--slice_margin", type=FiniteRange(0), default=0.01, help="How much worse it may be on either table.")
@click.option("--data_parameter", default="data", help="The parameter of the champion's project that takes the table.")
@click.option("--deploy_to", type=click.Choice(["", "local", "azureml", "databricks"]), default="local")
@click.option("--directory", default="", help="Of the local deployment.")
@click.option("--canary", type=click.IntRange(1, 100), default=20, help="Percent of the requests that it gets.")
@click.option("--registry_deploy", default="../registry_deploy", help="That example: a folder or a Git URL.")
def retrain(**options: Any) -> None:
    """Retrain the champion when something asks for it, and let the gate decide."""
    settings = SimpleNamespace(**options)
    if settings.when not in ("drift", "always"):
        parse_when(settings.when)
    with mlflow.start_run() as run:
        describe_run(run, "retrain")
        decision, why = retrain_champion(settings)
        if decision in (REFUSED, BROKEN):
            raise click.ClickException(f"{decision}: {why}")
        click.echo(f"{decision.capitalize()}: {why}")
        say_where_to_look()
    if decision == WAIT:
        raise click.exceptions.Exit(3)


def settings_of(command: click.Command, **given: Any) -> Any:
    """The options of an entry point as its command line gives them: those that are given, and the defaults."""
    return SimpleNamespace(**{str(option.name): option.default for option in command.params} | given)


if __name__ == "__main__":
    run_command(retrain)
