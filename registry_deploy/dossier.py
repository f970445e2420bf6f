"""One page about a version: what the registry and the tracking store say of it, checked when the page is written.

Where two places state a fact, they are compared. What nobody has recorded is not known, and the page says so.
"""

from __future__ import annotations

import math
import shlex
import tempfile
from contextlib import ExitStack, suppress
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
from sklearn.dummy import DummyRegressor
from sklearn.inspection import permutation_importance

import chance
import gate
from contestant import Contestant, Validation, read_validation
from promote import Rules
from registry import columns_of
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from versions import champions, explained, find_model, find_version, moment, now, quiet, say_whose, tags_of, who

Page = dict[str, pd.DataFrame]  # tables of texts by their headings
SAMPLE = 2000  # rows on which the permutation importance is measured, at most
STYLE = """body{font:16px sans-serif;max-width:70em;margin:2em auto} table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;overflow-wrap:break-word}"""


def run_of(run_id: str | None) -> Run | None:
    """A run, None where it is gone."""
    with suppress(MlflowException):
        return MlflowClient().get_run(run_id) if run_id else None
    return None


def runs_of_the_gate(version: ModelVersion) -> tuple[list[Run], Run | None]:
    """The runs of the gate that judged a version, oldest first, and the newest child run with its metrics."""
    quote = '"' if "'" in version.name else "'"  # MLflow knows no escape
    of_it = f"tags.registered_model = {quote}{version.name}{quote} and tags.candidate_version = '{version.version}'"
    every: dict[str, Any] = {"search_all_experiments": True, "run_view_type": ViewType.ALL, "output_format": "list"}
    judged = mlflow.search_runs(filter_string=of_it, order_by=["attributes.start_time ASC"], **every)
    evaluated = None
    for run in judged:
        children = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", **every)
        evaluated = next((each for each in children if each.info.run_name.startswith("candidate")), evaluated)
    return judged, evaluated


def table(columns: list[str], rows: list[list[str]]) -> pd.DataFrame:
    """A table with its columns in the language of the page."""
    return pd.DataFrame(rows, columns=[tr(column) for column in columns])


def check(stated: Any, other: Any, where: str) -> str:
    """Whether two places say the same of a fact; empty where both say nothing."""
    if stated is None or other is None:
        return "" if stated is other else tr("stated in one place only")
    if str(stated) == str(other):
        return tr("confirmed by {where}", where=where)
    return tr("CONTRADICTED by {where}: {other}", where=where, other=str(other))


def facts(version: ModelVersion) -> pd.DataFrame:
    """The model, its data, code and environment, and whether it was reproduced."""
    uri, tags = f"models:/{version.name}/{version.version}", tags_of(version)
    info, run = mlflow.models.get_model_info(uri), run_of(tags.get("source_run") or version.run_id)
    told = run.data.tags if run else {}
    logged = [each.model_id for each in run.outputs.model_outputs] if run and run.outputs else []
    used = run.inputs.dataset_inputs if run and run.inputs else []
    data = next((each.dataset for each in used[::-1] if "training" in [tag.value for tag in each.tags]), None)
    named = [alias for alias, number in find_model(version.name).aliases.items() if str(number) == str(version.version)]
    tried = run_of(told.get("reproduced_by"))
    reproduced = tried.data.tags if tried and run and tried.data.tags.get("reproduces") == run.info.run_id else {}
    packages = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text()
    none, of_run = tr("none"), tr("the run")
    rows: list[tuple[str, Any, Any, str]] = [
        ("Aliases", listed(version.aliases) or none, listed(named) or none, tr("the registered model")),
        ("Registered at", moment(version.creation_timestamp), None, ""),
        ("Registered by", tags.get("registered_by"), None, ""),
        ("Description", version.description, None, ""),
        ("Logged model", info.model_id, info.model_id if info.model_id in logged else listed(logged), of_run),
        ("Inputs", info.signature and columns_of(info.signature.inputs), None, ""),
        ("Outputs", info.signature and columns_of(info.signature.outputs), None, ""),
        ("Training data", tags.get("dataset"), data and f"{data.name} {data.digest}", of_run),
        ("Source of the training data", data and data.source, None, ""),
        ("Run", run and run.info.run_id, info.run_id, tr("the model")),
        ("Code commit", tags.get("git_commit"), told.get("mlflow.source.git.commit"), of_run),
        ("Repository", told.get("mlflow.source.git.repoURL"), None, ""),
        ("Program", told.get("mlflow.source.name"), None, ""),
        ("Uncommitted changes", tags.get("git_dirty"), told.get("mlflow.source.git.dirty"), of_run),
        ("Python", info.flavors.get("python_function", {}).get("python_version"), None, ""),
        ("Packages", listed(packages.split()), None, ""),
        ("Reproduced", told.get("reproduced"), reproduced.get("reproduced"), tr("the run that tried it")),
    ]
    cells = [
        [tr(what), str(value or other or tr("not known")), check(value or None, other or None, where)]
        for what, value, other, where in rows
    ]
    return table(["fact", "value", "check"], cells)


