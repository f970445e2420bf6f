"""What is said of the segments rests on enough rows, and is written as the user wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import COLLECTION, module

describe = module("clustering", "describe")

Fitted = Callable[..., tuple[Any, Any]]


def three_groups(sizes: tuple[int, int, int] = (150, 78, 72), **more: Any) -> pd.DataFrame:
    """Rows that fall into three segments by x, largest first, and more columns."""
    generator = np.random.default_rng(0)
    x = np.concatenate([centre + generator.normal(size=size) for centre, size in zip((0, 40, 80), sizes, strict=True)])
    return pd.DataFrame({"x": x, "y": generator.normal(size=len(x)), **more})


def described(fitted: Fitted, frame: pd.DataFrame, n_clusters: int = 3, **parameters: Any) -> Any:
    table, clustering = fitted(frame, n_clusters, **{"columns": "x", "drop": "y", **parameters})
    return describe.profile(table, clustering, [*table.columns.fitted, *table.columns.described])


def test_a_profile_is_what_a_groupby_finds(fitted: Fitted) -> None:
    churn = pd.read_csv(COLLECTION / "classification" / "data" / "churn.csv")
    table, clustering = fitted(churn, 4, profile="churn")
    found = describe.profile_table(describe.profile(table, clustering, ["tenure", "monthly_charges", "churn"]))
    labels = clustering.pipeline.predict(churn[["tenure", "monthly_charges"]].astype(float))
    assert found["segment"].tolist() == [0, 1, 2, 3, "all"]
    assert found["size"].tolist() == [2204, 1952, 1732, 1155, 7043]
    means = [*churn.groupby(labels)["tenure"].mean(), churn["tenure"].mean()]
    assert found["mean tenure"].tolist() == pytest.approx(means)
    assert found["share churn = Yes"].round(2).tolist() == [0.49, 0.16, 0.25, 0.05, 0.27]
    assert found["name"].tolist()[:2] == ["low tenure, high monthly_charges", "high tenure, high monthly_charges"]
    text = describe.summary(describe.profile(table, clustering, ["tenure", "monthly_charges", "churn"]), "")
    assert "| 0 | 2,204 | 31.3% | 14.8 | 81.2 | 49% |" in text


@pytest.mark.parametrize(
    ("column", "rare", "usual"),
    [
        ("colour", "teal", "blue"),  # a category that one row has
        ("bonus", 9_000.0, np.nan),  # a mean of one value
        ("amount", 1e9, 1.0),  # a mean that one value makes
    ],
)
def test_one_row_makes_no_headline(fitted: Fitted, column: str, rare: Any, usual: Any) -> None:
    values = np.array([usual] * 300, dtype=object)
    values[[3, 4]] = (usual if usual is not np.nan else 1.0), ("green" if column == "colour" else usual)
    values[155] = rare
    found = described(fitted, three_groups((150, 10, 140)).assign(**{column: values}), profile=column)
    segment = found.sizes.index(10)
    assert found.differences[segment].abs().max() >= describe.NOTABLE
    assert not [words for words in describe.what_sets_apart(found, segment) if column in words]


def test_what_many_rows_share_is_a_headline(fitted: Fitted) -> None:
    kind = np.where(np.arange(300) < 150, "a", np.where(np.arange(300) < 228, "b", "c"))
    found = described(fitted, three_groups(kind=kind), profile="kind")
    assert "kind = b 100% (all: 26%)" in describe.what_sets_apart(found, 1)
    assert (found.names[0], found.names[2]) == ("low x", "high x")


def test_a_segment_of_two_rows_is_not_described(fitted: Fitted) -> None:
    found = described(fitted, three_groups((150, 148, 2)))
    assert found.names[2] == "too few rows to describe"
    assert describe.what_sets_apart(found, 2) == []


def test_a_segment_of_less_than_one_percent_is_pointed_out(fitted: Fitted) -> None:
    [warning] = describe.advice(*fitted(three_groups((150, 148, 2)), 3, columns="x"))
    assert warning.startswith("Warning: the smallest segment holds 2 of 300 rows (0.67%)")
    assert describe.advice(*fitted(three_groups((150, 146, 4)), 3, columns="x")) == []


def test_a_column_that_a_few_values_dominate_gets_a_hint(fitted: Fitted) -> None:
    frame = three_groups()
    frame["spent"] = np.exp(2 * np.random.default_rng(1).normal(size=300))
    [hint] = [line for line in describe.advice(*fitted(frame, 2, columns="")) if line.startswith("Hint")]
    assert "'spent'" in hint
    assert "-P log_columns=spent" in hint
    assert not [line for line in describe.advice(*fitted(frame, 2, columns="", log_columns="spent")) if "Hint" in line]
    rare = frame.assign(spent=(np.arange(300) % 50 == 0).astype(float))  # a logarithm changes nothing
    assert not [line for line in describe.advice(*fitted(rare, 2, columns="")) if "Hint" in line]
