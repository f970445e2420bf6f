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
import pandas as pd
import pyarrow as pa
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import EvaluationMetric, EvaluationResult, Model, make_metric

import chance
import gate
from answers import Answers, Asked, AskedElsewhere
from gate import FAIL, METRICS, PASS, UNDECIDED, Bootstrap, Comparison, Row
from instances import all_rows, instances
from model_files import download, python_of, reason
from support.entry_point import FiniteRange, log_working_tree, name_run, run_command, say_where_to_look
from support.inputs import to_frame
from support.kinds import decide
from support.names import pick_names
from support.table import OpenedTable, bad, dataset_source, open_table, short_name
from target import DeploymentError
from versions import CHAMPION, aliases, explained, find_version, move_champion, quiet, say_whose

TIMED = 60  # rows that are sent to both models one by one, in turns


@dataclass(frozen=True)
class Rules:
    """What a candidate must fulfil.

    model_type: `classifier` or `regressor`, as in `mlflow.models.evaluate`.
    thresholds: bounds for any metrics of the evaluation, e.g. "roc_auc>=0.8,log_loss<=0.5".
    metric: the one on which candidate and champion are compared; empty for roc_auc or mean_absolute_error.
    margin: how much worse than the champion the candidate may be on it: in points of a rate, as a share of a loss.
    confidence: of the intervals, between 0 and 1.
    n_resamples: draws of the bootstrap.
    random_state: seed of the bootstrap.
    min_rows, min_class_rows: validation rows in all and of each class, below which there is no verdict.
    slices: columns in whose groups the candidate must not be worse either, comma-separated.
    slice_margin: how much worse it may be in a group.
    max_latency: milliseconds, the median of single rows; 0 for no bound.
    max_slowdown: latency as a multiple of the champion's.
    env_manager: `local` asks the models in this environment, `uv` each in its own.
    """

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
        """The name of the metric to compare on."""
        return self.metric or ("roc_auc" if self.model_type == "classifier" else "mean_absolute_error")

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are worked out."""
        return Bootstrap(self.confidence, self.n_resamples, self.random_state)

    def check(self) -> None:
        """Raise click.BadParameter where a name or a threshold cannot be understood."""
        offered = METRICS[self.model_type]
        if self.compared not in offered:
            raise bad("metric", self.metric, f"is none of: {', '.join(offered)}.")
        try:
            gate.parse_thresholds(self.thresholds)
        except ValueError as error:
            raise bad("thresholds", self.thresholds, f"cannot be read: {error}.") from None


@dataclass(frozen=True)
class Validation:
    """The validation data.

    table, rows: rows that no model has been fitted on. truth: (rows,), from its column `target`.
    groups: the groups of the rules' slices, by name, whether a row belongs to it (rows,).
    """

    data: str
    target: str
    table: OpenedTable
    rows: pa.Table
    truth: np.ndarray
    groups: dict[str, np.ndarray]


@dataclass(frozen=True)
class Contestant:
    """A version on this machine, the columns that it is asked, and what it answered."""

    version: ModelVersion
    role: str
    model: Model
    X: pd.DataFrame
    asked: Asked | AskedElsewhere
    evaluated: EvaluationResult

    @property
    def answers(self) -> Answers:
        """What it said to the validation data."""
        return self.asked.answers


@dataclass(frozen=True)
class Judged:
    """The outcome: the table of reasons, the run that holds it, and the verdict: pass, FAIL or undecided."""

    version: ModelVersion
    rows: list[Row]
    run_id: str
    verdict: str

    @property
    def promoted(self) -> bool:
        """Whether it is champion now."""
        return self.verdict == PASS

    @property
    def reasons(self) -> str:
        """The checks that decided against it, in one line, each with what can be done."""
        told = []
        for row in self.rows:
            if row.verdict == self.verdict and not (self.verdict == UNDECIDED and row.check.startswith("slice ")):
                needed = f"; it would take some {row.rows_needed:,} rows" if row.rows_needed else ""
                lever = f" ({row.lever})" if row.lever else ""
                told.append(f"{row.check} {row.candidate}, required {row.required}{needed}{lever}")
        return "; ".join(told)


def promote_version(model_uri: str, data: str, target: str, rules: Rules, run_name: str | None = None) -> Judged | None:
    """Judge a registered version and, if it passes, make it the champion. None where it is the champion already.

    data: path or URL of the validation data: rows that no model has been fitted on.
    target: the column with the truth.

    Raises click.ClickException for what a user can put right, and where another process was faster.
    """
    rules.check()
    candidate = find_version(model_uri)
    if "archived_at" in candidate.tags:
        raise bad("model_uri", model_uri, f"is archived (since {candidate.tags['archived_at']}): nothing to promote.")
    number = aliases(candidate.name).get(CHAMPION)
    if number == str(candidate.version):
        return None
    champion = find_version(f"models:/{candidate.name}/{number}") if number else None
    validation = read_validation(data, target, rules)
    say_whose(candidate)
    with mlflow.start_run(nested=True, run_name=run_name) as run:
        name_run("promote")
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params({"model_uri": model_uri, "data": data, "target": target, **vars(rules)})
        log_working_tree()
        names = {"registered_model": candidate.name, "candidate_version": str(candidate.version)}
        mlflow.set_tags(names | {"champion_version": number or "none", "decision": "pending"})
        rows = judge(candidate, champion, validation, rules)
        judged = Judged(candidate, rows, run.info.run_id, gate.verdict_of(rows))
        mlflow.log_text(gate.frame(rows).to_csv(index=False), "gate.csv")
        if judged.promoted:
            move_champion(candidate.name, str(candidate.version), judged_against=number, run_id=run.info.run_id)
        mlflow.set_tag("decision", {PASS: "promoted", FAIL: "refused", UNDECIDED: "undecided"}[judged.verdict])
        if judged.verdict == UNDECIDED:
            needed = [row.rows_needed for row in rows if row.rows_needed]
            mlflow.set_tags({"rows_needed": max(needed, default="unknown"), "mlflow.note.content": judged.reasons})
        return judged


def read_validation(data: str, target: str, rules: Rules) -> Validation:
    """Read the validation data.

    Raises click.BadParameter where the target, or a column of slices, is not in it or cannot be used.
    """
    table = open_table(data)
    [target] = pick_names("target", [target], table.names)
    slices = pick_names("slices", rules.slices, table.names)
    kinds = decide(table, names=[target, *slices], asked=[target, *slices])
    frame = to_frame(table, kinds)
    column = frame[target]
    if column.isna().any():
        raise bad("target", target, f"has {column.isna().sum()} missing values: every row needs the truth.")
    if rules.model_type == "regressor":
        if kinds[target].kind not in ("number", "boolean"):
            raise bad("target", target, "is not numeric: model_type=regressor predicts numbers.")
        truth = column.to_numpy(dtype=float)
    else:
        whole = kinds[target].kind == "number" and bool((column % 1 == 0).all())
        truth = np.asarray((column.astype("int64") if whole else column).tolist())
        if len(set(truth.tolist())) < 2:
            raise bad("target", target, f"has the one class {str(truth[0])!r}: at least two are needed.")
    groups = {group: member for name in slices for group, member in gate.groups_of(frame[name]).items()}
    return Validation(data, target, table, all_rows(table), truth, groups)


def judge(candidate: ModelVersion, champion: ModelVersion | None, validation: Validation, rules: Rules) -> list[Row]:
    """The table of reasons; logs the evaluations as child runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        versions = {"candidate": candidate} | ({"champion": champion} if champion else {})
        models = {role: fetch(version, folder / role) for role, version in versions.items()}
        rows = []
        if champion:
            signatures = [signature_of(versions[role], model) for role, (_, model) in models.items()]
            mismatch = gate.incompatibility(*signatures)
            rows = [
                Row("signature", mismatch or "compatible", "-", "takes and gives the same", FAIL if mismatch else PASS)
            ]
            if mismatch:
                return rows
        few = gate.enough_rows(validation.truth, rules.model_type == "classifier", rules.min_rows, rules.min_class_rows)
        if few:
            return [*rows, few]
        asked = [
            contestant(role, versions[role], path, model, validation, rules, stack)
            for role, (path, model) in models.items()
        ]
        rows += threshold_rows(asked, rules)
        if champion:
            rows += compare(asked[0], asked[1], validation, rules)
        return rows + gate.latency_rows(latencies(asked), rules.max_latency, rules.max_slowdown)