def listed(texts: list[str]) -> str:
    """Texts in one, in order."""
    return ", ".join(sorted(texts))


def decisions(version: ModelVersion, judged: list[Run]) -> pd.DataFrame:
    """What the gate decided and what became of the version: when, who, and whether the history of champions agrees."""
    history, where, rows = champions(find_model(version.name)), tr("the history of champions"), []
    promoted = {entry["run"] for entry in history.values() if entry["version"] == str(version.version)}
    for run in judged:
        tags = run.data.tags
        stated, entered = tags.get("decision") == "promoted", run.info.run_id in promoted
        by_run, by_model = (tr("promoted") if each else tr("not promoted") for each in (stated, entered))
        by = tags.get("judged_by") or tags.get("mlflow.user") or tr("not known")
        against = tr(tags.get("champion_version") or "not known")
        decided = tr(tags.get("decision", ""))
        rows.append(
            [moment(run.info.start_time), by, decided, against, run.info.run_id, check(by_run, by_model, where)]
        )
    tags = tags_of(version)
    for verb in ("promoted", "replaced", "restored", "rolled_back", "archived"):
        if at := tags.get(f"{verb}_at"):
            mover, noted = tags.get(f"{verb}_by"), history.get(at, {}).get("by")
            rows.append([at, mover or tr("not known"), tr(verb), "", "", check(mover, noted, where)])
    return table(["when", "who", "decision", "champion then", "run", "check"], sorted(rows))


def newest_verdict(judged: list[Run], evaluated: Run | None) -> pd.DataFrame:
    """The newest table of reasons, with intervals and groups; its figures are compared with those of its runs."""
    rows, run = [], judged[-1] if judged else None
    if run and "gate.csv" in [each.path for each in MlflowClient().list_artifacts(run.info.run_id)]:
        value, low, high = (run.data.metrics.get(f"improvement{end}", math.nan) for end in ("", "_low", "_high"))
        improvement = str(chance.Improvement(value, low, high, 1))
        metrics = evaluated.data.metrics if evaluated else {}
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/gate.csv")
        reasons = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
        if "measured_time" in reasons:
            reasons["candidate"] = reasons.pop("measured_time").where(lambda time: time != "", reasons["candidate"])
        for name, told, *rest in reasons.to_numpy().tolist():
            other: object = improvement if " improvement, " in name else None
            if name in metrics:
                other = told if math.isclose(float(told), metrics[name], rel_tol=1e-3) else metrics[name]
            rows.append([name, told, *rest, check(told, other, tr("the run"))])
    return table(["what is judged", "candidate", "champion", "required", "verdict", "check"], rows)


