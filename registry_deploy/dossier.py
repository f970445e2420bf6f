"""One page about a version: what the registry and the tracking store say of it, checked when the page is written.

Where two places state a fact, they are compared. What nobody has recorded is not known, and the page says so.
"""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from sklearn.dummy import DummyRegressor
from sklearn.inspection import permutation_importance

import chance
import gate
from contestant import Contestant, Validation, read_validation
from dossier_words import in_language
from promote import Rules
from registry import columns_of, moment
from support.entry_point import describe_run, run_command, say_where_to_look
from versions import champions, explained, find_model, find_version, now, quiet, say_whose, tags_of, who

Say = Callable[..., str]  # gives a sentence in the language of the page
SAMPLE = 2000  # rows on which the permutation importance is measured, at most


@dataclass(frozen=True)
class Known:
    """What is on record about a version.

    source: the run that logged its model. judged: the runs of the gate that judged it, oldest first.
    evaluated: of the newest of them that got so far, the child run with the metrics.
    history: who became champion, by time, from the registered model.
    """

    version: ModelVersion
    tags: dict[str, str]
    info: ModelInfo
    source: Run | None
    judged: list[Run]
    evaluated: Run | None
    history: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """A heading and a table."""

    heading: str
    columns: list[str]
    rows: list[list[str]]


def read(name: str, number: str) -> Known:
    """What is on record about a version.

    Raises click.BadParameter where there is no such version.
    """
    version = find_version(f"models:/{name}/{number}", "version")
    tags, quote = tags_of(version), '"' if "'" in name else "'"  # MLflow knows no escape
    of_it = f"tags.registered_model = {quote}{name}{quote} and tags.candidate_version = '{version.version}'"
    every: dict[str, Any] = {"search_all_experiments": True, "run_view_type": ViewType.ALL, "output_format": "list"}
    judged = mlflow.search_runs(filter_string=of_it, order_by=["attributes.start_time ASC"], **every)
    evaluated = None
    for run in judged:
        children = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", **every)
        evaluated = next((each for each in children if each.info.run_name.startswith("candidate")), evaluated)
    info = mlflow.models.get_model_info(f"models:/{name}/{version.version}")
    source, history = run_of(tags.get("source_run") or version.run_id), champions(find_model(name))
    return Known(version, tags, info, source, judged, evaluated, history)


def run_of(run_id: str | None) -> Run | None:
    """A run, None where it is gone."""
    with suppress(MlflowException):
        return MlflowClient().get_run(run_id) if run_id else None
    return None


def check(say: Say, stated: Any, other: Any, where: str) -> str:
    """Whether two places say the same of a fact; None where one says nothing."""
    if stated is None or other is None:
        return "" if stated is other else say("stated in one place only")
    if str(stated) == str(other):
        return say("confirmed by {where}", where=where)
    return say("CONTRADICTED by {where}: {other}", where=where, other=other)


def training_data(run: Run | None) -> Any:
    """The dataset that a run logged as its training data last, as `register` reads it."""
    used = run.inputs.dataset_inputs if run and run.inputs else []
    return next((each.dataset for each in reversed(used) if "training" in [tag.value for tag in each.tags]), None)


def reproduction(run: Run | None) -> str | None:
    """What the run that tried to reproduce another says of it, where it names that one."""
    tried = run_of(run.data.tags.get("reproduced_by")) if run else None
    tags = tried.data.tags if tried else {}
    return tags.get("reproduced") if run and tags.get("reproduces") == run.info.run_id else None


