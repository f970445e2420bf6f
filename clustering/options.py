"""The parameters that `main` and `kmeans` both take: which table, which columns, how to fit and how to score."""

from __future__ import annotations

from typing import Any

import click

from support.entry_point import FiniteRange

COUNT = click.IntRange(min=1)

OPTIONS = [
    click.option("--data", default="data/customers.csv", help="Path or URL of a CSV or Parquet file."),
    click.option("--columns", default="tenure,monthly_charges", help="Columns to fit on; empty for all."),
    click.option("--drop", default="", help="Columns to ignore."),
    click.option("--profile", default="", help="Columns to describe by, not to fit on; empty for all others, or none."),
    click.option("--log_columns", default="", help="Columns to take the logarithm of, as log(1 + x)."),
    click.option("--categories", type=click.Choice(["refuse", "onehot"]), default="refuse", help="Columns of text."),
    click.option("--missing", type=click.Choice(["refuse", "impute"]), default="refuse", help="Missing values."),
    click.option("--kinds", default="", help="What columns hold, where you know better: zip:category."),
    click.option("--missing_values", default="", help="Texts that stand for a missing value."),
    click.option("--axes", default="", help="Two columns to draw the segments on; empty for the best plane."),
    click.option("--engine", type=click.Choice(["local", "minibatch", "spark"]), default="local"),
    click.option("--algorithm", type=click.Choice(["lloyd", "elkan"]), default="lloyd"),
    click.option("--n_init", type=COUNT, default=10, help="Initialisations to try; the best is kept."),
    click.option("--max_iter", type=COUNT, default=300, help="Iterations; with minibatch, passes over the table."),
    click.option("--tol", type=FiniteRange(min=0), default=1e-4),
    click.option("--batch_size", type=COUNT, default=100_000, help="With minibatch: rows in memory at a time."),
    click.option("--init_size", type=click.IntRange(min=100), default=100_000, help="Rows of the sample to scale by."),
    click.option("--sample_size", type=click.IntRange(min=100), default=10_000, help="Rows for silhouettes."),
    click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0),
]


def fitting_options(command: Any) -> Any:
    """Give a command the options above, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
