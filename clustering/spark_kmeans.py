"""Fit K-Means on Spark, with MLlib, and hand the centres over to a Pipeline of scikit-learn, as the other ways do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances

from cluster import Clustering, Options, Sums, as_pipeline, largest_first
from features import (
    Columns,
    Table,
    check_and_keep,
    choose_columns,
    fit_preprocessing,
    input_schema,
    unfit,
)
from support.on_spark import first_rows, one_line, read_on_spark, select, send_modules, spark_session, to_pandas
from support.table import conform

if TYPE_CHECKING:
    from mlflow.types import Schema
    from pyspark.sql import DataFrame

# Rows to tell the kinds of the columns by.
HEAD = 10_000


def load_on_spark(
    data: str,
    columns: str,
    drop: str,
    profile: str,
    log_columns: str,
    categories: str,
    missing: str,
    random_state: int,
    init_size: int,
) -> Table:
    """`features.load_table` for a table that Spark reads; `frame` is a uniform sample of `init_size` of its rows."""
    spark = spark_session("algorithm")
    from pyspark.sql import functions  # late: `spark_session` says in one line that there is none

    send_modules(spark)
    frame = read_on_spark(spark, data)
    head = first_rows(frame, data, HEAD)
    chosen = choose_columns(head, data, columns, drop, profile, log_columns, categories)
    schema = input_schema(chosen, missing)
    with one_line("data", data):
        counted = select(frame, chosen.fitted).mapInPandas(_counting(chosen, schema), _COUNTED)
        totals = counted.groupBy("what", "column").agg(functions.sum("times").alias("times")).toPandas()
        sampled = select(frame, chosen.fitted + chosen.described).orderBy(functions.rand(random_state)).limit(init_size)
        sample = check_and_keep(to_pandas(sampled, data), chosen, schema)
    by_column = totals.set_index(["what", "column"])["times"]
    lacking = pd.Series({name: by_column["lacking", name] for name in chosen.fitted})
    below = pd.Series({name: by_column["below", name] for name in chosen.logged}, dtype=int)
    digest = f"{int(by_column['hash', '']) % 2**32:08x}"
    rows = int(by_column["rows", ""])
    return fit_preprocessing(sample, rows, chosen, schema, missing, lacking, below, data, digest)


# What the workers count, in rows of this schema.
_COUNTED = "what string, column string, times decimal(38,0)"


def _counting(columns: Columns, schema: Schema) -> Any:
    """A function for `mapInPandas`: how many rows, missing values and values without a logarithm there are."""

    def count(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from decimal import Decimal

        for batch in batches:
            X = conform(batch, schema)
            lacking, below = unfit(X, columns)
            found = [("rows", "", len(X))]
            # The sum of the hashes is the same in whatever order the rows come.
            found.append(("hash", "", sum(pd.util.hash_pandas_object(X, index=False).tolist())))
            found += [("lacking", str(name), times) for name, times in lacking.items()]
            found += [("below", str(name), times) for name, times in below.items()]
            yield pd.DataFrame(
                {
                    "what": [what for what, _, _ in found],
                    "column": [name for _, name, _ in found],
                    "times": [Decimal(int(times)) for _, _, times in found],
                }
            )

    return count


def fit_on_spark(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit MLlib's K-Means once for each number of segments, on rows that stay in the memory of the workers.

    Raises click.ClickException where MLlib finds fewer centres than asked.
    """
    spark = spark_session("algorithm")
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions

    with one_line("data", table.source):
        rows = select(read_on_spark(spark, table.source), table.columns.fitted)
        scaled = rows.mapInPandas(_scaling(table), "features array<double>")
        vectors = scaled.select(array_to_vector(functions.col("features")).alias("features")).persist()
        for k in n_clusters:
            started = time.perf_counter()
            centres, n_iter = _best_centres(vectors, k, options)
            seconds = time.perf_counter() - started
            yield _as_clustering(table, vectors, centres, options, n_iter, seconds)
        vectors.unpersist()


def _scaling(table: Table) -> Any:
    """A function for `mapInPandas`: the preprocessed rows, each as one array."""
    schema, preprocessing = table.schema, table.preprocessing

    def scale(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield pd.DataFrame({"features": list(preprocessing.transform(conform(batch, schema)))})

    return scale


def _best_centres(vectors: DataFrame, k: int, options: Options) -> tuple[np.ndarray, int]:
    """The centres with the least inertia of `n_init` initialisations, and how many iterations they took."""
    from pyspark.ml.clustering import KMeans as MLlibKMeans

    fits = []
    for number in range(options.n_init):
        # MLlib's seeds are signed numbers of 64 bits.
        estimator = MLlibKMeans(k=k, maxIter=options.max_iter, tol=options.tol, seed=options.random_state + number)
        model = estimator.fit(vectors)
        found = np.array(model.clusterCenters())
        fits.append((len(found) < k, model.summary.trainingCost, number, found, model.summary.numIter))
    fewer, _, _, centres, iterations = min(fits, key=lambda fit: fit[:3])
    if fewer:
        raise click.ClickException(f"Spark finds no more than {len(centres)} of {k} centres: ask for fewer segments.")
    return centres, iterations


def _as_clustering(
    table: Table, vectors: DataFrame, centres: np.ndarray, options: Options, n_iter: int, fit_seconds: float
) -> Clustering:
    """A clustering as the other algorithms give it, of centres (k, features), with the metrics of all rows."""
    k = len(centres)
    # One iteration on the sample makes an estimator of scikit-learn that knows its columns; the centres are Spark's.
    kmeans = KMeans(k, init=centres, n_init=1, max_iter=1, random_state=options.random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(table.Z)
    kmeans.set_params(max_iter=options.max_iter, tol=options.tol)
    kmeans.cluster_centers_, kmeans.n_iter_ = centres, n_iter

    sums = _sums(vectors, centres)
    order = largest_first(kmeans, sums.sizes)
    kmeans.inertia_, kmeans.labels_ = sums.inertia, kmeans.predict(table.Z)
    metrics = {
        "inertia": sums.inertia,
        "calinski_harabasz": sums.calinski_harabasz(),
        "n_iter": n_iter,
        "fit_seconds": fit_seconds,
    }
    return Clustering(as_pipeline(table, kmeans), kmeans.labels_, sums.sizes[order].tolist(), metrics)


def _sums(vectors: DataFrame, centres: np.ndarray) -> Sums:
    """What all rows add up to in the segments of these centres."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions

    arrays = vectors.select(vector_to_array(functions.col("features")).alias("features"))
    sums = Sums(*centres.shape)
    schema = "sizes array<bigint>, totals array<double>, squares double, inertia double"
    for part in arrays.mapInPandas(_summing(centres), schema).collect():
        sums.sizes += part["sizes"]
        sums.totals += np.reshape(part["totals"], centres.shape)
        sums.squares += part["squares"]
        sums.inertia += part["inertia"]
    return sums


def _summing(centres: np.ndarray) -> Any:
    """A function for `mapInPandas`: what the rows of a partition add up to, as one row."""

    def add(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        sums = Sums(*centres.shape)
        for batch in batches:
            Z = np.stack(batch["features"].tolist())
            distances = euclidean_distances(Z, centres)
            sums.add(Z, distances.argmin(axis=1), distances.min(axis=1))
        totals = sums.totals.ravel().tolist()
        yield pd.DataFrame(
            {"sizes": [sums.sizes.tolist()], "totals": [totals], "squares": sums.squares, "inertia": sums.inertia}
        )

    return add
