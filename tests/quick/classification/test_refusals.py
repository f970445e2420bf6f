"""A mistake ends with one line that names the parameter, the value and what would be right, before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import mlflow
import pandas as pd
import pytest
from examples import module

train, compare, tune = (module("classification", name) for name in ("train", "compare", "tune"))


def table(**changed: list) -> pd.DataFrame:
    """Forty good rows, with columns changed or added."""
    columns = {"amount": [number % 9 for number in range(40)], "churn": ["Yes", "No"] * 20}
    return pd.DataFrame({**columns, **changed})


# Name of the case -> the file, made from the path that it is to have.
FILES: dict[str, Callable[[Path], object]] = {
    "header": lambda path: path.write_text("amount,churn\n"),
    "one_class": lambda path: table(churn=["Yes"] * 40).to_csv(path, index=False),
    "missing_target": lambda path: table(churn=["Yes", "No", None, "No"] * 10).to_csv(path, index=False),
    "continuous": lambda path: table(churn=[number / 7 for number in range(40)]).to_csv(path, index=False),
    "rare_class": lambda path: table(churn=["Yes"] * 38 + ["No"] * 2).to_csv(path, index=False),
    "five": lambda path: table(churn=["Yes"] * 35 + ["No"] * 5).to_csv(path, index=False),
    "nothing_to_learn": lambda path: table(amount=[1] * 40).to_csv(path, index=False),
    "three_classes": lambda path: table(churn=(["a", "b", "c"] * 14)[:40]).to_csv(path, index=False),
    "question": lambda path: table(amount=["?", *range(39)]).to_csv(path, index=False),
    "good": lambda path: table().to_csv(path, index=False),
}
# The entry point (a classifier, or compare, or tune), the file, the other arguments, and the line.
REFUSED: list[tuple[str, str, list[str], str]] = [
    ("knn", "", ["--data", "nowhere.csv"], "'--data': 'nowhere.csv' does not exist (a relative path starts in the"),
    ("knn", "header", [], "has a header but no rows."),
    ("knn", "good", ["--target", "chrun"], "'--target': 'chrun' is not a column of the table; it has: amount, churn."),
    ("knn", "one_class", [], "'--target': 'churn' has the one class 'Yes': at least two are needed."),
    ("knn", "missing_target", [], "'--target': 'churn' has 10 missing values: every row needs a class."),
    ("knn", "continuous", [], "'--target': 'churn' is continuous (40 distinct numbers)"),
    ("knn", "rare_class", [], "'--target': 'churn' has 2 rows of class 'No': test_size=0.25 needs 4 a class."),
    ("knn", "nothing_to_learn", [], "has no column to learn from."),
    (
        "knn",
        "question",
        [],
        "'?' in column 'amount', row 1, is no number, as 39 of 40 values are: give -P missing_values='?' if it stands "
        "for a missing value, or -P kinds=amount:category to take them as categories.",
    ),
    ("knn", "good", ["--kinds", "amount:date_of"], "'--kinds': 'date_of' is no kind for column 'amount': "),
    ("knn", "good", ["--positive", "yes"], "'--positive': 'yes' is not one of two classes; the target has: No, Yes."),
    (
        "knn",
        "three_classes",
        ["--positive", "a"],
        "'--positive': 'a' is not one of two classes; the target has: a, b, c.",
    ),
    ("knn", "good", ["--drop", "amuont"], "'--drop': 'amuont' is not a column of the table; it has: amount, churn."),
    ("knn", "good", ["--drop", "churn"], "'--drop': 'churn' is the target."),
    ("knn", "good", ["--test_size", "half"], "'--test_size': 'half' is not a valid float"),
    ("knn", "good", ["--test_size", "1.5"], "'--test_size': 1.5 is not in the range 0<x<1."),
    ("knn", "good", ["--test_size", "nan"], "'--test_size': 'nan' is not a finite number."),
    ("knn", "good", ["--random_state", "-1"], "'--random_state': -1 is not in the range"),
    ("knn", "good", ["--n_neighbors", "0"], "'--n_neighbors': 0 is not in the range x>=1."),
    ("knn", "good", ["--n_neighbors", "31"], "'--n_neighbors': '31' is more than the 30 training rows."),
    (
        "decision_tree",
        "good",
        ["--max_depth", "deep"],
        "'--max_depth': 'deep' is neither an integer of 1 or more nor none.",
    ),
    ("decision_tree", "good", ["--criterion", "ginny"], "'--criterion': 'ginny' is not one of 'gini', 'entropy'"),
    ("decision_tree", "good", ["--max_deph", "3"], "No such option '--max_deph'. Did you mean '--max_depth'?"),
    ("svm", "good", ["--gamma", "wide"], "'--gamma': 'wide' is neither a number above 0 nor scale nor auto."),
    ("svm", "good", ["--C", "nan"], "'--C': 'nan' is not a finite number."),
    ("svm", "good", ["--class_weight", "half"], "'--class_weight': 'half' is neither balanced nor none."),
    ("knn", "good", ["--threshold", "2"], "'--threshold': '2' is neither a number between 0 and 1, nor f1, nor as"),
    (
        "compare",
        "good",
        ["--models", "knn,svn"],
        "'--models': 'svn' is not a classifier; choose from: ann, decision_tree",
    ),
    ("compare", "good", ["--models", ","], "'--models': ',' is not a classifier; choose from: ann, decision_tree"),
    ("compare", "good", ["--max_depth", "deep"], "'--max_depth': 'deep' is neither an integer of 1 or more nor none."),
    (
        "compare",
        "good",
        ["--models", "knn", "--test_size", "0.5"],
        "'--models': 'knn' asks for 25 neighbours, and there are",
    ),
    (
        "tune",
        "good",
        ["--model", "forest"],
        "'--model': 'forest' is not one of 'all', 'ann', 'decision_tree'",
    ),
    ("tune", "good", ["--metric", "mean"], "'--metric': 'mean' is not one of 'roc_auc', 'average_precision'"),
    ("tune", "good", ["--engine", "dask"], "'--engine': 'dask' is not one of 'local', 'spark'."),
    ("tune", "good", ["--n_trials", "0"], "'--n_trials': 0 is not in the range x>=1."),
    ("tune", "good", ["--timeout", "-1"], "'--timeout': -1.0 is not in the range x>=0."),
    ("tune", "good", ["--cv", "1"], "'--cv': 1 is not in the range 2<=x<=20."),
    ("tune", "five", ["--cv", "5"], "'--cv': '5' does not suit the 4 training rows of class 'No': a fold needs one of"),
    (
        "tune",
        "five",
        ["--cv", "2"],
        "'--cv': '2' does not suit the 4 training rows of class 'No': a fold needs one of them, and 3 outside it to",
    ),
    ("tune", "good", ["--study", "my study"], "'--study': 'my study' is not a name of letters, digits, dots, hyphens"),
]


@pytest.mark.parametrize(
    ("entry_point", "file", "arguments", "line"), REFUSED, ids=[" ".join((e, f, *a)) for e, f, a, _ in REFUSED]
)
def test_refused_in_one_line_before_a_run_begins(
    entry_point: str,
    file: str,
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow, "start_run", lambda **_: pytest.fail("a run has begun"))
    if file:
        FILES[file](tmp_path / "table.csv")
        arguments = ["--data", str(tmp_path / "table.csv"), *arguments]
    command = {"compare": compare.compare, "tune": tune.tune}.get(entry_point, train.train)
    if command is train.train:
        arguments = [entry_point, *arguments]
    with pytest.raises(click.UsageError) as refused:
        command.main(arguments, standalone_mode=False)
    assert line in refused.value.format_message()
    assert refused.value.exit_code == 2
