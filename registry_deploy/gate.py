"""The rules of the gate: is a candidate good enough to take the champion's place? Nothing moves here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.models import EvaluationResult, MetricThreshold, ModelSignature
from mlflow.models.evaluation.validation import ModelValidationFailedException
from scipy.stats import quantile_test

import chance
from answers import Answers
from support.table import bad

PASS, FAIL, UNDECIDED = "pass", "FAIL", "undecided"
GROUPS = 10  # a column with more different numbers than this is cut into quarters
COLUMNS = ["check", "candidate", "champion", "required", "verdict"]  # of the table of reasons


@dataclass(frozen=True)
class Row:
    """A line of the table of reasons.

    rows_needed: of an undecided check, how many validation rows it would take.
    lever: what a user can do about a check that did not pass.
    """

    check: str
    candidate: str
    champion: str
    required: str
    verdict: str
    rows_needed: int | None = None
    lever: str = field(default="", repr=False)

    @property
    def counts(self) -> bool:
        """Whether it has a say: a group too small to be judged is listed, and stops nothing."""
        return not (self.verdict == UNDECIDED and self.check.startswith("slice "))


def verdict_of(rows: Iterable[Row]) -> str:
    """The verdict of all checks together."""
    verdicts = {row.verdict for row in rows if row.counts}
    return FAIL if FAIL in verdicts else UNDECIDED if UNDECIDED in verdicts else PASS


def reasons(rows: list[Row]) -> str:
    """The checks that decided against a candidate, in one line, each with what can be done."""
    told = []
    for row in rows:
        if row.counts and row.verdict == verdict_of(rows):
            needed = f"; it would take some {row.rows_needed:,} rows" if row.rows_needed else ""
            lever = f" ({row.lever})" if row.lever else ""
            told.append(f"{row.check} {row.candidate}, required {row.required}{needed}{lever}")
    return "; ".join(told)


def table(rows: list[Row]) -> str:
    """The table of reasons as text."""
    return pd.DataFrame(rows)[COLUMNS].to_string(index=False)


def record(rows: list[Row]) -> pd.DataFrame:
    """The table of reasons; what a clock measured, which no other run measures alike, in a column of its own."""
    kept = pd.DataFrame(rows)[COLUMNS].assign(measured_time="")
    timed = kept["check"] == "latency"
    beside = kept["champion"].map(lambda theirs: "" if theirs == "-" else f", the champion's {theirs}")
    kept.loc[timed, "measured_time"] = (kept["candidate"] + beside)[timed]
    kept.loc[timed, ["candidate", "champion"]] = "-"
    return kept


def shown(value: float, *beside: float) -> str:
    """A number with four digits, and more where it would otherwise look like another number beside it."""
    numbers = (value, *beside)
    whole = [len(str(int(abs(each)))) if np.isfinite(each) else 1 for each in numbers]
    for digits in range(4, 17):
        texts = [f"{each:.{max(digits, size)}g}" for each, size in zip(numbers, whole, strict=True)]
        if len(set(texts)) == len(set(numbers)):
            break
    return texts[0]


def judged(low: float, high: float, bound: float) -> str:
    """The verdict on a quantity that must not lie below a bound, by its interval."""
    return PASS if low >= bound else FAIL if high < bound else UNDECIDED


def parse_thresholds(text: str) -> dict[str, MetricThreshold]:
    """Read "roc_auc>=0.8, log_loss<=0.5".

    Raises click.BadParameter for a part that cannot be read.
    """
    thresholds = {}
    for part in [part.strip() for part in text.split(",") if part.strip()]:
        found = re.fullmatch(r"(\w+)\s*(>=|<=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)", part)
        if found is None:
            raise bad("thresholds", text, f"cannot be read: {part!r} is no threshold: write for instance roc_auc>=0.8.")
        thresholds[found[1]] = MetricThreshold(threshold=float(found[3]), greater_is_better=found[2] == ">=")
    return thresholds


def threshold_rows(text: str, candidate: EvaluationResult, champion: EvaluationResult | None = None) -> list[Row]:
    """Judge the metrics of an evaluation by thresholds, with `mlflow.validate_evaluation_results`.

    Raises click.BadParameter for a metric that the evaluation does not have.
    """
    rows = []
    for name, threshold in parse_thresholds(text).items():
        if name not in candidate.metrics:
            have = ", ".join(sorted(candidate.metrics))
            raise bad("thresholds", text, f"names {name!r}, which the evaluation lacks; it has: {have}.")
        try:
            mlflow.validate_evaluation_results({name: threshold}, candidate)
            verdict = PASS
        except ModelValidationFailedException:
            verdict = FAIL
        mine, bound = float(candidate.metrics[name]), threshold.threshold
        theirs = [champion.metrics[name]] if champion and name in champion.metrics else []
        required = f"{'>=' if threshold.greater_is_better else '<='} {shown(bound, mine)}"
        beside, lever = shown(*theirs, mine) if theirs else "-", f"improve the model, or change {name} in thresholds"
        rows.append(Row(name, shown(mine, bound, *theirs), beside, required, verdict, lever=lever))
    return rows


def signature_row(candidate: ModelSignature, champion: ModelSignature) -> Row:
    """Judge whether those who call the champion could call the candidate instead.

    It must take every request that the champion takes, and answer in the same form.
    """
    mine, theirs, mismatch = candidate.inputs, champion.inputs, []
    if mine.is_tensor_spec() or theirs.is_tensor_spec() or not theirs.has_input_names():
        mismatch += [f"takes {mine}, not {theirs}"] if mine != theirs else []
    else:
        sent = {column.name: column for column in theirs.inputs}
        for column in mine.inputs:
            there = sent.get(column.name)
            if there is None and column.required:
                mismatch.append(f"needs column {column.name!r}")
            elif there is not None and (column.type != there.type or (column.required and not there.required)):
                mismatch.append(f"takes {column}, not {there}")
    if candidate.outputs != champion.outputs:
        ours, theirs = candidate.outputs or "nothing declared", champion.outputs or "nothing declared"
        mismatch.append(f"answers {ours}, not {theirs}")
    taken = [param.name for param in candidate.params.params] if candidate.params else []
    passed = [param.name for param in champion.params.params] if champion.params else []
    mismatch += [f"takes no parameter {name!r}" for name in passed if name not in taken]
    verdict = FAIL if mismatch else PASS
    return Row("signature", "; ".join(mismatch) or "compatible", "-", "takes and gives the same", verdict)


def enough_rows(truth: np.ndarray, classifier: bool, min_rows: int, min_class_rows: int) -> list[Row]:
    """An undecided check where the validation data are too few for any verdict, otherwise none.

    min_rows: of the whole table. min_class_rows: of each class.
    """
    [(rarest, count)] = pd.Series(truth).value_counts().tail(1).items()
    if len(truth) < min_rows:
        lever = "give more validation rows, or lower min_rows"
        return [Row("validation rows", f"{len(truth)}", "-", f">= {min_rows}", UNDECIDED, min_rows, lever)]
    if classifier and count == len(truth):
        name, lever = "classes of the validation rows", "give rows of each class"
        return [Row(name, f"{rarest} only", "-", ">= 2", UNDECIDED, lever=lever)]
    if classifier and count < min_class_rows:
        needed, lever = -(-len(truth) * min_class_rows // count), "give more rows of it, or lower min_class_rows"
        return [Row(f"rows of class {rarest}", f"{count}", "-", f">= {min_class_rows}", UNDECIDED, needed, lever)]
    return []


def latency_rows(milliseconds: list[np.ndarray], max_latency: float, max_slowdown: float) -> list[Row]:
    """Judge the time for one row: medians, with intervals by order statistics, whatever the distribution.

    milliseconds: of the candidate and, where there is one, of the champion: (rows,) each, the same rows asked in turns.
    max_latency: bound for the median; 0 for none. max_slowdown: bound for the ratio to the champion's time.
    """
    candidate, *champion = milliseconds
    checks = []
    if max_latency:
        checks.append((candidate, "ms", max_latency, "-", f"<= {max_latency:g} ms", "max_latency"))
    for theirs in champion:
        beside, required = f"{np.median(theirs):.3g} ms", f"<= {max_slowdown:g} x the champion's"
        checks.append((candidate / theirs, "x", max_slowdown, beside, required, "max_slowdown"))
    rows = []
    for values, unit, bound, beside, required, lever in checks:
        low, high = quantile_test(values, p=0.5).confidence_interval(0.95)
        measured = f"{np.median(values):.3g} {unit} ({low:.3g} to {high:.3g})"
        rows.append(Row("latency", measured, beside, required, judged(-high, -low, -bound), lever=f"raise {lever}"))
    return rows or [Row("latency", f"{np.median(candidate):.3g} ms", "-", "no bound", PASS)]


@dataclass(frozen=True)
class Metric:
    """A metric on which two models are compared.

    parts: from the truth (rows,) and the answers, one number for each row; the metric is their mean.
    relative: whether a margin is a share of the champion's value; otherwise it is in points, as for a rate.
    """

    parts: Callable[[np.ndarray, Answers], np.ndarray]
    greater_is_better: bool = False
    needs_probabilities: bool = False
    relative: bool = True

    def value(self, truth: np.ndarray, answers: Answers) -> float:
        """The metric of all rows."""
        return float(self.parts(truth, answers).mean())


def _roc_auc(truth: np.ndarray, answers: Answers) -> np.ndarray:
    """Of more than two classes, the mean of each against the rest; those that are not in the truth are left out."""
    probabilities = np.asarray(answers.probabilities)
    present = [place for place, label in enumerate(answers.classes) if (truth == label).any()]
    counted = present if len(answers.classes) > 2 else [1]
    each = [chance.auc_parts(truth == answers.classes[place], probabilities[:, place]) for place in counted]
    return np.mean(each, axis=0)


def _log_loss(truth: np.ndarray, answers: Answers) -> np.ndarray:
    places = [answers.classes.index(label) for label in truth.tolist()]
    of_truth = np.asarray(answers.probabilities)[np.arange(len(truth)), places]
    return -np.log(np.clip(of_truth, np.finfo(float).eps, 1))


def _hits(truth: np.ndarray, answers: Answers) -> np.ndarray:
    return (np.asarray(answers.predictions) == truth).astype(float)


def _errors(truth: np.ndarray, answers: Answers) -> np.ndarray:
    return np.asarray(answers.predictions, dtype=float) - truth.astype(float)


def _root_squared(truth: np.ndarray, answers: Answers) -> np.ndarray:
    """The linear part of the root (infinitesimal jackknife: Efron, The Jackknife, the Bootstrap, 1982, chapter 6)."""
    squared = _errors(truth, answers) ** 2
    root = np.sqrt(squared.mean())
    return root + (squared - squared.mean()) / (2 * root) if root else squared


# Under the names that mlflow.models.evaluate gives them.
METRICS = {
    "classifier": {
        "roc_auc": Metric(_roc_auc, greater_is_better=True, needs_probabilities=True, relative=False),
        "log_loss": Metric(_log_loss, needs_probabilities=True),
        "accuracy_score": Metric(_hits, greater_is_better=True, relative=False),
    },
    "regressor": {
        "mean_absolute_error": Metric(lambda truth, answers: np.abs(_errors(truth, answers))),
        "mean_squared_error": Metric(lambda truth, answers: _errors(truth, answers) ** 2),
        "root_mean_squared_error": Metric(_root_squared),
    },
}


@dataclass(frozen=True)
class Comparison:
    """Two models that have answered the same rows, and the name of the metric on which they are compared.

    truth: (rows,). confidence, n_resamples, random_state: how intervals are worked out.
    """

    name: str
    truth: np.ndarray
    candidate: Answers
    champion: Answers
    confidence: float = 0.95
    n_resamples: int = 1000
    random_state: int = 0

    def of(self, member: np.ndarray) -> Comparison:
        """The same for some of the rows: member (rows,) says which."""
        candidate, champion = self.candidate.of(member), self.champion.of(member)
        return replace(self, truth=self.truth[member], candidate=candidate, champion=champion)

    @property
    def metric(self) -> Metric:
        """The metric of that name."""
        return (METRICS["classifier"] | METRICS["regressor"])[self.name]

    @cached_property
    def theirs(self) -> float:
        """The metric of the champion."""
        return self.metric.value(self.truth, self.champion)

    @cached_property
    def differences(self) -> np.ndarray:
        """How much better the candidate is on each row (rows,)."""
        better = self.metric.parts(self.truth, self.candidate) - self.metric.parts(self.truth, self.champion)
        return better if self.metric.greater_is_better else -better

    def improvement(self) -> chance.Improvement:
        """How much better the candidate is."""
        differences, drawn = self.differences, (self.n_resamples, self.random_state)
        if self.name == "accuracy_score":  # differences are -1, 0 and 1: there are exact methods
            better, worse = int((differences > 0).sum()), int((differences < 0).sum())
            interval = chance.tango_interval(better, worse, len(differences), self.confidence)
            p_value = chance.mcnemar_p(better, worse)
        else:
            interval = chance.bootstrap_interval(differences, self.confidence, *drawn)
            p_value = chance.sign_flip_p(differences, *drawn)
        return chance.Improvement(float(differences.mean()), *interval, p_value)

    def bound(self, margin: float) -> float:
        """What the improvement must not lie below: the margin, of a loss as a share of the champion's value."""
        return 0 - margin * (self.theirs if self.metric.relative else 1)


