"""Bad input ends with one line that names parameter, value and what would be right, before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import pytest
from examples import module
from sklearn.linear_model import LogisticRegression

fit = module("clustering", "fit").fit
sweep = module("clustering", "sweep").sweep
predict = module("clustering", "predict")


def table(rows: int = 40, **changed: list) -> pd.DataFrame:
    """Good rows, with columns changed or added."""
    columns = {
        "tenure": [number % 9 for number in range(rows)],
        "monthly_charges": [number % 7 for number in range(rows)],
    }
    return pd.DataFrame({**columns, **changed})


# Name of the case -> the file, made from the path it is to have.
FILES: dict[str, Callable[[Path], object]] = {
    "good": lambda path: table().to_csv(path, index=False),
    "comma": lambda path: table().assign(**{"a, b": [1, 2] * 20}).to_csv(path, index=False),
    "constant": lambda path: table(tenure=[3] * 40).to_csv(path, index=False),
    "hollow": lambda path: table(tenure=[None] * 40).to_csv(path, index=False),
    "missing": lambda path: table(tenure=[None, 1, 2, 3] * 10).to_csv(path, index=False),
    "marked": lambda path: table(tenure=["?", *np.arange(39) / 2]).to_csv(path, index=False),
    "negative": lambda path: table(tenure=[-1.5, *np.arange(39) / 2]).to_csv(path, index=False),
    "few": lambda path: table(tenure=[1, 2] * 20, monthly_charges=[1, 1, 2, 2] * 10).to_csv(path, index=False),
    "three": lambda path: table(rows=3).to_csv(path, index=False),
    "text": lambda path: table(contract=["a", "b"] * 20).to_csv(path, index=False),
    "texts": lambda path: table(200, contract=[f"n{row // 3}" for row in range(200)]).to_csv(path, index=False),
    "dates": lambda path: table(since=pd.date_range("2026-01-01", periods=40).tolist()).to_parquet(path, index=False),
    "late": lambda path: table(2000, tenure=[*(np.arange(1999) / 2), None]).to_parquet(
        path, index=False, row_group_size=500
    ),
}

STREAMED = ["--engine", "minibatch", "--batch_size", "500", "--init_size", "100"]

FITTING: list[tuple[str, list[str], str]] = [
    ("", ["--data", "nowhere.csv"], "'nowhere.csv' does not exist (a relative path starts in the project's"),
    ("good", ["--columns", "tenuer"], "'tenuer' is not a column of the table; it has: tenure, monthly_charges."),
    ("good", ["--drop", "x y"], "'x y' is not a column of the table; it has: tenure, monthly_charges."),
    ("comma", ["--drop", "a"], "'a' is not a column of the table; it has: tenure, monthly_charges, a, b (a name with"),
    ("good", ["--profile", "churn"], "'churn' is not a column of the table"),
    ("good", ["--log_columns", "log"], "'log' is not a column of the table"),
    ("good", ["--kinds", "tenure:whole"], "'whole' is no kind for column 'tenure': number, "),
    ("good", ["--axes", "tenure"], "'tenure' must be two of the columns of numbers: tenure, monthly_charges."),
    ("good", ["--drop", "tenure,monthly_charges"], "has no column to fit on."),
    ("text", ["--columns", "tenure,contract"], "'contract' holds text: give -P categories=onehot to fit on it, -P pro"),
    ("text", ["--log_columns", "contract"], "'contract' is not one of the columns of numbers to fit on."),
    (
        "texts",
        ["--columns", "", "--categories", "onehot"],
        "'contract' holds 67 different texts, too many to encode: give -P drop=contract.",
    ),
    ("dates", ["--columns", "tenure,since"], "'since' holds dates: leave it out."),
    ("constant", [], "'tenure' is constant ('3'): leave it out."),
    ("hollow", [], "'tenure' is empty: leave it out."),
    (
        "marked",
        [],
        "'?' in column 'tenure', row 1, is no number, as 39 of 40 values are: give -P missing_values='?' if it stands "
        "for a missing value, or -P kinds=tenure:category to take them as categories.",
    ),
    (
        "marked",
        ["--missing_values", "?"],
        "'tenure' has 1 missing values in 40 rows: give -P missing=impute to fill in",
    ),
    ("missing", [], "'tenure' has 10 missing values in 40 rows: give -P missing=impute to fill in the median"),
    ("late", STREAMED, "'tenure' has 1 missing values in 2,000 rows: give -P missing=impute"),
    ("negative", ["--log_columns", "tenure"], "'tenure' has 1 values of -1 or less, which log(1 + x)"),
    ("few", ["--n_clusters", "5"], "'5' is more than the 4 distinct rows of the columns to fit on."),
    ("three", ["--n_clusters", "3"], "'3' is too many for 3 rows: a segment needs several."),
    ("good", ["--n_clusters", "1"], "1 is not in the range x>=2."),
    ("good", ["--n_clusters", "four"], "'four' is not a valid integer range."),
    ("good", ["--n_init", "0"], "0 is not in the range x>=1."),
    ("good", ["--tol", "nan"], "'nan' is not a finite number."),
    ("good", ["--random_state", "-1"], "-1 is not in the range"),
    ("good", ["--engine", "dask"], "'dask' is not one of 'local', 'minibatch', 'spark'"),
    ("good", ["--algorithm", "minibatch"], "'minibatch' is not one of 'lloyd', 'elkan'."),
    ("good", ["--engine", "spark", "--algorithm", "elkan"], "'elkan' is not an algorithm of Spark: leave it out"),
    ("good", ["--missing", "ignore"], "'ignore' is not one of 'refuse', 'impute'."),
    ("good", ["--n_cluster", "3"], "No such option '--n_cluster'"),
    ("good", ["sweep", "--k_min", "6", "--k_max", "3"], "'6' is more than k_max=3."),
    ("few", ["sweep"], "'20' is more than the 4 distinct rows of the columns to fit on."),
    ("good", ["sweep", "--choose", "gap"], "'gap' is not one of 'silhouette', 'davies_bouldin'"),
]


@pytest.mark.parametrize(("file", "arguments", "message"), FITTING, ids=[f"{case[0]}{case[1]}" for case in FITTING])
def test_fitting_refuses(
    file: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "start_run", lambda *_, **__: pytest.fail("a refusal begins no run"))
    command = sweep if arguments[:1] == ["sweep"] else fit
    given = [argument for argument in arguments if argument != "sweep"]
    if file:
        FILES[file](tmp_path / file)
        given += ["--data", str(tmp_path / file)]
    with pytest.raises(click.UsageError) as refused:
        command.main(given, standalone_mode=False)
    assert message in refused.value.format_message()


@pytest.fixture
def model(fitted: Callable[..., tuple[Any, Any]], tmp_path: Path) -> Callable[..., Any]:
    """The model of a fit, as `predict` loads it."""

    def model(frame: pd.DataFrame, **parameters: Any) -> Any:
        table, clustering = fitted(frame, 2, **parameters)
        example = table.frame[table.columns.fitted].head(2)
        signature = mlflow.models.ModelSignature(table.columns.schema)
        path = str(tmp_path / "model")
        mlflow.sklearn.save_model(
            clustering.pipeline,
            path,
            signature=signature,
            input_example=example,
            pip_requirements=[],
            skops_trusted_types=["numpy.dtype"],
        )
        return predict.SegmentModel(path)

    return model


def test_assigning_refuses_a_missing_value_and_says_where(model: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"tenure": [1.0, np.nan], "contract": ["a", "b"]})
    columns = {"columns": "tenure,contract", "categories": "onehot"}
    refusing = model(table(contract=["a", "b"] * 20), **columns)
    with pytest.raises(click.BadParameter, match="'nan' in column 'tenure', row 8, is missing: fit the model with"):
        refusing.add(rows, first_row=7)
    with pytest.raises(click.BadParameter, match="in column 'contract', row 1, is missing"):
        refusing.add(rows.assign(tenure=[1.0, 2.0], contract=[np.nan, "a"]))


def test_a_model_that_imputes_takes_missing_values(model: Callable[..., Any]) -> None:
    added = model(table(), missing="impute").add(pd.DataFrame({"tenure": [np.nan], "monthly_charges": [np.nan]}))
    assert added["segment"].isin([0, 1]).all()


def test_assigning_refuses_what_has_no_logarithm(model: Callable[..., Any]) -> None:
    rows = pd.DataFrame({"tenure": [1.0, -2.0], "monthly_charges": [1.0, 1.0]})
    with pytest.raises(click.BadParameter, match=r"'-2.0' in column 'tenure', row 2, has no logarithm"):
        model(table(), log_columns="tenure").add(rows)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    rows = table().astype(float)
    other = LogisticRegression().fit(rows, rows["tenure"] > 4)
    mlflow.sklearn.save_model(other, tmp_path / "model", input_example=rows, pip_requirements=[])
    with pytest.raises(click.BadParameter, match="is not a Pipeline that ends in K-Means"):
        predict.SegmentModel(str(tmp_path / "model"))
    with pytest.raises(click.BadParameter, match="'/nowhere' cannot be loaded: "):
        predict.SegmentModel("/nowhere")
