"""The gate: judge a candidate against the champion on the same validation data, and move the alias if it passes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import EvaluationMetric, EvaluationResult, MetricThreshold, Model, ModelSignature, make_metric

import gate
from answers import Answers, ask, ask_in
from gate import METRICS, point, row
from local_target import python_of
from support.entry_point import FiniteRange, log_working_tree, run_command, say_where_to_look
from support.table import bad, conform, dataset_source, read_table, short_name
from target import DeploymentError
from versions import CHAMPION, aliases, explained, find_version, first_line, move_champion, quiet


@dataclass(frozen=True)
class Rules:
    """What a candidate must fulfil.

    model_type: `classifier` or `regressor`, as in `mlflow.models.evaluate`.
    thresholds: bounds for any metrics of the evaluation, e.g. "roc_auc>=0.8,log_loss<=0.5".
    metric: the one on which candidate and champion are compared; empty for roc_auc or mean_absolute_error.
    margin: how much worse than the champion the candidate may be on it.
    confidence: of the bootstrap interval, between 0 and 1.
    n_resamples: draws of the bootstrap.
    random_state: seed of the bootstrap.
    max_latency: milliseconds, the median of single rows.
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
    max_latency: float = 200.0
    max_slowdown: float = 3.0
    env_manager: str = "local"

    @property
    def compared(self) -> str:
        """The name of the metric to compare on."""
        return self.metric or ("roc_auc" if self.model_type == "classifier" else "mean_absolute_error")

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
class Judged:
    """The outcome: the table of reasons, the run that holds it, and whether the candidate is champion now."""

    version: ModelVersion
    rows: list[dict[str, object]]
    run_id: str
    promoted: bool

    @property
    def reasons(self) -> str:
        """The checks that failed, in one line."""
        failed = [line for line in self.rows if line["verdict"] == "FAIL"]
        return "; ".join(f"{line['check']} {line['candidate']}, required {line['required']}" for line in failed)


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
    frame = _validation_rows(data, target)

    with mlflow.start_run(nested=True, run_name=run_name) as run, tempfile.TemporaryDirectory() as folder:
        if not run.data.params:  # `mlflow run` has logged them
            given = {"model_uri": model_uri, "data": data, "target": target, **vars(rules)}
            mlflow.log_params(given)
        log_working_tree()
        mlflow.set_tags(
            {
                "registered_model": candidate.name,
                "candidate_version": str(candidate.version),
                "champion_version": number or "none",
                "decision": "undecided",
            }
        )
        rows, improvement = _judge(candidate, champion, frame, data, target, rules, Path(folder))
        passed = all(line["verdict"] == "pass" for line in rows)
        mlflow.log_text(pd.DataFrame(rows).to_csv(index=False), "gate.csv")
        if improvement is not None:
            low, high = _interval(improvement, rules)
            title = f"{candidate.name}: version {candidate.version} against version {number}, {rules.compared}"
            mlflow.log_figure(gate.improvement_figure(improvement, low, high, rules.margin, title), "gate.png")
            mlflow.log_metrics({"improvement_low": low, "improvement_high": high})
        if passed:
            move_champion(candidate.name, str(candidate.version), judged_against=number, run_id=run.info.run_id)
        mlflow.set_tag("decision", "promoted" if passed else "refused")
        return Judged(candidate, rows, run.info.run_id, passed)


def _validation_rows(data: str, target: str) -> pd.DataFrame:
    frame = read_table(data)
    if target not in frame:
        raise bad("target", target, f"is not a column of the table; it has: {', '.join(map(str, frame.columns))}.")
    missing = int(frame[target].isna().sum())
    if missing:
        raise bad("target", target, f"has {missing} missing values: every row needs the truth.")
    return frame


