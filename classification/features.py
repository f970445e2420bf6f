"""Turn a table into what a classifier learns from: features by kind, a target with classes, and a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from support.entry_point import FiniteRange
from support.inputs import to_frame
from support.kinds import Kind, decide, named
from support.names import pick_names
from support.parameters import option
from support.table import absolute, bad, open_table
from support.texts import shown

ROWS_PER_CLASS = 3  # that the training part must keep: the SVM calibrates its probabilities on three folds
MAX_CATEGORIES = 100  # of a column; its rarest beyond them share one, so that 20,000 merchants are not 20,000 columns

TABLE_OPTIONS = [
    option("data", default="data/churn.csv", help="Path or URL of a table."),
    option("target", default="churn", help="The column that holds the classes."),
    option("positive", help="The positive of two classes; otherwise yes, true or 1, else the rarer."),
    option("drop", help="Columns to leave out: comma-separated, or a JSON list."),
    option("kinds", help="What columns are, where the guess is wrong: zip:category,salary:number."),
    option("missing_values", help="Texts that stand for a missing value, comma-separated: ?,unknown."),
    option("test_size", FiniteRange(0, 1, min_open=True, max_open=True), 0.25),
    option("random_state", click.IntRange(0, 2**32 - 1), 0),
]


@dataclass(frozen=True)
class Split:
    """A table divided for training and testing.

    X_train, X_test: features as raw columns: float64, text (object) or boolean, missing values as NaN or None.
    y_train, y_test: classes as the table writes them; classes: all of them, sorted.
    positive: the class whose probability is scored, None with more than two classes.
    kinds: for each column of X what it is: a number, a category or a boolean, and how it is written in the table.
    source: path or URL of the table. random_state: seed of the split, and of all that comes after it.
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    kinds: dict[str, Kind]
    classes: list[Any]
    positive: Any | None
    target: str
    source: str
    random_state: int

    @property
    def truth(self) -> np.ndarray:
        """For each test row the position of its class in `classes` (rows,)."""
        return pd.Index(self.classes).get_indexer(self.y_test)

    @property
    def counted(self) -> list[int]:
        """The positions of the classes that metrics speak of: the positive one, or all."""
        return list(range(len(self.classes))) if self.positive is None else [self.classes.index(self.positive)]


def load_split(
    data: str,
    target: str,
    positive: str,
    drop: str,
    kinds: str,
    missing_values: str,
    test_size: float,
    random_state: int,
) -> Split:
    """Read a table, decide what its columns are, say what is learnt, and split it with the classes in equal shares.

    The parameters are those of TABLE_OPTIONS. Raises click.BadParameter where the table or one of them does not fit.
    """
    table = open_table(data)
    dropped = pick_names("drop", drop, table.names)
    [target] = pick_names("target", [target], table.names)
    if target in dropped:
        raise bad("drop", target, "is the target.")
    decided = decide(table, kinds, missing_values, drop=dropped, asked=[target])
    for note in table.notes:
        click.echo(note, err=True)
    learnt = {name: kind for name, kind in decided.items() if kind.learnable and name != target}
    if not learnt:
        raise bad("data", data, "has no column to learn from.")

    frame = to_frame(table, learnt | {target: decided[target]})
    y = _classes_of(frame.pop(target), decided[target], test_size)
    X = frame[_of_kind(learnt, "number", "category", "boolean")]
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=test_size, random_state=random_state, stratify=y
    )
    classes = sorted(y.unique().tolist())
    chosen = _positive_class(y, classes, positive)
    parts = (X_train, X_test, y_train, y_test)
    split = Split(*parts, learnt, classes, chosen, target, absolute(data), random_state)
    _say(split)
    return split


def _of_kind(kinds: dict[str, Kind], *wanted: str) -> list[str]:
    return [name for kind in wanted for name, each in kinds.items() if each.kind == kind]


