"""Turn a table into what a classifier learns from: features by kind, a target with classes, and a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import PandasDataset
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from support.datasets import as_dataset
from support.entry_point import FiniteRange
from support.inputs import read_table
from support.kinds import Kind, named
from support.language import tr, warn
from support.parameters import option
from support.table import absolute, bad, short_name
from support.texts import shown

ROWS_PER_CLASS = 3  # that the training part must keep: the SVM calibrates its probabilities on three folds
MANY_CLASSES = 20  # more different integers than this are amounts, as a rule
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


@dataclass(frozen=True, eq=False)
class Split:
    """A table divided for training and testing.

    X_train, X_test: features as raw columns: float64, text (object) or boolean, missing values as NaN or None.
    y_train, y_test: classes as the table writes them; classes: all of them, sorted.
    positive: the class whose probability is scored, None with more than two classes.
    kinds: for each column of X what it is: a number, a category or a boolean, and how it is written in the table.
    source: path or URL of the table; train, test: its rows as MLflow datasets, with source and digest.
    random_state: seed of the split, and of all that comes after it.
    """

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    classes: list[Any]
    positive: Any | None
    kinds: dict[str, Kind]
    target: str
    source: str
    train: PandasDataset
    test: PandasDataset
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
    rows, decided = read_table(data, target, drop, kinds, missing_values)
    *columns, target = decided  # the features, then the target under its full name
    rows[target] = y = _classes_of(rows[target], decided[target], test_size)
    classes = sorted(y.unique().tolist())
    train, test = train_test_split(rows, test_size=test_size, random_state=random_state, stratify=y)
    split = Split(
        X_train=train[columns],
        X_test=test[columns],
        y_train=train[target],
        y_test=test[target],
        classes=classes,
        positive=_positive_class(y, classes, positive),
        kinds={name: decided[name] for name in columns},
        target=target,
        source=absolute(data),
        train=as_dataset(train, data, f"{short_name(data)}_train", targets=target),
        test=as_dataset(test, data, f"{short_name(data)}_test", targets=target),
        random_state=random_state,
    )
    _say(split)
    return split


def _classes_of(y: pd.Series, kind: Kind, test_size: float) -> pd.Series:
    """The classes of the rows: text, integers or booleans. Raises click.BadParameter where they are none."""
    name = str(y.name)
    if missing := int(y.isna().sum()):
        raise bad("target", name, f"has {missing} missing values: every row needs a class.")
    if kind.kind == "number":
        if (y % 1).any():
            right = f"is continuous ({y.nunique()} distinct numbers): a class is text or an integer."
            raise bad("target", name, f"{right} kinds={named(name, 'category')} makes each number a class.")
        y = y.astype("int64")
    counts = y.value_counts()
    if kind.kind == "number" and len(counts) > MANY_CLASSES:
        integers = "{name} has {count} different integers, and each is a class. Is it an amount?"
        warn(tr(integers, name=name, count=len(counts)))
    rarest, fewest = shown(counts.idxmin()), counts.min()
    if len(counts) == 1:
        raise bad("target", name, f"has the one class {rarest}: at least two are needed.")
    needed = int(np.ceil(max(1 / test_size, ROWS_PER_CLASS / (1 - test_size))))
    if fewest < needed:
        raise bad("target", name, f"has {fewest} rows of class {rarest}: test_size={test_size} needs {needed} a class.")
    return y


def _positive_class(y: pd.Series, classes: list[Any], positive: str) -> Any | None:
    """The class that is asked for, or else the one called yes, true or 1, or else the rarer one."""
    if positive:
        for label in classes if len(classes) == 2 else []:
            if str(label) == positive:
                return label
        raise bad("positive", positive, f"is not one of two classes; the target has: {', '.join(map(str, classes))}.")
    if len(classes) > 2:
        return None
    named = [label for label in classes if str(label).lower() in ("yes", "true", "1")]
    return named[0] if named else y.value_counts().idxmin()


def _say(split: Split) -> None:
    """Print what is learnt, and what an answer without any learning reaches."""
    shares = pd.concat([split.y_train, split.y_test]).value_counts(normalize=True).to_dict()  # the largest first
    rows, tested = len(split.y_train) + len(split.y_test), len(split.y_test)
    read = "{rows:,} rows, {columns} columns to learn from; {tested:,} of the rows are kept for the test."
    click.echo(tr(read, rows=rows, columns=len(split.kinds), tested=tested))
    if split.positive is None:
        listed = [tr("{label} {share:.1%}", label=label, share=share) for label, share in shares.items()]
        some = ", ".join(listed[:10]) + " ..." * (len(listed) > 10)
        click.echo(tr("{count} classes of {target}: {listed}", count=len(listed), target=split.target, listed=some))
    else:
        found = {"target": split.target, "positive": str(split.positive), "share": shares[split.positive]}
        click.echo(tr("Positive class of {target}: {positive}, {share:.1%} of the rows.", **found))
    always = "For comparison: always answering {label} has an accuracy of {share:.3f}."
    label = max(shares, key=lambda each: shares[each])
    click.echo(tr(always, label=str(label), share=shares[label]))


def with_preprocessing(classifier: BaseEstimator, kinds: dict[str, Kind]) -> Pipeline:
    """A Pipeline that imputes and scales numbers and one-hot encodes categories before the classifier.

    A missing category is a category of its own. Of one column the most frequent categories have a column each, the
    others, and those that occur once, share one; one never seen in training counts as one of these.
    """
    numbers = [name for name, kind in kinds.items() if kind.kind == "number"]
    others = [name for name in kinds if name not in numbers]
    rare = {"max_categories": MAX_CATEGORIES, "min_frequency": 2, "handle_unknown": "infrequent_if_exist"}
    preprocessing = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("categories", OneHotEncoder(**rare), others),
        ],
        # Many categories are mostly zeros. Of the classifiers, only this one is faster with a sparse matrix.
        sparse_threshold=0.3 if isinstance(classifier, LogisticRegression) else 0,
    )
    return Pipeline([("preprocessing", preprocessing), ("classifier", classifier)])