def measured(version: ModelVersion, evaluated: Run | None) -> Page:
    """The validation data, and what is measured on them today: metrics, in groups too, and permutation importance.

    Nothing is measured where the data, or the answers of the model, are no longer those of the newest evaluation.
    """
    parent = evaluated and run_of(evaluated.data.tags["mlflow.parentRunId"])
    if evaluated is None or evaluated.inputs is None or parent is None:
        return {tr("Validation"): table(["fact", "value"], [[tr("Validation data"), tr("not known")]])}
    params = {key: shlex.split(text)[0] if text[:1] == "'" else text for key, text in parent.data.params.items()}
    rules = Rules(params["model_type"], metric=params["metric"], slices=params["slices"])
    used = evaluated.inputs.dataset_inputs[0].dataset
    told, page = [[tr("Validation data"), f"{used.name} {used.digest}"], [tr("Read from"), params["data"]]], Page()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            validation = read_validation(params["data"], params["target"], rules.model_type, rules.slices)
            asked = Contestant("candidate", version, Path(folder))
            asked.ask(validation, "local", stack)
        except click.ClickException as error:
            told += [[tr("not measured"), error.format_message()]]
        else:
            digest = asked.dataset(validation).digest
            told += [[tr("Rows"), f"{len(validation.truth):,}"]]
            told += [[tr("Data and answers today"), check(digest, used.digest, tr("the run"))]]
            if digest == used.digest:
                page[tr("Metrics")] = metrics(asked, validation, rules.compared, evaluated)
                rows = min(len(asked.X), SAMPLE)
                heading = tr("Permutation importance ({metric}, {rows:,} rows)", metric=rules.compared, rows=rows)
                page[heading] = importance(asked, validation, rules.compared, rows)
            else:
                told += [[tr("not measured"), tr("the evaluation had other data or answers")]]
    return {tr("Validation"): table(["fact", "value"], told), **page}


def metrics(asked: Contestant, validation: Validation, compared: str, evaluated: Run) -> pd.DataFrame:
    """The metrics with 95 % intervals, and that of the gate in each group."""
    offered, every = gate.METRICS[validation.model_type], np.full(len(validation.truth), True)
    given = [name for name, metric in offered.items() if asked.answers.probabilities or not metric.needs_probabilities]
    wanted = [(name, name, every) for name in given]
    wanted += [(f"{compared}, {group}", compared, member) for group, member in validation.groups.items()]
    rows = []
    for what, name, member in wanted:
        parts = offered[name].parts(validation.truth[member], asked.answers.of(member))
        value, other, interval = f"{parts.mean():.4g}", None, tr("not known")
        if member.all() and name in evaluated.data.metrics:
            logged = evaluated.data.metrics[name]
            other = value if math.isclose(parts.mean(), logged, rel_tol=1e-6) else logged
        if len(parts) > 1 and np.isfinite(parts).all():
            interval = "{:.4g} – {:.4g}".format(*chance.bootstrap_interval(parts, 0.95, 1000, 0))
        rows.append([what, f"{len(parts):,}", value, interval, check(value, other, tr("the run"))])
    return table(["metric", "rows", "value", "95 % interval", "check"], rows)


def importance(asked: Contestant, validation: Validation, compared: str, rows: int) -> pd.DataFrame:
    """scikit-learn's permutation importance: how much worse the metric gets where a column is shuffled."""
    metric, model = gate.METRICS[validation.model_type][compared], asked.asked
    sign = 1 if metric.greater_is_better else -1

    def score(_: object, X: pd.DataFrame, y: np.ndarray) -> float:
        # Instead of the estimator that scikit-learn asks for, a dummy: the model itself answers.
        return sign * metric.value(y, model.answer(X))  # type: ignore[union-attr]

    how: dict[str, Any] = {"scoring": score, "n_repeats": 5, "random_state": 0, "max_samples": rows}
    found = permutation_importance(DummyRegressor(), asked.X, validation.truth, **how)
    mean, deviation = found.importances_mean, found.importances_std
    largest = np.argsort(-mean, kind="stable")
    cells = [[str(asked.X.columns[place]), f"{mean[place]:.4f}", f"{deviation[place]:.4f}"] for place in largest]
    return table(["column", "mean of five", "standard deviation"], cells)