def _say(split: Split) -> None:
    """Print what is learnt, and warn where the test rows tell little."""
    rows, tested = pd.concat([split.y_train, split.y_test]), split.y_test.value_counts()
    shares, columns = rows.value_counts(normalize=True), f"{len(split.kinds)} columns"
    click.echo(f"{len(rows):,} rows, {columns} to learn from; {len(split.y_test):,} of the rows are kept for the test.")
    if split.positive is None:
        listed = ", ".join(f"{label} {share:.1%}" for label, share in shares.head(10).items())
        click.echo(f"{len(split.classes)} classes of {split.target}: {listed}{' ...' * (len(shares) > 10)}")
    else:
        share = (rows == split.positive).mean()
        click.echo(f"Positive class of {split.target}: {split.positive}, {share:.1%} of the rows.")
    click.echo(f"For comparison: always answering {shares.index[0]} has an accuracy of {shares.iloc[0]:.3f}.")

    if len(split.y_test) < 100 or tested.min() < 20:
        few = f"{len(split.y_test)} test rows, {tested.min()} of class {shown(tested.idxmin())}, are few: "
        warn(f"{few}the metrics depend on chance. A larger test_size helps, or more rows.")
    parts = ((split.X_train, split.y_train), (split.X_test, split.y_test))
    one, other = (pd.util.hash_pandas_object(X.assign(**{split.target: y}), index=False) for X, y in parts)
    twins = int(other.isin(one).sum())
    if twins > len(other) / 100:
        why = "remove them from the table: a model that knows them by heart looks better than it is."
        warn(f"{twins:,} of the {len(other):,} test rows are equal to a training row. If they are copies, {why}")


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"Warning: {text}", err=True)


def with_preprocessing(classifier: BaseEstimator, kinds: dict[str, Kind]) -> Pipeline:
    """A Pipeline that imputes and scales numbers and one-hot encodes categories before the classifier.

    A missing category is a category of its own. Of one column the most frequent categories have a column each, the
    others, and those that occur once, share one; one never seen in training counts as one of these.
    """
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = OneHotEncoder(
        max_categories=MAX_CATEGORIES, min_frequency=2, handle_unknown="infrequent_if_exist", sparse_output=True
    )
    preprocessing = ColumnTransformer(
        [
            ("numbers", numbers, _of_kind(kinds, "number")),
            ("categories", categories, _of_kind(kinds, "category", "boolean")),
        ],
        # Many categories are mostly zeros. Of the classifiers, only this one is faster when they are not written down.
        sparse_threshold=0.3 if isinstance(classifier, LogisticRegression) else 0,
    )
    return Pipeline([("preprocessing", preprocessing), ("classifier", classifier)])


def without_idle_options(model: Pipeline) -> Pipeline:
    """A fitted Pipeline whose encoder says `ignore` where it found no rare category: the same, and ONNX knows it."""
    encoder = model[0].named_transformers_["categories"]
    if all(rare is None for rare in getattr(encoder, "infrequent_categories_", [])):
        encoder.set_params(handle_unknown="ignore")
    return model


def _classes_of(y: pd.Series, kind: Kind, test_size: float) -> pd.Series:
    """The classes of the rows: text, integers or booleans. Raises click.BadParameter where they are none."""
    name = str(y.name)
    missing = int(y.isna().sum())
    if missing:
        raise bad("target", name, f"has {missing} missing values: every row needs a class.")
    if kind.kind == "number":
        if (y % 1).any():
            right = f"is continuous ({y.nunique()} distinct numbers): a class is text or an integer."
            raise bad("target", name, f"{right} kinds={named(name, 'category')} makes each number a class.")
        y = y.astype("int64")
    counts = y.value_counts()
    rarest = shown(counts.idxmin())
    if len(counts) == 1:
        raise bad("target", name, f"has the one class {rarest}: at least two are needed.")
    needed = int(np.ceil(max(1 / test_size, ROWS_PER_CLASS / (1 - test_size))))
    if counts.min() < needed:
        right = f"has {counts.min()} rows of class {rarest}: test_size={test_size} needs {needed} a class."
        raise bad("target", name, right)
    return y


def _positive_class(y: pd.Series, classes: list[object], positive: str) -> object | None:
    if len(classes) > 2:
        if positive:
            raise bad("positive", positive, f"needs a target with two classes; this one has {len(classes)}.")
        return None
    wanted = [positive] if positive else ["yes", "true", "1"]
    for label in classes:
        if (str(label) if positive else str(label).lower()) in wanted:
            return label
    if positive:
        raise bad("positive", positive, f"is not a class of the target; it has: {', '.join(map(str, classes))}.")
    return y.value_counts().idxmin()
