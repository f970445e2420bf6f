"""Turn a churn-like table into what a classifier learns from: features by kind, a target with classes, and a split."""

from __future__ import annotations

from dataclasses import dataclass, field

import click
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import type_of_target

from support.table import absolute, bad, read_table

# Rows of each class that the training part must keep: the SVM calibrates its probabilities by 3-fold cross-validation.
ROWS_PER_CLASS = 3


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
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    columns: Columns
    classes: list[object]
    positive: object | None
    target: str
    source: str


def load_split(data: str, target: str, positive: str, drop: str, test_size: float, random_state: int) -> Split:
    """Read a table, check it, and split it with the classes in equal shares.

    data: path or URL of a CSV or Parquet file.
    target: the column that holds the classes.
    positive: the positive one of two classes; empty for yes, true or 1, else the rarer one.
    drop: columns to ignore, comma-separated.
    test_size: share of the rows to test on, between 0 and 1.
    random_state: seed of the split.

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

    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=test_size, random_state=random_state, stratify=y
    )
    classes = sorted(y.unique().tolist())
    chosen = _positive_class(y, classes, positive)
    return Split(X_train, X_test, y_train, y_test, columns, classes, chosen, target, absolute(data))


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

    A missing category is a category of its own; one never seen in training encodes as none of the known ones.
    """
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    preprocessing = ColumnTransformer(
        [
            ("numbers", numbers, columns.numeric),
            ("categories", categories, columns.categorical + columns.boolean),
        ]
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
