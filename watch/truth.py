"""True answers that arrive later: joined to the recorded rows, and what they say of the answers."""

from __future__ import annotations

from dataclasses import dataclass

import click
import mlflow
import numpy as np
import pandas as pd

from measures import plain
from records import KEY, RECORD_OPTIONS
from reference import Served
from support.bootstrap import METRICS, metrics_when_drawn, resampled_metrics
from support.entry_point import FiniteRange
from support.table import bad, open_table

FROM_ANSWERS = ["accuracy", "balanced_accuracy", "f1", "recall", "precision"]  # the others need probabilities
LOSSES = ("log_loss", "brier_score_loss")  # the smaller, the better
MOST_CLASSES = 100  # of a model that does not say which it has
FEWEST = 30  # labelled rows, and two of each class, for a metric
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

    What of the table is not used is said: true answers for other rows, empty ones, contradictory ones for one row, and
    those for an id that several requests have.

    Raises click.BadParameter where a column is lacking.
    """
    table = open_table(labels, "labels")
    wanted = ["request_id", *(["row"] if "row" in table.names else [])]
    for name in (*wanted, target):
        if name not in table.names:
            raise bad("labels", labels, f"has no column {name!r}; it has: {', '.join(table.names)}.")
    if "row" not in table.names and rows["row"].any():
        raise bad("labels", labels, "has no column 'row', and some requests have several rows.")
    parts = [batch.to_pandas() for batch in table.batches(columns=[*wanted, target])]
    given = pd.concat(parts, ignore_index=True).rename(columns={target: "truth"})
    numbers = pd.to_numeric(given["row"], errors="coerce") if "row" in given else pd.Series(0, index=given.index)
    if (wrong := numbers.isna() | (numbers % 1 != 0)).any():
        raise bad("labels", labels, f"has {given['row'][wrong].iloc[0]!r} in 'row', which is no position: 0, 1, 2 ...")
    texts = given[["request_id", "truth"]].map(lambda each: "" if pd.isna(each) else str(each).strip())
    given = texts.assign(row=numbers.astype(int))
    unused = {"empty": int((given["truth"] == "").sum())}
    given = given[given["truth"] != ""].drop_duplicates([*KEY, "truth"])
    contradictory = given.duplicated(KEY, keep=False)
    several = pd.MultiIndex.from_frame(rows.loc[rows.duplicated(KEY, keep=False) | (rows["request_id"] == ""), KEY])
    keys = pd.MultiIndex.from_frame(given[KEY])
    unused["of no row of the window"] = int((~keys.isin(pd.MultiIndex.from_frame(rows[KEY])) & ~contradictory).sum())
    unused["contradictory"] = int(contradictory.sum())
    unused["of an id that several requests have"] = int((keys.isin(several) & ~contradictory).sum())
    if any(unused.values()):
        told = ", ".join(f"{count:,} {why}" for why, count in unused.items() if count)
        click.echo(f"Labels that are not used: {told}.")
    usable = given[~contradictory & ~keys.isin(several)]
    joined = rows.drop(columns="truth", errors="ignore").merge(usable[[*KEY, "truth"]], on=KEY, how="left")
    return joined.assign(truth=joined["truth"].astype(object))


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
    def lacking(self) -> str:
        """What lacks for a metric, FEWEST rows and two of each class; empty where there are enough."""
        counts = np.bincount(self.truth, minlength=len(self.classes))
        few = [label for label, count in zip(self.classes, counts, strict=True) if count < 2]
        named = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
        return "too few labels" if len(self.truth) < FEWEST else f"too few of {named}" if few else ""

    @property
    def names(self) -> list[str]:
        """The metrics that there are: those that need probabilities only where it gives some."""
        return METRICS if self.probabilities is not None else FROM_ANSWERS

    def drawn(self, random_state: int = 0) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Each metric, of all rows and on resamples of them (resamples,)."""
        chances = np.eye(len(self.classes))[self.predicted] if self.probabilities is None else self.probabilities
        given = (self.truth, chances, self.predicted, self.counted)
        values = metrics_when_drawn(np.ones((1, len(self.truth))), *given)
        drawn = resampled_metrics(*given, seed=random_state)
        return {name: float(values[name][0]) for name in self.names}, {name: drawn[name] for name in self.names}

    def metrics(self, random_state: int = 0) -> dict[str, tuple[float, float, float]]:
        """Each metric with its 95 % interval."""
        values, drawn = self.drawn(random_state)
        bounds = {name: np.nanquantile(drawn[name], [0.025, 0.975]) for name in values}
        return {name: (value, float(bounds[name][0]), float(bounds[name][1])) for name, value in values.items()}