def fetch(version: ModelVersion, folder: Path) -> tuple[Path, Model]:
    """Download a version; returns its folder and its description."""
    try:
        path = download(f"models:/{version.name}/{version.version}", folder)
    except DeploymentError as error:
        raise click.ClickException(str(error)) from None
    return path, Model.load(str(path))


def signature_of(version: ModelVersion, model: Model) -> Any:
    """The signature of a version.

    Raises click.BadParameter where it has none.
    """
    if model.signature is None or model.signature.inputs is None:
        raise bad("model_uri", f"models:/{version.name}/{version.version}", "has no signature: log it with one.")
    return model.signature


def contestant(
    role: str,
    version: ModelVersion,
    path: Path,
    model: Model,
    validation: Validation,
    rules: Rules,
    stack: ExitStack,
) -> Contestant:
    """Let a version answer the validation data, and evaluate its answers; it ends with the stack."""
    X = features(validation, model, signature_of(version, model))
    labels = sorted(set(validation.truth.tolist())) if rules.model_type == "classifier" else None
    uri = f"models:/{version.name}/{version.version}"
    try:
        if rules.env_manager == "local":
            asked: Asked | AskedElsewhere = stack.enter_context(Asked(str(path), X, labels))
        else:
            python = python_of(path, rules.env_manager)
            asked = stack.enter_context(AskedElsewhere(python, path, X, labels, path.parent))
    except (DeploymentError, RuntimeError) as error:
        raise bad("model_uri", uri, f"does not work: {reason(error)}.") from None
    except Exception as error:  # a model may raise anything
        hint = "; env_manager=uv asks it with its own packages" if "No module named" in str(error) else ""
        why = reason(error).rstrip(".")
        raise bad("model_uri", uri, f"cannot answer the validation data: {why}{hint}.") from None
    check_answers(uri, asked.answers, validation, rules)
    return Contestant(
        version, role, model, X, asked, evaluate(role, version, model, asked.answers, X, validation, rules)
    )


