"""What a classifier learns from a table: which columns, which classes, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import module

features = module("classification", "features")
CHURN = Path(features.__file__).parent / "data" / "churn.csv"


def load(path: Path, **given: str) -> Any:
    usual = {"target": "left", "positive": "", "drop": "", "kinds": "", "missing_values": ""}
    return features.load_split(str(path), **{**usual, **given}, test_size=0.25, random_state=0)


def table(tmp_path: Path, rows: int = 200, **columns: object) -> Path:
    """Rows with a number and a target, and other columns."""
    usual = {"amount": [number % 9 for number in range(rows)], "left": (["no", "yes", "no"] * rows)[:rows]}
    pd.DataFrame({**usual, **columns}).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_columns_are_learnt_by_kind_and_useless_ones_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(
        tmp_path,
        row_number=range(200),
        holder=np.random.default_rng(0).choice(range(10_000_000, 99_999_999, 7), 200, replace=False),
        country="FR",
        member=[number % 3 == 0 for number in range(200)],
        joined=pd.date_range("2020-01-01", periods=200).astype(str),
    )
    split = load(path)
    assert {name: kind.kind for name, kind in split.kinds.items()} == {"amount": "number", "member": "boolean"}
    said = capsys.readouterr().err
    for name, reason in {
        "row_number": "identifier",
        "holder": "identifier",
        "country": "constant",
        "joined": "dates",
    }.items():
        [line] = [line for line in said.splitlines() if f"{name!r}" in line]
        assert reason in line
        assert "left out" in line


def test_the_positive_class_and_its_share_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    features.load_split(str(CHURN), "churn", "", "", "", "", 0.25, 0)
    printed = capsys.readouterr()
    assert "Positive class of churn: Yes, 26.5% of the rows." in printed.out
    assert "always answering No has an accuracy of 0.735" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("classes", "positive", "expected"),
    [
        (["no", "yes", "no"], "", "yes"),
        (["no", "yes", "no"], "no", "no"),
        ([0, 1, 1], "", 1),
        ([2, 1, 1], "", 1),
        (["good", "bad", "good"], "", "bad"),  # the rarer one
        ([True, False, False], "", True),
        (["a", "b", "c"], "", None),
    ],
)
def test_positive_class(classes: list, positive: str, expected: object, tmp_path: Path) -> None:
    split = load(table(tmp_path, left=(classes * 200)[:200]), positive=positive)
    assert split.positive == expected
    assert len(split.counted) == (1 if expected is not None else 3)


def test_an_amount_as_the_target_is_doubted_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = load(table(tmp_path, left=[row % 25 for row in range(200)]))
    asked = "left has 25 different integers, and each is a class. Is it an amount?"
    assert asked in capsys.readouterr().err
    none_found = SimpleNamespace(predicted=np.full(50, -1), metrics={"roc_auc": 0.5})
    warnings = module("classification", "report").cautions({"knn": none_found}, split)
    [missed] = [text for text in warnings if "no row of class" in text]
    assert missed.startswith("knn: no row of class 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... is found, its recall is 0.")


def test_few_test_rows_and_twins_across_the_split_are_said(tmp_path: Path) -> None:
    cautions = module("classification", "report").cautions
    few, twins, *_ = cautions({}, load(table(tmp_path)))
    assert few.startswith("50 test rows, 17 of class 'yes', are few")
    assert twins.startswith("50 of the 50 test rows are equal to a training row.")
    assert cautions({}, load(table(tmp_path, rows=800, amount=np.random.default_rng(0).random(800)))) == []


def test_many_categories_take_bounded_memory_and_rare_ones_share_a_column(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    merchants = np.r_[[f"M{number}" for number in random.integers(0, 20_000, 59_000)], ["big"] * 1000]
    split = load(table(tmp_path, rows=60_000, merchant=merchants))
    tree = module("classification", "classifiers").build("decision_tree", {}, 0)
    model = features.with_preprocessing(tree, split.kinds).fit(split.X_train, split.y_train)
    inputs = model[:-1].transform(split.X_train.head(100))
    assert inputs.shape == (100, 1 + features.MAX_CATEGORIES)
    strange = split.X_train.head(1).assign(merchant="never seen")
    assert model[:-1].transform(strange)[0, 1:].sum() == 1  # it counts as one of the rare


def test_names_are_given_exactly_or_without_outer_spaces_or_as_a_list(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"age, years": [number % 7 for number in range(200)], "city ": ["x", "y"] * 100}
    path = table(tmp_path, **columns)
    assert "age, years" not in load(path, drop='["age, years"]').kinds
    assert list(load(path, drop="age, years").kinds) == ["amount", "city "]
    assert "city " not in load(path, drop="city").kinds