def compared_row(models: Comparison, margin: float) -> tuple[Row, chance.Improvement]:
    """Judge a candidate against the champion; also its improvement.

    It passes where the whole interval of its improvement lies above -margin. With margin 0 the exact test must say so
    too: chance must not explain the improvement. Where the interval holds the bound, more rows must decide.
    """
    found, bound = models.improvement(), models.bound(margin)
    if margin:
        verdict, required = judged(found.low, found.high, bound), f">= {shown(bound)}"
        required += f" ({margin:g} x {shown(models.theirs)})" if models.metric.relative else ""
    else:
        better = found.low > 0 and found.p_value <= (1 - models.confidence) / 2
        worse, required = found.high < 0 or not models.differences.any(), "> 0, not by chance"
        verdict = PASS if better else FAIL if worse else UNDECIDED
    needed = chance.rows_needed(models.differences, bound, models.confidence) if verdict == UNDECIDED else None
    lever = f"{'give more validation rows' if verdict == UNDECIDED else 'improve the model'}, or raise margin"
    check = f"{models.name} improvement, {100 * models.confidence:g} % interval"
    return Row(check, str(found), shown(models.theirs), required, verdict, needed, lever), found


def slice_rows(models: Comparison, groups: dict[str, np.ndarray], margin: float, min_class_rows: int) -> list[Row]:
    """Judge a candidate on groups of rows: in none may it be worse than the champion by more than the margin.

    groups: by name, whether a row belongs to it (rows,).

    A group fails where it is worse by more than the margin and chance does not explain that it is worse, at 5 % for all
    groups together (Westfall and Young). A group with too few rows, or of a class for roc_auc, is undecided.
    """
    parts, large = {group: models.of(member) for group, member in groups.items()}, []
    for group, part in parts.items():
        counted = [part.truth == label for label in part.candidate.classes] if part.name == "roc_auc" else []
        if min([len(part.truth), *map(np.sum, counted)]) >= min_class_rows:
            large.append(group)
    members, losses = [groups[group] for group in large], [-parts[group].differences for group in large]
    # So many draws that a chance can be small enough in the largest number of groups.
    n_resamples = max(models.n_resamples, 100 * len(large))
    p_values = dict(zip(large, chance.losses_p(members, losses, n_resamples, models.random_state), strict=True))
    rows = []
    for group, part in parts.items():
        if group not in p_values:
            few, wanted = f"{len(part.truth)} rows", f"{min_class_rows} rows of each class"
            rows.append(Row(f"slice {group}", few, "-", wanted, UNDECIDED))
            continue
        found, bound = part.improvement(), part.bound(margin)
        worse = found.value < bound and p_values[group] <= 0.05
        verdict = FAIL if worse else PASS if found.low >= bound else UNDECIDED
        lever = "improve the model for this group, or raise slice_margin"
        rows.append(Row(f"slice {group}", str(found), shown(part.theirs), f">= {shown(bound)}", verdict, lever=lever))
    return rows


