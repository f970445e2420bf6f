"""The gate: judge a candidate against the champion on the same validation data, and move the alias if it passes."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion

import gate
from contestant import Contestant, Validation, read_validation
from gate import FAIL, METRICS, PASS, UNDECIDED, Comparison, Row
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.table import bad
from versions import CHAMPION, aliases, explained, find_version, move_champion, quiet, say_whose, who

TIMED = 60  # rows that are sent to both models one by one, in turns


@dataclass(frozen=True)
class Rules:
    """What a candidate must fulfil: the parameters of the entry point `promote`, as the options below explain them."""

    model_type: str = "classifier"
    thresholds: str = "roc_auc>=0.75"
    metric: str = ""
    margin: float = 0.01
    confidence: float = 0.95
    n_resamples: int = 1000
    random_state: int = 0
    min_rows: int = 100
    min_class_rows: int = 20
    slices: str = ""
    slice_margin: float = 0.01
    max_latency: float = 0.0
    max_slowdown: float = 3.0
    env_manager: str = "local"

    @property
    def compared(self) -> str:
        """The name of the metric to compare on.

        Raises click.BadParameter for one that the gate does not offer for this type of model.
        """
        offered = METRICS[self.model_type]
        name = self.metric or ("roc_auc" if self.model_type == "classifier" else "mean_absolute_error")
        if name not in offered:
            raise bad("metric", self.metric, f"is none of: {', '.join(offered)}.")
        return name


@dataclass(frozen=True)
class Judged:
    """The outcome: the table of reasons and the run that holds it."""

    version: ModelVersion
    rows: list[Row]
    run_id: str

    @property
    def verdict(self) -> str:
        """Pass, FAIL or undecided."""
        return gate.verdict_of(self.rows)

    @property
    def promoted(self) -> bool:
        """Whether it is champion now."""
        return self.verdict == PASS

    @property
    def reasons(self) -> str:
        """The checks that decided against it, in one line, each with what can be done."""
        return gate.reasons(self.rows)


def promote_version(model_uri: str, data: str, target: str, rules: Rules, run_name: str | None = None) -> Judged | None:
    """Judge a registered version and, if it passes, make it the champion. None where it is the champion already.

    data: path or URL of the validation data: rows that no model has been fitted on.
    target: the column with the truth.

    Raises click.ClickException for what a user can put right, and where another process was faster.
    """
    gate.parse_thresholds(rules.thresholds)  # what cannot be read is refused first
    metric = rules.compared
    candidate = find_version(model_uri)
    if "archived_at" in candidate.tags:
        raise bad("model_uri", model_uri, f"is archived (since {candidate.tags['archived_at']}): nothing to promote.")
    number = aliases(candidate.name).get(CHAMPION)
    if number == str(candidate.version):
        return None
    champion = find_version(f"models:/{candidate.name}/{number}") if number else None
    validation = read_validation(data, target, rules.model_type, rules.slices)
    say_whose(candidate)
    with mlflow.start_run(nested=True, run_name=run_name) as run:
        describe_run(run, "promote", {"model_uri": model_uri, "data": data, "target": target, **vars(rules)})
        names = {"registered_model": candidate.name, "candidate_version": str(candidate.version), "judged_by": who()}
        mlflow.set_tags(names | {"champion_version": number or "none", "decision": "pending"})
        judged = Judged(candidate, judge(candidate, champion, validation, metric, rules), run.info.run_id)
        mlflow.log_text(gate.record(judged.rows).to_csv(index=False), "gate.csv")
        if judged.promoted:
            move_champion(candidate.name, str(candidate.version), judged_against=number, run_id=run.info.run_id)
        mlflow.set_tag("decision", {PASS: "promoted", FAIL: "refused", UNDECIDED: "undecided"}[judged.verdict])
        if judged.verdict == UNDECIDED:
            needed = [row.rows_needed for row in judged.rows if row.rows_needed]
            mlflow.set_tags({"rows_needed": max(needed, default="unknown"), "mlflow.note.content": judged.reasons})
        return judged


def judge(
    candidate: ModelVersion, champion: ModelVersion | None, validation: Validation, metric: str, rules: Rules
) -> list[Row]:
    """The table of reasons; logs the evaluations as child runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        versions = {"candidate": candidate} | ({"champion": champion} if champion else {})
        both = [Contestant(role, version, folder) for role, version in versions.items()]
        rows = [gate.signature_row(*(each.signature for each in both))] if champion else []
        rows += gate.enough_rows(
            validation.truth, rules.model_type == "classifier", rules.min_rows, rules.min_class_rows
        )
        if gate.verdict_of(rows) != PASS:
            return rows
        for each in both:
            each.ask(validation, rules.env_manager, stack)
            if METRICS[rules.model_type][metric].needs_probabilities and not each.answers.probabilities:
                raise bad("metric", metric, f"needs probabilities, and {each.uri} gives none: accuracy_score does not.")
            each.evaluate(validation)
        rows += gate.threshold_rows(rules.thresholds, *(each.evaluated for each in both))
        if champion:
            rows += compare(both[0], both[1], validation, metric, rules)
        return rows + gate.latency_rows(latencies(both), rules.max_latency, rules.max_slowdown)


