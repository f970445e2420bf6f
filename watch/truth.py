"""True answers that arrive later: joined to the recorded rows, and what they say of the answers."""

from __future__ import annotations

from dataclasses import dataclass

import click
import mlflow
import numpy as np
import pandas as pd

from records import RECORD_OPTIONS
from reference import Served
from support.bootstrap import METRICS, metrics_when_drawn, resampled_metrics
from support.entry_point import FiniteRange
from support.table import bad, open_table

FROM_ANSWERS = ["accuracy", "balanced_accuracy", "f1", "recall", "precision"]  # the others need probabilities
LOSSES = ("log_loss", "brier_score_loss")  # the smaller, the better
FEWEST = 30  # labelled rows, and two of each class, for a metric
KEY = ["request_id", "row"]
LABEL_OPTIONS: list[click.Parameter] = [
    *RECORD_OPTIONS,
    click.Option(["--labels"], required=True, help="Path or URL of a table: request_id, row and the target."),
    click.Option(
        ["--target"], default="", help="The column of the true answer; default: what the model's metadata say."
    ),
    click.Option(["--window"], type=FiniteRange(0, min_open=True), default=28.0, help="Days."),
]


def target_of(served: Served, target: str, rows: pd.DataFrame) -> str:
    """The column of the true answer.

    rows: recorded ones. Raises click.BadParameter where neither the user nor the model's metadata name it, and where
    the recorded answers are amounts: what follows judges classes.
    """
    amounts = pd.to_numeric(rows["output"].map(plain), errors="coerce").dropna()
    if (amounts % 1).any() and not (served.info.metadata or {}).get("classes"):
        amount = amounts[amounts % 1 != 0].iloc[0]
        raise bad("name", served.uri, f"answers amounts ({amount:g}), not classes: of such a model, use drift alone.")
    if not (target or served.target):
        raise bad("target", "", f"is needed: {served.uri} does not say which column it predicts.")
    return target or served.target


def with_truth(rows: pd.DataFrame, labels: str, target: str) -> pd.DataFrame:
    """Recorded rows with a column `truth`: as the table of labels writes it, missing where there is none yet.

    labels: path or URL of a table with the columns request_id, row (0 where it is lacking) and the target.

    What of the table is not used is said: true answers for other rows, empty ones, and contradictory ones for one row.

    Raises click.BadParameter where a column is lacking.
    """
    table = open_table(labels, "labels")
    wanted = ["request_id", "row"] if "row" in table.names else ["request_id"]
    for name in (*wanted, target):
        if name not in table.names:
            raise bad("labels", labels, f"has no column {name!r}; it has: {', '.join(table.names)}.")
    if "row" not in table.names and rows["row"].any():
        raise bad("labels", labels, "has no column 'row', and some requests have several rows.")
    parts = [batch.to_pandas() for batch in table.batches(columns=[*wanted, target])]
    given = pd.concat(parts, ignore_index=True).rename(columns={target: "truth"})
    given["request_id"] = given["request_id"].astype(str)
    given["row"] = _positions(given["row"], labels) if "row" in given else 0
    given["truth"] = given["truth"].map(lambda each: None if pd.isna(each) or not str(each).strip() else str(each))
    empty, given = int(given["truth"].isna().sum()), given.dropna(subset=["truth"])
    given = given.drop_duplicates([*KEY, "truth"])
    contradictory = given.duplicated(KEY, keep=False)
    usable = given[~contradictory]
    elsewhere = len(usable) - int(usable.set_index(KEY).index.isin(rows.set_index(KEY).index).sum())
    unused = {"of no row of the window": elsewhere, "empty": empty, "contradictory": int(contradictory.sum())}
    if any(unused.values()):
        told = ", ".join(f"{count:,} {why}" for why, count in unused.items() if count)
        click.echo(f"Labels that are not used: {told}.")
    joined = rows.drop(columns="truth", errors="ignore").merge(usable[[*KEY, "truth"]], on=KEY, how="left")
    return joined.assign(truth=joined["truth"].astype(object))


def _positions(given: pd.Series, labels: str) -> pd.Series:
    """The positions of rows in their requests, as whole numbers. Raises click.BadParameter for what is none."""
    numbers = pd.to_numeric(given, errors="coerce")
    if (wrong := numbers.isna() | (numbers % 1 != 0)).any():
        raise bad("labels", labels, f"has {given[wrong].iloc[0]!r} in 'row', which is no position: 0, 1, 2 ...")
    return numbers.astype(int)