def limits(dirty: bool, page: Page) -> pd.DataFrame:
    """What the page cannot vouch for: all that is not known, contradicted or undecided on it."""
    contradicted = tr("CONTRADICTED by {where}: {other}", where="", other="").split()[0]
    doubts, rows = (tr("not known"), tr("not measured"), contradicted, gate.UNDECIDED), []
    for heading, cells in page.items():
        for row in cells.to_numpy().tolist():
            rows += [f"{heading}: {row[0]}: {cell}" for cell in row if cell.startswith(doubts)]
    rows += [tr("{heading}: nothing is recorded", heading=heading) for heading, cells in page.items() if cells.empty]
    if dirty:
        rows.append(tr("The code had changes that are in no commit; the run has them as git.diff."))
    rows.append(tr("Nothing on this page speaks of rows that are unlike the validation data."))
    return table(["what this page cannot tell"], [[row] for row in rows])


def markdown(title: str, introduction: str, page: Page) -> str:
    """The page in Markdown."""
    lines = [f"# {title}", "", introduction]
    for heading, cells in page.items():
        lines += ["", f"## {heading}", ""]
        rows: list[list[str]] = [list(map(str, cells)), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
        for row in rows:
            written = [" ".join(cell.splitlines()).replace("|", r"\|") for cell in row]
            lines.append(f"| {' | '.join(written)} |")
    return "\n".join(lines) + "\n"


def html(title: str, introduction: str, page: Page, language: str = "en") -> str:
    """The page in HTML, on its own."""
    head = f'<!doctype html><html lang="{language}"><meta charset="utf-8">'
    head += f"<title>{escape(title)}</title><style>{STYLE}</style>"
    parts = [head, f"<h1>{escape(title)}</h1><p>{escape(introduction)}</p>"]
    with pd.option_context("display.max_colwidth", None):
        parts += [
            f"<h2>{escape(heading)}</h2>{cells.to_html(index=False, border=0)}" for heading, cells in page.items()
        ]
    return "\n".join(parts)


@click.command(params=[LANGUAGE])
@click.option("--name", required=True, help="The registered model.")
@click.option("--version", required=True, help="The number of the version.")
def dossier(name: str, version: str) -> None:
    """Write all that can be shown about a version on one page, as dossier.md and dossier.html of a run."""
    quiet()
    with explained():
        found = find_version(f"models:/{name}/{version}", "version")
        say_whose(found)
        with mlflow.start_run() as run:
            describe_run(run, "dossier")
            mlflow.set_tags({"registered_model": name, "described_version": version})
            judged, evaluated = runs_of_the_gate(found)
            page = {
                tr("Model, data, code and environment"): facts(found),
                tr("Decisions of the gate"): decisions(found, judged),
                tr("The newest verdict"): newest_verdict(judged, evaluated),
                **measured(found, evaluated),
            }
            page[tr("Limits")] = limits(tags_of(found).get("git_dirty") == "true", page)
            title = tr("Dossier of {name}, version {version}", name=name, version=version)
            written = tr("Written {at} by {who}.", at=now(), who=who())
            introduction = f"{written} {tr('Each fact was read then, and compared where two places state it.')}"
            mlflow.log_text(markdown(title, introduction, page), "dossier.md")
            language = click.get_current_context().meta["language"]
            mlflow.log_text(html(title, introduction, page, language), "dossier.html")
            uri = f"runs:/{run.info.run_id}/dossier.html"
            click.echo(f"{title}: {uri}")
            try:
                MlflowClient().set_model_version_tag(name, version, "dossier", uri)
            except MlflowException as error:
                if error.error_code != "PERMISSION_DENIED":
                    raise
                click.echo(
                    f"The tag dossier of {name} {version} is not set: it needs the right EDIT on the registered model."
                )
            say_where_to_look()


if __name__ == "__main__":
    run_command(dossier)