def _judge(
    candidate: ModelVersion,
    champion: ModelVersion | None,
    frame: pd.DataFrame,
    data: str,
    target: str,
    rules: Rules,
    folder: Path,
) -> tuple[list[dict[str, object]], np.ndarray | None]:
    """The table of reasons, and the improvement over the bootstrap's resamples (None where it was not worked out)."""
    model = _download(candidate, folder / "candidate")
    signature = _signature(candidate, model)
    if champion is None:
        old_model = None
        rows = []
    else:
        old_model = _download(champion, folder / "champion")
        mismatch = gate.incompatibility(signature, _signature(champion, old_model))
        rows = [row("signature", mismatch or "compatible", "-", "takes and gives the same", not mismatch)]
        if mismatch:
            return rows, None

    truth = _truth(frame[target], target, rules)
    X = _features(frame, signature, target)
    asked = _ask(candidate, model, X, truth, rules, folder)
    evaluated = _evaluate("candidate", candidate, model, asked, X, truth, data, target, rules)
    if champion is None or old_model is None:
        rows += _absolute(rules, evaluated, None)
        rows.append(_latency(asked, None, rules))
        return rows, None

    X = _features(frame, _signature(champion, old_model), target)
    old_asked = _ask(champion, old_model, X, truth, rules, folder)
    old_evaluated = _evaluate("champion", champion, old_model, old_asked, X, truth, data, target, rules)
    rows += _absolute(rules, evaluated, old_evaluated)
    metric = METRICS[rules.model_type][rules.compared]
    theirs = old_evaluated.metrics[rules.compared]
    bound = MetricThreshold(
        threshold=float(theirs - rules.margin if metric.greater_is_better else theirs + rules.margin),
        greater_is_better=metric.greater_is_better,
    )
    check = f"{rules.compared}, worse by {rules.margin:g} at most"
    rows.append(gate.threshold_row(rules.compared, bound, evaluated, old_evaluated, check))
    improvement = gate.bootstrap_improvement(truth, asked, old_asked, metric, rules.n_resamples, rules.random_state)
    low, high = _interval(improvement, rules)
    check = f"its improvement, {rules.confidence:.0%} interval"
    rows.append(row(check, f"{low:+.4f} to {high:+.4f}", "-", f"from {0 - rules.margin:+.4g} up", low >= -rules.margin))
    rows.append(_latency(asked, None, rules))
    rows.append(_latency(asked, old_asked, rules))
    return rows, improvement


def _interval(improvement: np.ndarray, rules: Rules) -> tuple[float, float]:
    tail = (1 - rules.confidence) / 2
    low, high = np.nanquantile(improvement, [tail, 1 - tail])
    return float(low), float(high)


def _absolute(rules: Rules, evaluated: EvaluationResult, champion: EvaluationResult | None) -> list[dict[str, object]]:
    thresholds = gate.parse_thresholds(rules.thresholds)
    for name in thresholds:
        if name not in evaluated.metrics:
            have = ", ".join(sorted(evaluated.metrics))
            raise bad("thresholds", rules.thresholds, f"names {name!r}, which the evaluation lacks; it has: {have}.")
    return [gate.threshold_row(name, bound, evaluated, champion) for name, bound in thresholds.items()]


def _latency(asked: Answers, champion: Answers | None, rules: Rules) -> dict[str, object]:
    if champion is None:
        allowed, text, theirs = rules.max_latency, f"<= {rules.max_latency:g} ms", "-"
    else:
        allowed, text = rules.max_slowdown * champion.latency, f"<= {rules.max_slowdown:g} x the champion's"
        theirs = f"{champion.latency:.1f} ms"
    return row("latency", f"{asked.latency:.1f} ms", theirs, text, asked.latency <= allowed)


def _download(version: ModelVersion, folder: Path) -> Path:
    folder.mkdir()
    uri = f"models:/{version.name}/{version.version}"
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise click.ClickException(f"{uri} cannot be downloaded: {first_line(error)}") from None


def _signature(version: ModelVersion, model: Path) -> ModelSignature:
    signature = Model.load(str(model)).signature
    if signature is None or signature.inputs is None:
        raise bad("model_uri", f"models:/{version.name}/{version.version}", "has no signature: log it with one.")
    return signature


def _features(frame: pd.DataFrame, signature: ModelSignature, target: str) -> pd.DataFrame:
    """What a model is asked: the columns that it names, or, of a tensor, all but the target in the table's order."""
    if signature.inputs.has_input_names():
        return conform(frame, signature.inputs)
    tensor = signature.inputs.inputs[0]
    X = frame.drop(columns=target)
    if X.shape[1] != tensor.shape[-1]:
        raise bad("data", X.shape[1], f"columns beside the target: the model takes {tensor.shape[-1]}.")
    for name in X:
        if not pd.api.types.is_numeric_dtype(X[name]):
            raise bad("data", name, "is a column of text: the model takes a tensor of numbers.")
    return X.astype(tensor.type)


def _truth(column: pd.Series, target: str, rules: Rules) -> np.ndarray:
    if rules.model_type == "regressor":
        if not pd.api.types.is_numeric_dtype(column):
            raise bad("target", target, "is not numeric: model_type=regressor predicts numbers.")
        return column.to_numpy(dtype=float)
    values = column if pd.api.types.is_numeric_dtype(column) else column.astype(str)
    if values.nunique() < 2:
        raise bad("target", target, f"has the one class {values.iloc[0]!r}: at least two are needed.")
    return np.asarray(values.tolist())