def groups_of(column: pd.Series) -> dict[str, np.ndarray]:
    """The groups of rows that a column makes: each value, or quarters of numbers; missing values."""
    values = column.astype(object)
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > GROUPS:
        finite = column.where(np.isfinite(column.astype(float)))
        values = pd.qcut(finite, 4, duplicates="drop").astype(object).where(finite.notna(), values)
    named = values.map(lambda each: f"{each:g}" if isinstance(each, float) else str(each), na_action="ignore")
    groups = {f"{column.name}={each}": (named == each).to_numpy() for each in sorted(named.dropna().unique())}
    missing = column.isna().to_numpy()
    return groups | ({f"{column.name} missing": missing} if missing.any() else {})


def improvement_figure(found: chance.Improvement, bound: float, title: str) -> Figure:
    """The improvement, its interval, and the line that its lower end must not fall below."""
    figure = Figure(figsize=(8, 2.5), layout="constrained")
    axes = figure.subplots()
    lengths = np.clip([[found.value - found.low], [found.high - found.value]], 0, None)
    blue, orange = "#0072B2", "#C44E00"  # colour-blind readers can tell them apart, and from white
    axes.errorbar([found.value], [0], xerr=lengths, fmt="o", capsize=6, color=blue, label=str(found))
    axes.axvline(bound, color=orange, linestyle="--", label=f"required: not below {shown(bound)}")
    axes.set(title=title.replace("$", r"\$"), xlabel="improvement over the champion", yticks=[])
    axes.legend(fontsize="small")
    return figure
