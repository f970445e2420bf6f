# Copied by `make vendor` from support/cautions.py of the collection: edit that, or this in your own copy.
"""What to know of a split before believing in what a model reaches on its test rows, and what to do about it."""

from __future__ import annotations

import pandas as pd

from support.language import tr
from support.texts import shown


def about_split(train: pd.DataFrame, test: pd.DataFrame, classes: pd.Series | None = None) -> list[str]:
    """Say where test rows are few, or equal to training rows.

    train, test: the rows of each part, with all columns. classes: those of the test rows, where the target has any.
    """
    found, counts = [], None if classes is None else classes.value_counts()
    if counts is None and len(test) < 100:
        few = "{tested} test rows are few: the metrics depend on chance. A larger test_size helps, or more rows."
        found.append(tr(few, tested=len(test)))
    elif counts is not None and (len(test) < 100 or counts.min() < 20):
        few = (
            "{tested:,} test rows, {fewest:,} of class {label}, are few: the metrics depend on chance. "
            "A larger test_size helps, or more rows."
        )
        found.append(tr(few, tested=len(test), fewest=counts.min(), label=shown(counts.idxmin())))
    one, other = (pd.util.hash_pandas_object(part, index=False) for part in (train, test))
    if (twins := int(other.isin(one).sum())) > len(other) / 100:
        copies = (
            "{twins:,} of the {tested:,} test rows are equal to a training row. If they are copies, remove them from "
            "the table: a model that knows them by heart looks better than it is."
        )
        found.append(tr(copies, twins=twins, tested=len(other)))
    return found