def difference(new: Answered, old: Answered, metric: str) -> tuple[float, float, float]:
    """How much better one version was than another, each on its own rows, with the 95 % interval of the difference.

    metric: a name of METRICS. Raises click.BadParameter where it needs probabilities and there are none.
    """
    for each in (new, old):
        if metric not in each.names:
            raise bad("metric", metric, f"is none of the metrics that these answers have: {', '.join(each.names)}.")
    sign = -1 if metric in LOSSES else 1
    (one, ones), (other, others) = new.drawn(0), old.drawn(1)
    most = min(len(ones[metric]), len(others[metric]))
    low, high = np.nanquantile(sign * (ones[metric][:most] - others[metric][:most]), [0.025, 0.975])
    return sign * (one[metric] - other[metric]), float(low), float(high)


def answered(served: Served, rows: pd.DataFrame) -> Answered:
    """What a version said of rows that have a truth; it is asked again for probabilities where it gives any.

    rows: recorded rows of this version with their truth.

    Raises click.BadParameter for a truth that is none of its classes.
    """
    metadata = served.info.metadata or {}
    chances, labels = _probabilities(served, rows["inputs"])
    seen = sorted({plain(each) for side in ("truth", "output") for each in rows[side]})
    known = metadata.get("classes") or labels
    if not known and len(seen) > MOST_CLASSES:
        raise bad("name", served.uri, f"is no classifier: answers and labels have {len(seen)} different values.")
    classes = [str(label) for label in known or seen]
    places = {plain(label): place for place, label in enumerate(classes)}
    sides = []
    for side, parameter in (("truth", "labels"), ("output", "record")):
        found = rows[side].map(plain).map(places)
        if found.isna().any():
            strange = str(rows[side][found.isna()].iloc[0])
            raise bad(parameter, strange, f"is no class of {served.uri}; it has: {', '.join(classes)}.")
        sides.append(found.to_numpy(dtype=int))
    return Answered(classes, sides[0], sides[1], chances, _counted(classes, plain(metadata.get("positive", ""))))


def _counted(classes: list[str], positive: str) -> list[int]:
    if len(classes) > 2:
        return list(range(len(classes)))
    names = [plain(label) for label in classes]
    wanted = [positive] if positive in names else ["yes", "true", "1"]
    found = [place for place, name in enumerate(names) if name in wanted or name.lower() in wanted]
    return found[:1] or [len(classes) - 1]


def _probabilities(served: Served, inputs: pd.Series) -> tuple[np.ndarray | None, list[object]]:
    """The probability of each class (rows, classes) and the classes; None where the model gives none here.

    inputs: recorded rows. Where a column was not recorded, the model cannot be asked what it was asked then.
    """
    try:
        X = served.inputs(inputs)
        if left_out := [name for name in served.columns if name not in X]:
            raise LookupError(f"column {left_out[0]!r} was not recorded")
        model = mlflow.pyfunc.load_model(served.uri)
        if served.info.signature.params and "predict_method" in str(served.info.signature.params):
            return np.asarray(model.predict(X, params={"predict_method": "predict_proba"})), []
        raw = model.get_raw_model()
        return np.asarray(raw.predict_proba(X)), list(getattr(raw, "classes_", []))
    except Exception as error:  # a model of another kind, or without its packages: its answers are what there is
        why = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        click.echo(f"{served.uri} gives no probabilities here ({why}): metrics of its answers alone.", err=True)
        return None, []