def facts(known: Known, say: Say) -> Section:
    """The model, its data, code and environment, and whether it was reproduced."""
    version, tags, info, run = known.version, known.tags, known.info, known.source
    told, data, of_run, once = run.data.tags if run else {}, training_data(run), say("the run"), (None, "")
    none = say("none")
    logged = [each.model_id for each in run.outputs.model_outputs] if run and run.outputs else []
    model = info.model_id if info.model_id in logged else ", ".join(logged)
    models_aliases = find_model(version.name).aliases.items()
    named = sorted(alias for alias, number in models_aliases if str(number) == str(version.version))
    packages = Path(mlflow.pyfunc.get_model_dependencies(f"models:/{version.name}/{version.version}")).read_text()
    rows: list[tuple[str, Any, Any, str]] = [
        ("Aliases", ", ".join(sorted(version.aliases)) or none, ", ".join(named) or none, say("the registered model")),
        ("Registered at", moment(version.creation_timestamp), *once),
        ("Registered by", tags.get("registered_by"), *once),
        ("Description", version.description, *once),
        ("Logged model", info.model_id, model, of_run),
        ("Inputs", info.signature and columns_of(info.signature.inputs), *once),
        ("Outputs", info.signature and columns_of(info.signature.outputs), *once),
        ("Training data", tags.get("dataset"), data and f"{data.name} {data.digest}", of_run),
        ("Source of the training data", data and data.source, *once),
        ("Run", run and run.info.run_id, info.run_id, say("the model")),
        ("Code commit", tags.get("git_commit"), told.get("mlflow.source.git.commit"), of_run),
        ("Repository", told.get("mlflow.source.git.repoURL"), *once),
        ("Program", told.get("mlflow.source.name"), *once),
        ("Uncommitted changes", tags.get("git_dirty"), told.get("mlflow.source.git.dirty"), of_run),
        ("Python", info.flavors.get("python_function", {}).get("python_version"), *once),
        ("Packages", ", ".join(packages.split()), *once),
        ("Reproduced", told.get("reproduced"), reproduction(run), say("the run that tried it")),
    ]
    cells = [
        [say(what), str(value or other or say("not known")), check(say, value or None, other or None, where)]
        for what, value, other, where in rows
    ]
    return Section(say("Model, data, code and environment"), [say("fact"), say("value"), say("check")], cells)


def decisions(known: Known, say: Say) -> Section:
    """What the gate decided and what became of the version: when, who, and whether the history of champions agrees."""
    history, rows = say("the history of champions"), []
    promoted = {entry["run"] for entry in known.history.values() if entry["version"] == str(known.version.version)}
    for run in known.judged:
        tags, moved = run.data.tags, run.info.run_id in promoted
        decided, entered = tags.get("decision", ""), say("promoted" if moved else "not promoted")
        stated = say("promoted" if decided == "promoted" else "not promoted")
        checked = check(say, stated, entered, history)
        by = tags.get("judged_by") or tags.get("mlflow.user") or say("not known")
        against = tags.get("champion_version", "")
        against = say("none") if against == "none" else against or say("not known")
        rows.append([moment(run.info.start_time), by, say(decided), against, run.info.run_id, checked])
    for verb in ("promoted", "replaced", "restored", "rolled_back", "archived"):
        if at := known.tags.get(f"{verb}_at"):
            who_did = known.tags.get(f"{verb}_by")
            checked = check(say, who_did, known.history.get(at, {}).get("by"), history)
            rows.append([at, who_did or say("not known"), say(verb), "", "", checked])
    columns = [say(each) for each in ("when", "who", "decision", "champion then", "run", "check")]
    return Section(say("Decisions of the gate"), columns, sorted(rows))


def newest_verdict(known: Known, say: Say) -> Section:
    """The newest table of reasons, with intervals and groups; its figures are compared with those of its runs."""
    columns = [say(each) for each in ("what is judged", "candidate", "champion", "required", "verdict", "check")]
    section = Section(say("The newest verdict"), columns, [])
    run = known.judged[-1] if known.judged else None
    if run is None or "gate.csv" not in [each.path for each in MlflowClient().list_artifacts(run.info.run_id)]:
        return section
    logged = run.data.metrics
    numbers = [logged.get(key, math.nan) for key in ("improvement", "improvement_low", "improvement_high")]
    improvement = str(chance.Improvement(numbers[0], numbers[1], numbers[2], 1))
    metrics = known.evaluated.data.metrics if known.evaluated else {}
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/gate.csv")
    table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    if "measured_time" in table:
        table["candidate"] = table.pop("measured_time").where(lambda told: told != "", table["candidate"])
    for name, value, *rest in table.to_numpy().tolist():
        other: object = improvement if " improvement, " in name else None
        if name in metrics:
            other = value if math.isclose(float(value), metrics[name], rel_tol=1e-3) else metrics[name]
        section.rows.append([name, value, *rest, check(say, value, other, say("the run"))])
    return section