def features(validation: Validation, model: Model, signature: Any) -> pd.DataFrame:
    """What a model is asked: the columns that it names, or, of a tensor, all but the target in the table's order."""
    if not signature.inputs.is_tensor_spec():
        return instances(validation.table, validation.rows, signature.inputs, model.metadata)
    table, target = validation.table, validation.target
    names = [name for name in table.names if name != target]
    if signature.inputs.has_input_names():
        names = pick_names("data", signature.inputs.input_names(), table.names)
    kinds = decide(table, names=names, asked=names)
    X = to_frame(table, kinds)
    if signature.inputs.has_input_names():
        return X
    wanted = abs(int(np.prod(signature.inputs.inputs[0].shape[1:])))
    if X.shape[1] != wanted:
        raise bad("data", X.shape[1], f"columns beside the target: the model takes {wanted}.")
    for name in X:
        if kinds[str(name)].kind not in ("number", "boolean"):
            raise bad("data", name, "is a column of text: the model takes a tensor of numbers.")
    return X


def check_answers(uri: str, answers: Answers, validation: Validation, rules: Rules) -> None:
    """Raise click.BadParameter where answers cannot be judged: unknown classes, no probabilities, no number."""
    truth = sorted(set(validation.truth.tolist()))
    if rules.model_type == "regressor":
        finite = np.isfinite(np.asarray(answers.predictions, dtype=float))
        if not finite.all():
            raise bad("model_uri", uri, f"answers no finite number to row {int(np.argmin(finite)) + 1}.")
        return
    known = answers.classes or answers.predictions
    strange = sorted(set(truth) - set(known)) if answers.classes else []
    if strange or not set(truth) & set(known):
        has = ", ".join(map(str, sorted(set(known), key=str)[:5]))
        cure = "log it with metadata={'classes': [...]} if these are their numbers"
        raise bad("data", str((strange or truth)[0]), f"is a class that {uri} does not know; it has: {has}; {cure}.")
    if METRICS["classifier"][rules.compared].needs_probabilities and not answers.probabilities:
        raise bad("metric", rules.compared, f"needs probabilities, and {uri} gives none: accuracy_score does not.")


def evaluate(
    role: str,
    version: ModelVersion,
    model: Model,
    answers: Answers,
    X: pd.DataFrame,
    validation: Validation,
    rules: Rules,
) -> EvaluationResult:
    """Evaluate answers by MLflow in a child run, tied to the model and to the validation data."""
    truth, target, answer = validation.truth, validation.target, "prediction"
    while answer in X or answer == target:
        answer += "_"
    answered = pd.concat([X, pd.DataFrame({target: truth, answer: answers.predictions}, index=X.index)], axis=1)
    source, name = dataset_source(validation.data), short_name(validation.data)
    dataset = from_pandas(answered, source=source, targets=target, predictions=answer, name=name)
    # MLflow works these out only from a model that it runs itself.
    metrics = [
        _known_metric(name, metric.value(truth, answers), metric.greater_is_better)
        for name, metric in METRICS[rules.model_type].items()
        if metric.needs_probabilities and answers.probabilities
    ]
    many = rules.model_type == "classifier" and len(set(truth.tolist())) > 2
    config = {"log_model_explainability": False} | ({"average": "macro"} if many else {})
    with mlflow.start_run(nested=True, run_name=f"{role}: version {version.version}"):
        result = mlflow.models.evaluate(
            data=dataset,
            model_type=rules.model_type,
            evaluators=["default"],
            evaluator_config={"default": config},
            extra_metrics=metrics,
            model_id=model.model_id,
        )
    mlflow.clear_active_model()  # evaluate() sets it, and later runs of this process would be tied to it
    return result