def compare(
    candidate: Contestant, champion: Contestant, validation: Validation, metric: str, rules: Rules
) -> list[Row]:
    """Judge the candidate against the champion, on all rows and in groups; logs gate.png and the interval."""
    how = (rules.confidence, rules.n_resamples, rules.random_state)
    models = Comparison(metric, validation.truth, candidate.answers, champion.answers, *how)
    row, found = gate.compared_row(models, rules.margin)
    numbers = f"version {candidate.version.version} against version {champion.version.version}"
    title = f"{candidate.version.name}: {numbers}, {metric}"
    mlflow.log_figure(gate.improvement_figure(found, models.bound(rules.margin), title), "gate.png")
    mlflow.log_metrics({"improvement": found.value, "improvement_low": found.low, "improvement_high": found.high})
    return [row, *gate.slice_rows(models, validation.groups, rules.slice_margin, rules.min_class_rows)]


def latencies(both: list[Contestant]) -> list[np.ndarray]:
    """Milliseconds that the candidate and the champion take for each of some rows, asked in turns; logs the medians.

    In turns, and who comes first alternates: what else the machine does slows both down.
    """
    times = np.empty((len(both), TIMED))
    for turn in range(TIMED):
        for place in sorted(range(len(both)), reverse=turn % 2 == 0):
            times[place, turn] = both[place].asked.milliseconds(turn % len(both[place].X))
    for each, measured in zip(both, times, strict=True):
        seconds = float(np.median(measured)) / 1000
        mlflow.log_metric(f"{each.role}_latency_seconds", seconds, model_id=each.model.model_id)
    return list(times)


@click.command()
@click.option("--model_uri", default="models:/churn@challenger", help="models:/<name>@<alias> or /<version>.")
@click.option("--data", default="data/churn_validation.csv", help="Path or URL of the validation data: CSV or Parquet.")
@click.option("--target", default="churn", help="The column with the truth.")
@click.option("--model_type", type=click.Choice(["classifier", "regressor"]), default="classifier")
@click.option("--thresholds", default="roc_auc>=0.75", help="Bounds of its own metrics, comma-separated; may be empty.")
@click.option("--metric", default="", help="Compared with the champion's; default: roc_auc or mean_absolute_error.")
@click.option("--margin", type=FiniteRange(0), default=0.01, help="How much worse it may be; of a loss: a share.")
@click.option("--confidence", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.95)
@click.option("--n_resamples", type=click.IntRange(100, 100_000), default=1000, help="Draws of the bootstrap.")
@click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0)
@click.option("--min_rows", type=click.IntRange(2), default=100, help="Validation rows that a verdict needs.")
@click.option("--min_class_rows", type=click.IntRange(2), default=20, help="Rows of a class or group that it needs.")
@click.option("--slices", default="", help="Columns in whose groups it must not be worse either, comma-separated.")
@click.option("--slice_margin", type=FiniteRange(0), default=0.01, help="How much worse it may be in a group.")
@click.option("--max_latency", type=FiniteRange(0), default=0.0, help="Milliseconds for one row; 0: no bound.")
@click.option("--max_slowdown", type=FiniteRange(0, min_open=True), default=3.0, help="Times the champion's latency.")
@click.option("--env_manager", type=click.Choice(["local", "uv"]), default="local", help="uv: each in its environment.")
def promote(model_uri: str, data: str, target: str, **rules: Any) -> None:
    """Judge a candidate; if it passes, the alias champion moves to it."""
    quiet()
    with explained():
        judged = promote_version(model_uri, data, target, Rules(**rules))
        if judged is None:
            click.echo(f"{model_uri} is the {CHAMPION} already: nothing to do.")
            return
        click.echo(gate.table(judged.rows))
        title = f"{judged.version.name} version {judged.version.version}"
        if judged.verdict == FAIL:
            raise click.ClickException(f"{title} is refused, nothing has moved: {judged.reasons}.")
        if judged.verdict == UNDECIDED:
            click.echo(f"Undecided: {title} is neither promoted nor refused, nothing has moved: {judged.reasons}.")
            say_where_to_look()
            raise click.exceptions.Exit(3)
        click.echo(f"{title} is the {CHAMPION} now. Evaluation: run {judged.run_id}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(promote)