def measured(known: Known, say: Say) -> list[Section]:
    """The validation data, and what is measured on them today: metrics, in groups too, and permutation importance.

    Nothing is measured where the data, or the answers of the model, are no longer those of the newest evaluation.
    """
    validation_of = partial(Section, say("Validation"), [say("fact"), say("value")])
    parent = known.evaluated and run_of(known.evaluated.data.tags["mlflow.parentRunId"])
    if known.evaluated is None or known.evaluated.inputs is None or parent is None:
        return [validation_of([[say("Validation data"), say("not known")]])]
    params = {key: shlex.split(text)[0] if text[:1] == "'" else text for key, text in parent.data.params.items()}
    rules = Rules(params["model_type"], metric=params["metric"], slices=params["slices"])
    used = known.evaluated.inputs.dataset_inputs[0].dataset
    told = [[say("Validation data"), f"{used.name} {used.digest}"], [say("Read from"), params["data"]]]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            validation = read_validation(params["data"], params["target"], rules.model_type, rules.slices)
            asked = Contestant("candidate", known.version, Path(folder))
            asked.ask(validation, "local", stack)
        except click.ClickException as error:
            return [validation_of([*told, [say("not measured"), error.format_message()]])]
        digest = asked.dataset(validation).digest
        told += [[say("Rows"), f"{len(validation.truth):,}"]]
        told += [[say("Data and answers today"), check(say, digest, used.digest, say("the run"))]]
        if digest != used.digest:
            return [validation_of([*told, [say("not measured"), say("the evaluation had other data or answers")]])]
        measures = metrics(asked, validation, rules.compared, known.evaluated, say)
        return [validation_of(told), measures, importance(asked, validation, rules.compared, say)]


def metrics(asked: Contestant, validation: Validation, compared: str, evaluated: Run, say: Say) -> Section:
    """The metrics with 95 % intervals, and that of the gate in each group."""
    offered, every = gate.METRICS[validation.model_type], np.full(len(validation.truth), True)
    given = [name for name, metric in offered.items() if asked.answers.probabilities or not metric.needs_probabilities]
    wanted = [(name, name, every) for name in given]
    wanted += [(f"{compared}, {group}", compared, member) for group, member in validation.groups.items()]
    rows = []
    for what, name, member in wanted:
        parts = offered[name].parts(validation.truth[member], asked.answers.of(member))
        value, other, interval = f"{parts.mean():.4g}", None, say("not known")
        if member.all() and name in evaluated.data.metrics:
            logged = evaluated.data.metrics[name]
            other = value if math.isclose(parts.mean(), logged, rel_tol=1e-6) else logged
        if len(parts) > 1 and np.isfinite(parts).all():
            interval = "{:.4g} – {:.4g}".format(*chance.bootstrap_interval(parts, 0.95, 1000, 0))
        rows.append([what, f"{len(parts):,}", value, interval, check(say, value, other, say("the run"))])
    columns = [say(each) for each in ("metric", "rows", "value", "95 % interval", "check")]
    return Section(say("Metrics"), columns, rows)


def importance(asked: Contestant, validation: Validation, compared: str, say: Say) -> Section:
    """scikit-learn's permutation importance: how much worse the metric gets where a column is shuffled."""
    metric, model, rows = gate.METRICS[validation.model_type][compared], asked.asked, min(len(asked.X), SAMPLE)
    sign = 1 if metric.greater_is_better else -1

    def score(_: object, X: pd.DataFrame, y: np.ndarray) -> float:
        # Instead of the estimator that scikit-learn asks for, a dummy: the model itself answers.
        return sign * metric.value(y, model.answer(X))  # type: ignore[union-attr]

    how: dict[str, Any] = {"scoring": score, "n_repeats": 5, "random_state": 0, "max_samples": rows}
    found = permutation_importance(DummyRegressor(), asked.X, validation.truth, **how)
    values = zip(map(str, asked.X), found.importances_mean, found.importances_std, strict=True)
    told = [
        [name, f"{mean:.4f}", f"{deviation:.4f}"] for name, mean, deviation in sorted(values, key=lambda each: -each[1])
    ]
    heading = say("Permutation importance ({metric}, {rows} rows)", metric=compared, rows=f"{rows:,}")
    return Section(heading, [say("column"), say("mean of five"), say("standard deviation")], told)