def _ask(
    version: ModelVersion,
    model: Path,
    X: pd.DataFrame,
    truth: np.ndarray,
    rules: Rules,
    folder: Path,
) -> Answers:
    classifier = rules.model_type == "classifier"
    uri = f"models:/{version.name}/{version.version}"
    try:
        if rules.env_manager == "local":
            asked = ask(str(model), X, classifier=classifier)
        else:
            asked = ask_in(python_of(model, rules.env_manager), model, X, folder, classifier=classifier)
    except (DeploymentError, RuntimeError) as error:
        raise bad("model_uri", uri, f"does not work: {first_line(error)}.") from None
    except Exception as error:  # a model may raise anything
        hint = "; env_manager=uv asks it with its own packages" if "No module named" in str(error) else ""
        raise bad(
            "model_uri", uri, f"cannot answer the validation data: {first_line(error).rstrip('.')}{hint}."
        ) from None
    if classifier:
        known = asked.classes or asked.predictions
        strange = sorted(set(truth.tolist()) - set(known)) if asked.classes else []
        if strange or not set(truth.tolist()) & set(known):
            shown = ", ".join(map(str, sorted(set(known), key=str)[:5]))
            other = strange or sorted(set(truth.tolist()))
            raise bad("data", str(other[0]), f"is a class that {uri} does not know; it has: {shown}.")
        if METRICS[rules.model_type][rules.compared].needs_probabilities and not asked.probabilities:
            raise bad("metric", rules.compared, f"needs probabilities, and {uri} gives none: accuracy_score does not.")
    return asked


def _evaluate(
    role: str,
    version: ModelVersion,
    model: Path,
    asked: Answers,
    X: pd.DataFrame,
    truth: np.ndarray,
    data: str,
    target: str,
    rules: Rules,
) -> EvaluationResult:
    """Evaluate answers by MLflow in a child run, tied to the model and to the validation data."""
    answer = "prediction"
    while answer in X or answer == target:
        answer += "_"
    answered = pd.concat([X, pd.DataFrame({target: truth, answer: asked.predictions}, index=X.index)], axis=1)
    source, name = dataset_source(data), short_name(data)
    dataset = from_pandas(answered, source=source, targets=target, predictions=answer, name=name)
    # MLflow works these out only from a model that it runs itself.
    metrics = [
        _known_metric(name, point(truth, asked, metric), metric.greater_is_better)
        for name, metric in METRICS[rules.model_type].items()
        if metric.needs_probabilities and asked.probabilities
    ]
    model_id = Model.load(str(model)).model_id
    with mlflow.start_run(nested=True, run_name=f"{role}: version {version.version}"):
        result = mlflow.models.evaluate(
            data=dataset,
            model_type=rules.model_type,
            evaluators=["default"],
            evaluator_config={
                "default": {"log_model_explainability": False, **({"average": "macro"} if _many(truth, rules) else {})}
            },
            extra_metrics=metrics,
            model_id=model_id,
        )
        mlflow.log_metric("latency_ms", asked.latency, model_id=model_id)
    mlflow.clear_active_model()  # evaluate() sets it, and later runs of this process would be tied to it
    return result


def _known_metric(name: str, value: float, greater_is_better: bool) -> EvaluationMetric:
    return make_metric(
        eval_fn=lambda predictions, targets, metrics: value, greater_is_better=greater_is_better, name=name
    )


def _many(truth: np.ndarray, rules: Rules) -> bool:
    return rules.model_type == "classifier" and len(set(truth.tolist())) > 2


@click.command()
@click.option(
    "--model_uri", default="models:/churn@challenger", help="The candidate: models:/<name>@<alias> or /<version>."
)
@click.option("--data", default="data/churn_validation.csv", help="Path or URL of the validation data: CSV or Parquet.")
@click.option("--target", default="churn", help="The column with the truth.")
@click.option("--model_type", type=click.Choice(["classifier", "regressor"]), default="classifier")
@click.option("--thresholds", default="roc_auc>=0.75", help="Bounds, comma-separated; may be empty.")
@click.option("--metric", default="", help="Compared with the champion's; default: roc_auc or mean_absolute_error.")
@click.option("--margin", type=FiniteRange(0), default=0.01, help="How much worse it may be.")
@click.option("--confidence", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.95)
@click.option("--n_resamples", type=click.IntRange(100, 100_000), default=1000, help="Draws of the bootstrap.")
@click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0)
@click.option("--max_latency", type=FiniteRange(0, min_open=True), default=200.0, help="Milliseconds for one row.")
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
        if not judged.promoted:
            raise click.ClickException(f"{title} is refused, nothing has moved: {judged.reasons}.")
        click.echo(f"{title} is the {CHAMPION} now. Evaluation: run {judged.run_id}")
        say_where_to_look()


if __name__ == "__main__":
    run_command(promote)
