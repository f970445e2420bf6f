"""What is said of a split before anything is fitted on it: few test rows, and copies of training rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from support.cautions import about_split


def rows(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"x": random.random(count), "self": random.choice(["a", "b"], count)})


def test_enough_rows_that_are_all_new_are_nothing_to_speak_of() -> None:
    train, test = rows(300, 0), rows(100, 1)
    assert about_split(train, test) == []
    assert about_split(train, test, test["self"]) == []


def test_few_rows_are_said_with_the_rarest_class_where_there_are_classes() -> None:
    [amounts] = about_split(rows(300, 0), rows(99, 1))
    assert amounts.startswith("99 test rows are few:")
    classes = pd.Series(["a"] * 81 + ["b"] * 19)
    [of_classes] = about_split(rows(300, 0), rows(100, 1), classes)
    assert of_classes.startswith("100 test rows, 19 of class 'b', are few:")


def test_copies_of_training_rows_are_counted() -> None:
    train = rows(300, 0)
    test = pd.concat([rows(98, 1), train.head(2)])
    [copies] = about_split(train, test)
    assert copies.startswith("2 of the 100 test rows are equal to a training row.")
    assert about_split(train, pd.concat([rows(99, 1), train.head(1)])) == []  # one in a hundred may be chance