def _known_metric(name: str, value: float, greater_is_better: bool) -> EvaluationMetric:
    def eval_fn(predictions: Any, targets: Any, metrics: Any) -> float:
        return value

    return make_metric(eval_fn=eval_fn, greater_is_better=greater_is_better, name=name)


def threshold_rows(asked: list[Contestant], rules: Rules) -> list[Row]:
    """Judge the candidate, the first of them, by the thresholds."""
    evaluated, champion = asked[0].evaluated, asked[1].evaluated if len(asked) > 1 else None
    thresholds = gate.parse_thresholds(rules.thresholds)
    for name in thresholds:
        if name not in evaluated.metrics:
            have = ", ".join(sorted(evaluated.metrics))
            raise bad("thresholds", rules.thresholds, f"names {name!r}, which the evaluation lacks; it has: {have}.")
    return [gate.threshold_row(name, bound, evaluated, champion) for name, bound in thresholds.items()]


def compare(candidate: Contestant, champion: Contestant, validation: Validation, rules: Rules) -> list[Row]:
    """Judge the candidate against the champion, on all rows and in groups; logs gate.png and the interval."""
    metric = METRICS[rules.model_type][rules.compared]
    models = Comparison(rules.compared, metric, validation.truth, candidate.answers, champion.answers, rules.bootstrap)
    row, found = gate.compared_row(models, rules.margin)
    means, _ = chance.replicates(models.differences, rules.n_resamples, rules.random_state)
    numbers = f"version {candidate.version.version} against version {champion.version.version}"
    title = f"{candidate.version.name}: {numbers}, {rules.compared}"
    mlflow.log_figure(gate.improvement_figure(means, found, models.bound(rules.margin), title), "gate.png")
    mlflow.log_metrics({"improvement": found.value, "improvement_low": found.low, "improvement_high": found.high})
    return [row, *gate.slice_rows(models, validation.groups, rules.slice_margin, rules.min_class_rows)]


def latencies(asked: list[Contestant]) -> list[np.ndarray]:
    """Milliseconds that the candidate and the champion take for each of some rows, asked in turns; logs the medians.

    In turns, and who comes first alternates: what else the machine does slows both down.
    """
    times: list[list[float]] = [[] for _ in asked]
    order = list(range(len(asked)))
    for turn in range(TIMED):
        for place in order if turn % 2 else order[::-1]:
            times[place].append(asked[place].asked.milliseconds(turn % len(asked[place].X)))
    for each, measured in zip(asked, times, strict=True):
        mlflow.log_metric(f"{each.role}_latency_ms", float(np.median(measured)), model_id=each.model.model_id)
    return [np.asarray(measured) for measured in times]


@click.command()
@click.option(
    "--model_uri", default="models:/churn@challenger", help="The candidate: models:/<name>@<alias> or /<version>."
)
@click.option("--data", default="data/churn_validation.csv", help="Path or URL of the validation data: CSV or Parquet.")
@click.option("--target", default="churn", help="The column with the truth.")
@click.option("--model_type", type=click.Choice(["classifier", "regressor"]), default="classifier")
@click.option("--thresholds", default="roc_auc>=0.75", help="Bounds, comma-separated; may be empty.")
@click.option("--metric", default="", help="Compared with the champion's; default: roc_auc or mean_absolute_error.")
@click.option("--margin", type=FiniteRange(0), default=0.01, help="How much worse: points of a rate, share of a loss.")
@click.option("--confidence", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.95)
@click.option("--n_resamples", type=click.IntRange(100, 100_000), default=1000, help="Draws of the bootstrap.")
@click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0)
@click.option("--min_rows", type=click.IntRange(2), default=100, help="Fewer validation rows give no verdict.")
@click.option("--min_class_rows", type=click.IntRange(2), default=20, help="Fewer rows of a class give no verdict.")
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