@dataclass(frozen=True)
class Answered:
    """Labelled rows and what a classifier says of them.

    truth, predicted: positions in `classes` (rows,). probabilities: (rows, classes), None where it gives none.
    counted: the positions of the classes that metrics speak of: the positive one, or all.
    """

    classes: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    counted: list[int]

    def of(self, member: np.ndarray) -> Answered:
        """The same for some of the rows (rows,)."""
        chances = None if self.probabilities is None else self.probabilities[member]
        return Answered(self.classes, self.truth[member], self.predicted[member], chances, self.counted)

    @property
    def enough(self) -> bool:
        """Whether there are rows enough for a metric: FEWEST, and two of each class."""
        return len(self.truth) >= FEWEST and np.bincount(self.truth, minlength=len(self.classes)).min() >= 2

    def metrics(self, random_state: int = 0) -> dict[str, tuple[float, float, float]]:
        """Each metric with its 95 % interval over resamples of the rows."""
        values = metrics_when_drawn(np.ones((1, len(self.truth))), *self._given)
        drawn = resampled_metrics(*self._given, seed=random_state)
        bounds = {name: np.nanquantile(drawn[name], [0.025, 0.975]) for name in self.names}
        return {name: (float(values[name][0]), float(bounds[name][0]), float(bounds[name][1])) for name in self.names}

    @property
    def names(self) -> list[str]:
        """The metrics that there are: those that need probabilities only where it gives some."""
        return METRICS if self.probabilities is not None else FROM_ANSWERS

    @property
    def _given(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        """What `support.bootstrap` takes: without probabilities, the predicted class is certain."""
        chances = np.eye(len(self.classes))[self.predicted] if self.probabilities is None else self.probabilities
        return self.truth, chances, self.predicted, self.counted

    def value(self, name: str) -> float:
        """One metric of all rows."""
        return float(metrics_when_drawn(np.ones((1, len(self.truth))), *self._given)[name][0])

    def drawn(self, name: str, random_state: int) -> np.ndarray:
        """One metric on 200 resamples of the rows."""
        return resampled_metrics(*self._given, seed=random_state)[name][:200]


def difference(new: Answered, old: Answered, metric: str) -> tuple[float, float, float]:
    """How much better one version was than another, each on its own rows, with the 95 % interval of the difference.

    metric: a name of METRICS. Raises click.BadParameter where it needs probabilities and there are none.
    """
    for each in (new, old):
        if metric not in each.names:
            raise bad("metric", metric, f"is none of the metrics that these answers have: {', '.join(each.names)}.")
    sign = -1 if metric in LOSSES else 1
    low, high = np.nanquantile(sign * (new.drawn(metric, 0) - old.drawn(metric, 1)), [0.025, 0.975])
    return sign * (new.value(metric) - old.value(metric)), float(low), float(high)


def answered(served: Served, rows: pd.DataFrame) -> Answered:
    """What a version said of rows that have a truth; it is asked again for probabilities where it gives any.

    rows: recorded rows of this version with their truth.

    Raises click.BadParameter for a truth that is none of its classes.
    """
    metadata = served.info.metadata or {}
    chances, labels = _probabilities(served, rows["inputs"])
    classes = [str(label) for label in metadata.get("classes") or labels or sorted(set(rows["truth"].map(plain)))]
    places = {plain(label): place for place, label in enumerate(classes)}
    sides = []
    for side in ("truth", "output"):
        found = rows[side].map(plain).map(places)
        if found.isna().any():
            strange = rows[side][found.isna()].iloc[0]
            raise bad(
                "labels" if side == "truth" else "record",
                str(strange),
                f"is no class of {served.uri}; it has: {', '.join(classes)}.",
            )
        sides.append(found.to_numpy(dtype=int))
    return Answered(classes, sides[0], sides[1], chances, _counted(classes, str(metadata.get("positive", ""))))


def plain(label: object) -> str:
    """A class as text that is the same in CSV, JSON and Parquet: 1.0 is 1, True is true."""
    text = str(label).strip()
    return text.lower() if text in ("True", "False") else text.removesuffix(".0")


def _counted(classes: list[str], positive: str) -> list[int]:
    if len(classes) > 2:
        return list(range(len(classes)))
    wanted = [positive, "yes", "true", "1"] if positive else ["yes", "true", "1"]
    found = [place for place, label in enumerate(classes) if label in wanted or label.lower() in wanted]
    return found[:1] or [1]


def _probabilities(served: Served, inputs: pd.Series) -> tuple[np.ndarray | None, list[object]]:
    """The probability of each class (rows, classes) and the classes; None where the model gives none here.

    inputs: recorded rows. Where a column was not recorded, the model cannot be asked what it was asked then.
    """
    recorded = set().union(*inputs)
    try:
        if left_out := [name for name in served.columns if name not in recorded]:
            raise LookupError(f"column {left_out[0]!r} was not recorded")
        X = served.inputs(inputs)
        model = mlflow.pyfunc.load_model(served.uri)
        if served.info.signature.params and "predict_method" in str(served.info.signature.params):
            return np.asarray(model.predict(X, params={"predict_method": "predict_proba"})), []
        raw = model.get_raw_model()
        return np.asarray(raw.predict_proba(X)), list(getattr(raw, "classes_", []))
    except Exception as error:  # a model of another kind, or without its packages: its answers are what there is
        why = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        click.echo(f"{served.uri} gives no probabilities here ({why}): metrics of its answers alone.", err=True)
        return None, []
