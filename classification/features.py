"""Turn a table into what a classifier learns from: features by kind, a target with classes, and a split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
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
from sklearn.utils.multiclass import type_of_target

from support.entry_point import FiniteRange
from support.parameters import option
from support.table import absolute, bad, read_table

ROWS_PER_CLASS = 3  # that the training part must keep: the SVM calibrates its probabilities on three folds
MAX_CATEGORIES = 100  # of a column; its rarest beyond them share one, so that 20,000 merchants are not 20,000 columns

TABLE_OPTIONS = [
    option("data", default="data/churn.csv", help="Path or URL of a table."),
    option("target", default="churn", help="The column that holds the classes."),
    option("positive", help="The positive of two classes; otherwise yes, true or 1, else the rarer."),
    option("drop", help="Columns to leave out, comma-separated."),
    option("test_size", FiniteRange(0, 1, min_open=True, max_open=True), 0.25),
    option("random_state", click.IntRange(0, 2**32 - 1), 0),
]


@dataclass(frozen=True)
class Columns:
    """The columns of a table by kind. `ignored` maps a column that is left out to the reason."""

    numeric: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    boolean: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        return self.numeric + self.categorical + self.boolean


@dataclass(frozen=True)
class Split:
    """A table divided for training and testing.

    X_train, X_test: features as raw columns: float64, text (object) or boolean, missing values as NaN or None.
    y_train, y_test: classes as the table writes them.
    classes: the classes in scikit-learn's order (sorted).
    positive: the class whose probability is scored, None with more than two classes.
    source: path or URL of the table.
    random_state: seed of the split, and of all that comes after it.
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    columns: Columns
    classes: list[Any]
    positive: Any | None
    target: str
    source: str
    random_state: int

    @property
    def name(self) -> str:
        """What to call the table by in titles."""
        return Path(self.source).name

    @property
    def truth(self) -> np.ndarray:
        """For each test row the position of its class in `classes` (rows,)."""
        return pd.Index(self.classes).get_indexer(self.y_test)

    @property
    def counted(self) -> list[int]:
        """The positions of the classes that metrics speak of: the positive one, or all."""
        return list(range(len(self.classes))) if self.positive is None else [self.classes.index(self.positive)]


def load_split(data: str, target: str, positive: str, drop: str, test_size: float, random_state: int) -> Split:
    """Read a table, check it, say what is learnt from it, and split it with the classes in equal shares.

    The parameters are those of TABLE_OPTIONS.

    Raises click.BadParameter where the table, the target or a name does not allow it.
    """
    frame = read_table(data)
    dropped = [name.strip() for name in drop.split(",") if name.strip()]
    for parameter, name in [("target", target), *(("drop", name) for name in dropped)]:
        if name not in frame:
            raise bad(parameter, name, f"is not a column of the table; it has: {', '.join(map(str, frame.columns))}.")
    if target in dropped:
        raise bad("drop", target, "is the target.")

    y = _check_target(frame[target], test_size)
    columns = infer_columns(frame.drop(columns=[target, *dropped]))
    for name, reason in columns.ignored.items():
        click.echo(f"Warning: column {name!r} {reason}: left out.", err=True)
    if not columns.features:
        raise bad("data", data, "has no column to learn from.")
    X = as_features(frame, columns)
    for name in columns.numeric:
        if np.isinf(X[name]).any():
            raise bad("data", data, f"holds infinite values in column {name!r}.")

    classes = sorted(y.unique().tolist())
    chosen = _positive_class(y, classes, positive)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=test_size, random_state=random_state, stratify=y
    )
    split = Split(X_train, X_test, y_train, y_test, columns, classes, chosen, target, absolute(data), random_state)
    _say(split)
    return split


def _say(split: Split) -> None:
    """Print what is learnt, and warn where the test rows tell little."""
    rows, tested = pd.concat([split.y_train, split.y_test]), split.y_test.value_counts()
    shares = rows.value_counts(normalize=True)
    columns = f"{len(split.columns.features)} columns"
    click.echo(f"{len(rows):,} rows, {columns} to learn from; {len(split.y_test):,} of the rows are kept for the test.")
    if split.positive is None:
        listed = ", ".join(f"{label} {share:.1%}" for label, share in shares.head(10).items())
        click.echo(f"{len(split.classes)} classes of {split.target}: {listed}{' ...' * (len(shares) > 10)}")
    else:
        click.echo(f"Positive class of {split.target}: {split.positive}, {shares[split.positive]:.1%} of the rows.")
    most = f"always answering {shares.index[0]} has an accuracy of {shares.iloc[0]:.3f}"
    click.echo(f"For comparison: {most}.")

    if len(split.y_test) < 100 or tested.min() < 20:
        few = f"{len(split.y_test)} test rows, {tested.min()} of class {tested.idxmin()!r}, are few: "
        warn(f"{few}the metrics depend on chance. A larger test_size helps, or more rows.")
    one, other = (
        pd.util.hash_pandas_object(X.assign(**{split.target: y}), index=False)
        for X, y in ((split.X_train, split.y_train), (split.X_test, split.y_test))
    )
    twins = int(other.isin(one).sum())
    if twins > len(other) / 100:
        why = (
            "If they are copies, remove them from the table: a model that knows them by heart looks better than it is."
        )
        warn(f"{twins:,} of the {len(other):,} test rows are equal to a training row. {why}")


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"Warning: {text}", err=True)


