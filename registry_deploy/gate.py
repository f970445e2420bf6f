"""The rules of the gate: is a candidate good enough to take the champion's place? Nothing moves here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.models import EvaluationResult, MetricThreshold, ModelSignature
from mlflow.models.evaluation.validation import ModelValidationFailedException

from answers import Answers

CHUNK = 5_000_000  # weights of the bootstrap in memory at a time: 40 MB


@dataclass(frozen=True)
class Metric:
    """A metric that can be worked out for many weightings of the rows at once.

    score: from the truth (rows,), the answers and weights (draws, rows), the metric of each draw (draws,).
    """

    greater_is_better: bool
    needs_probabilities: bool
    score: Callable[[np.ndarray, Answers, np.ndarray], np.ndarray]


def _roc_auc(truth: np.ndarray, answers: Answers, weights: np.ndarray) -> np.ndarray:
    probabilities = np.asarray(answers.probabilities)
    counted = range(len(answers.classes)) if len(answers.classes) > 2 else [1]
    curves = [_area(truth == answers.classes[place], probabilities[:, place], weights) for place in counted]
    return np.mean(curves, axis=0)


def _area(member: np.ndarray, scored: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of (positive, negative) pairs that are ranked right, a tie counting half, for each row of weights."""
    order = np.argsort(scored, kind="stable")
    scored, member, weights = scored[order], member[order], weights[:, order]
    ties = np.flatnonzero(np.r_[True, scored[1:] != scored[:-1]])
    positive = np.add.reduceat(weights * member, ties, axis=1)
    negative = np.add.reduceat(weights * ~member, ties, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    right = (positive * (below + negative / 2)).sum(axis=1)
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def _accuracy(truth: np.ndarray, answers: Answers, weights: np.ndarray) -> np.ndarray:
    return _mean((np.asarray(answers.predictions) == truth).astype(float), weights)


def _log_loss(truth: np.ndarray, answers: Answers, weights: np.ndarray) -> np.ndarray:
    places = {label: place for place, label in enumerate(answers.classes)}
    of_truth = np.asarray(answers.probabilities)[np.arange(len(truth)), [places[label] for label in truth.tolist()]]
    return _mean(-np.log(np.clip(of_truth, np.finfo(float).eps, 1)), weights)


def _errors(truth: np.ndarray, answers: Answers) -> np.ndarray:
    return np.asarray(answers.predictions, dtype=float) - truth.astype(float)


# Under the names that mlflow.models.evaluate gives them.
METRICS = {
    "classifier": {
        "roc_auc": Metric(True, True, _roc_auc),
        "log_loss": Metric(False, True, _log_loss),
        "accuracy_score": Metric(True, False, _accuracy),
    },
    "regressor": {
        "mean_absolute_error": Metric(False, False, lambda t, a, w: _mean(np.abs(_errors(t, a)), w)),
        "mean_squared_error": Metric(False, False, lambda t, a, w: _mean(_errors(t, a) ** 2, w)),
        "root_mean_squared_error": Metric(False, False, lambda t, a, w: np.sqrt(_mean(_errors(t, a) ** 2, w))),
    },
}


def point(truth: np.ndarray, answers: Answers, metric: Metric) -> float:
    """A metric of all rows, each counted once."""
    return float(metric.score(truth, answers, np.ones((1, len(truth))))[0])


def bootstrap_improvement(
    truth: np.ndarray, candidate: Answers, champion: Answers, metric: Metric, n_resamples: int, random_state: int
) -> np.ndarray:
    """How much better the candidate is in each of many resamples of the rows (n_resamples,); positive is better.

    Paired: in each resample both models are scored on the same rows, drawn with replacement. The percentiles of the
    result are the percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    Resamples that hold one class only, which happens with a handful of rows, count as nan.
    """
    generator = np.random.default_rng(random_state)
    rows = len(truth)
    step = max(1, CHUNK // rows)
    sign = 1 if metric.greater_is_better else -1
    improvements = []
    for start in range(0, n_resamples, step):
        draws = min(step, n_resamples - start)
        weights = generator.multinomial(rows, np.full(rows, 1 / rows), size=draws).astype(float)
        difference = metric.score(truth, candidate, weights) - metric.score(truth, champion, weights)
        improvements.append(sign * difference)
    return np.concatenate(improvements)


def parse_thresholds(text: str) -> dict[str, MetricThreshold]:
    """Read "roc_auc>=0.8, log_loss<=0.5".

    Raises ValueError with the part that cannot be read.
    """
    thresholds = {}
    for part in [part.strip() for part in text.split(",") if part.strip()]:
        found = re.fullmatch(r"(\w+)\s*(>=|<=)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)", part)
        try:
            assert found
            threshold = float(found[3])
        except (AssertionError, ValueError):
            raise ValueError(f"{part!r} is no threshold: write for instance roc_auc>=0.8") from None
        thresholds[found[1]] = MetricThreshold(threshold=threshold, greater_is_better=found[2] == ">=")
    return thresholds


def incompatibility(candidate: ModelSignature, champion: ModelSignature) -> str:
    """Why those who call the champion could not call the candidate instead; empty where they could.

    The candidate must take every request that the champion takes, and answer in the same form.
    """
    if not (candidate.inputs.has_input_names() and champion.inputs.has_input_names()):  # tensors
        sent, wanted = {}, []
        if candidate.inputs != champion.inputs:
            return f"takes {_kinds(candidate.inputs)}, not {_kinds(champion.inputs)}"
    else:
        sent, wanted = {column.name: column for column in champion.inputs.inputs}, candidate.inputs.inputs
    for column in wanted:
        if column.name not in sent:
            if column.required:
                return f"needs column {column.name!r}"
        elif column.type != sent[column.name].type:
            return f"column {column.name!r} is {column.type.name}, not {sent[column.name].type.name}"
        elif column.required and not sent[column.name].required:
            return f"column {column.name!r} is no longer optional"
    if candidate.outputs != champion.outputs:
        return f"answers {_kinds(candidate.outputs)}, not {_kinds(champion.outputs)}"
    taken = {param.name for param in candidate.params.params} if candidate.params else set()
    for param in champion.params.params if champion.params else []:
        if param.name not in taken:
            return f"takes no parameter {param.name!r}"
    return ""


def _kinds(schema: Any) -> str:
    return "nothing declared" if schema is None else ", ".join(map(str, schema.inputs))


def row(check: str, candidate: object, champion: object, required: str, passed: bool) -> dict[str, object]:
    """A line of the table of reasons."""
    shown = [f"{value:.4f}" if isinstance(value, float) else str(value) for value in (candidate, champion)]
    verdict = "pass" if passed else "FAIL"
    return {"check": check, "candidate": shown[0], "champion": shown[1], "required": required, "verdict": verdict}


def threshold_row(
    name: str,
    threshold: MetricThreshold,
    candidate: EvaluationResult,
    champion: EvaluationResult | None,
    check: str = "",
) -> dict[str, object]:
    """Judge a metric of an evaluation against a threshold, by `mlflow.validate_evaluation_results`."""
    try:
        mlflow.validate_evaluation_results({name: threshold}, candidate)
        passed = True
    except ModelValidationFailedException:
        passed = False
    theirs = "-" if champion is None else champion.metrics.get(name, "-")
    required = f"{'>=' if threshold.greater_is_better else '<='} {threshold.threshold:.4g}"
    return row(check or name, candidate.metrics.get(name, "missing"), theirs, required, passed)


def improvement_figure(improvement: np.ndarray, low: float, high: float, margin: float, title: str) -> Figure:
    """The improvement over the resamples, its interval, and the line that its lower end must not fall below."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(improvement[~np.isnan(improvement)], bins=40, color="#9ecae1")
    axes.axvspan(low, high, color="#1f77b4", alpha=0.15, label=f"interval {low:+.4f} to {high:+.4f}")
    axes.axvline(-margin, color="#d62728", linestyle="--", label=f"required: not below {0 - margin:+.4f}")
    axes.set(title=title, xlabel="improvement over the champion", ylabel="resamples")
    axes.legend(fontsize="small")
    return figure


def table(rows: list[dict[str, object]]) -> str:
    """The reasons as text."""
    return pd.DataFrame(rows).to_string(index=False)