def limits(known: Known, sections: list[Section], say: Say) -> Section:
    """What the page cannot vouch for: all that is not known, contradicted or undecided on it."""
    contradicted = say("CONTRADICTED by {where}: {other}", where="", other="").split()[0]
    doubts = (say("not known"), say("not measured"), contradicted, gate.UNDECIDED)
    rows = [
        [f"{section.heading}: {row[0]}: {cell}"]
        for section in sections
        for row in section.rows
        for cell in row
        if cell.startswith(doubts)
    ]
    rows += [
        [say("{heading}: nothing is recorded", heading=section.heading)] for section in sections if not section.rows
    ]
    if known.tags.get("git_dirty") == "true":
        rows.append([say("The code had changes that are in no commit; the run has them as git.diff.")])
    rows.append([say("Nothing on this page speaks of rows that are unlike the validation data.")])
    return Section(say("Limits"), [say("what this page cannot tell")], rows)


def markdown(title: str, introduction: str, sections: list[Section]) -> str:
    """The page in Markdown."""
    lines = [f"# {title}", "", introduction]
    for section in sections:
        lines += ["", f"## {section.heading}", ""]
        for cells in (section.columns, ["---"] * len(section.columns), *section.rows):
            written = [" ".join(cell.split()).replace("|", r"\|") for cell in cells]
            lines.append(f"| {' | '.join(written)} |")
    return "\n".join(lines) + "\n"


def html(title: str, introduction: str, sections: list[Section], language: str) -> str:
    """The page in HTML, on its own."""
    style = "body{font:16px sans-serif;max-width:70em;margin:2em auto}table{border-collapse:collapse}"
    style += "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;overflow-wrap:break-word}"
    head = f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{escape(title)}</title>'
    body = f"<style>{style}</style><h1>{escape(title)}</h1><p>{escape(introduction)}</p>"
    tables = [pd.DataFrame(each.rows, columns=each.columns).to_html(index=False, border=0) for each in sections]
    headings = [f"<h2>{escape(each.heading)}</h2>" for each in sections]
    return head + body + "".join(heading + table for heading, table in zip(headings, tables, strict=True)) + "</html>"


def link_to(name: str, version: str, uri: str) -> None:
    """Tag a version with the address of its dossier, where the user may write to it; a reader has the dossier alone."""
    try:
        MlflowClient().set_model_version_tag(name, version, "dossier", uri)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        click.echo(f"The tag dossier of {name} {version} is not set: it needs the right EDIT on the registered model.")


@click.command()
@click.option("--name", required=True, help="The registered model.")
@click.option("--version", required=True, help="The number of the version.")
@click.option("--language", type=click.Choice(["en", "fr"]), default="en")
def dossier(name: str, version: str, language: str) -> None:
    """Write all that can be shown about a version on one page, as dossier.md and dossier.html of a run."""
    quiet()
    with explained():
        known, say = read(name, version), partial(in_language, language)
        say_whose(known.version)
        with mlflow.start_run() as run, pd.option_context("display.max_colwidth", None):
            describe_run(run, "dossier")
            mlflow.set_tags({"registered_model": name, "described_version": version})
            sections = [facts(known, say), decisions(known, say), newest_verdict(known, say), *measured(known, say)]
            sections.append(limits(known, sections, say))
            title = say("Dossier of {name}, version {version}", name=name, version=version)
            written = say("Written {at} by {who}.", at=now(), who=who())
            page = (
                title,
                f"{written} {say('Each fact was read then, and compared where two places state it.')}",
                sections,
            )
            mlflow.log_text(markdown(*page), "dossier.md")
            mlflow.log_text(html(*page, language), "dossier.html")
            uri = f"runs:/{run.info.run_id}/dossier.html"
            click.echo(f"{title}: {uri}")
            link_to(name, version, uri)
            say_where_to_look()


if __name__ == "__main__":
    run_command(dossier)