def infer_columns(frame: pd.DataFrame) -> Columns:
    """Tell numeric, categorical and boolean columns apart, and leave out those that nothing can be learned from."""
    columns = Columns()
    for name in frame.columns:
        values = frame[name]
        distinct = values.nunique()
        if distinct == 0:
            columns.ignored[name] = "is empty"
        elif distinct == 1 and not values.isna().any():
            columns.ignored[name] = f"is constant ({values.iloc[0]!r})"
        elif pd.api.types.is_bool_dtype(values) or set(values.dropna().map(type)) == {bool}:
            columns.boolean.append(name)
        elif pd.api.types.is_numeric_dtype(values):
            if _numbers_rows(values):
                columns.ignored[name] = f"looks like an identifier ({distinct} distinct integers in as many rows)"
            else:
                columns.numeric.append(name)
        elif pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
            columns.ignored[name] = "holds dates"
        elif distinct > max(50, len(values) // 2):
            columns.ignored[name] = f"looks like an identifier or free text ({distinct} distinct values)"
        else:
            columns.categorical.append(name)
    return columns


def as_features(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The features with one type a kind, so that the model's signature takes missing values and whole numbers alike."""
    features: dict[str, pd.Series] = {name: frame[name].astype("float64") for name in columns.numeric}
    for name in columns.categorical:
        text = frame[name].map(str, na_action="ignore").astype(object)
        features[name] = text.where(frame[name].notna(), np.nan)
    for name in columns.boolean:
        missing = frame[name].isna()
        features[name] = frame[name].astype(object).where(~missing, None) if missing.any() else frame[name].astype(bool)
    return pd.DataFrame(features)


def with_preprocessing(classifier: BaseEstimator, columns: Columns) -> Pipeline:
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
            ("numbers", numbers, columns.numeric),
            ("categories", categories, columns.categorical + columns.boolean),
        ],
        # Many categories are mostly zeros. Of the classifiers, only this one is faster when they are not written down.
        sparse_threshold=0.3 if isinstance(classifier, LogisticRegression) else 0,
    )
    return Pipeline([("preprocessing", preprocessing), ("classifier", classifier)])


def _numbers_rows(values: pd.Series) -> bool:
    """Whether integers name the rows: each stands once, and they are consecutive or large (account numbers)."""
    if not pd.api.types.is_integer_dtype(values) or values.nunique() < len(values) or len(values) < 20:
        return False
    return bool((values.diff().dropna() == 1).all() or values.min() >= 10_000)


def _check_target(y: pd.Series, test_size: float) -> pd.Series:
    name = str(y.name)
    missing = int(y.isna().sum())
    if missing:
        raise bad("target", name, f"has {missing} missing values: every row needs a class.")
    if not pd.api.types.is_numeric_dtype(y):
        y = y.astype(str).astype(object)
    elif type_of_target(y) == "continuous":
        raise bad("target", name, f"is continuous ({y.nunique()} distinct numbers): a class is text or an integer.")
    elif not pd.api.types.is_bool_dtype(y):
        y = y.astype("int64")
    counts = y.value_counts()
    if len(counts) == 1:
        raise bad("target", name, f"has the one class {counts.index[0]!r}: at least two are needed.")
    needed = int(np.ceil(max(1 / test_size, ROWS_PER_CLASS / (1 - test_size))))
    if counts.min() < needed:
        raise bad(
            "target",
            name,
            f"has {counts.min()} rows of class {counts.idxmin()!r}: test_size={test_size} needs {needed} a class.",
        )
    return y


def _positive_class(y: pd.Series, classes: list[object], positive: str) -> object | None:
    if len(classes) > 2:
        if positive:
            raise bad("positive", positive, f"needs a target with two classes; this one has {len(classes)}.")
        return None
    if positive:
        for label in classes:
            if str(label) == positive:
                return label
        raise bad("positive", positive, f"is not a class of the target; it has: {', '.join(map(str, classes))}.")
    for label in classes:
        if str(label).lower() in ("yes", "true", "1"):
            return label
    return y.value_counts().idxmin()
