"""The parameters that `main` and `kmeans` both take: which table, which columns, how to fit and how to score."""

from __future__ import annotations

import click

from support.entry_point import FiniteRange
from support.language import LANGUAGE
from support.parameters import option

COUNT = click.IntRange(min=1)

FITTING_OPTIONS = [
    option("data", default="data/customers.csv", help="Path or URL of a CSV or Parquet file."),
    option("columns", default="tenure,monthly_charges", help="Columns to fit on; empty for all."),
    option("drop", help="Columns to ignore."),
    option("profile", help="Columns to describe by, not to fit on; empty for all others, or none."),
    option("log_columns", help="Columns to take the logarithm of, as log(1 + x)."),
    option("categories", click.Choice(["refuse", "onehot"]), "refuse", "Columns of text."),
    option("missing", click.Choice(["refuse", "impute"]), "refuse", "Missing values."),
    option("kinds", help="What columns hold, where you know better: zip:category."),
    option("missing_values", help="Texts that stand for a missing value."),
    option("axes", help="Two columns to draw the segments on; empty for the best plane."),
    option("engine", click.Choice(["local", "minibatch", "spark"]), "local"),
    option("algorithm", click.Choice(["lloyd", "elkan"]), "lloyd"),
    option("n_init", COUNT, 10, "Initialisations to try; the best is kept."),
    option("max_iter", COUNT, 300, "Iterations; with minibatch, passes over the table."),
    option("tol", FiniteRange(min=0), 1e-4),
    option("batch_size", COUNT, 100_000, "With minibatch: rows in memory at a time."),
    option("init_size", click.IntRange(min=100), 100_000, "Rows of the sample to scale by."),
    option("sample_size", click.IntRange(min=100), 10_000, "Rows for silhouettes."),
    option("random_state", click.IntRange(0, 2**32 - 1), 0),
    LANGUAGE,
]
