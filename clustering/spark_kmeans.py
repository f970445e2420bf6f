"""K-Means on Spark, with MLlib; the centres go into a Pipeline of scikit-learn, as those of the other engines do."""

from __future__ import annotations

import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from features import Selection, Table, Tally, as_table, choose_columns, prepared
from kmeans import Clustering, Options, Sums
from support.inputs import model_inputs
from support.kinds import Kind
from support.on_spark import decide_on_spark, one_line, read_on_spark, select, send_modules, spark_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def load_on_spark(selection: Selection, options: Options) -> Table:
    """`features.load_table` for a table that Spark reads; `frame` is a uniform sample of `init_size` of its rows."""
    spark = spark_session()
    from pyspark.sql import functions  # late: `spark_session` says in one line that there is none

    send_modules(spark)
    frame = read_on_spark(spark, selection.data)

    def decide(drop: list[str], asked: list[str]) -> dict[str, Kind]:
        said = (selection.data, selection.kinds, selection.missing_values)
        kinds, notes = decide_on_spark(frame, *said, drop=drop, asked=asked)
        for note in notes:
            click.echo(note, err=True)
        return kinds

    columns = choose_columns(frame.columns, selection, decide)

    def count(batches: Iterator[pd.DataFrame]) -> tuple[Any, ...]:
        rows, digest = 0, 0
        lacking = below = pd.Series(0, columns.fitted)
        for batch in batches:
            X = model_inputs(batch, columns.schema, columns.kinds)
            rows += len(X)
            lacking, below = lacking + X.isna().sum(), below.add((X[columns.logged] <= -1).sum(), fill_value=0)
            digest += sum(pd.util.hash_pandas_object(X, index=False).tolist())  # the same in whatever order rows come
        return rows, lacking, below, digest

    with one_line("data", selection.data):
        parts = _from_workers(select(frame, columns.fitted), count)
        sampled = select(frame, columns.fitted + columns.described).orderBy(functions.rand(options.random_state))
        sample = prepared(sampled.limit(options.init_size).toPandas(), columns)
    rows, lacking, below, digest = (sum(part) for part in zip(*parts, strict=True))
    return as_table(sample, Tally(rows, lacking, below, f"{digest % 2**32:08x}"), columns, selection)


def _from_workers(frame: DataFrame, work: Callable[[Iterator[pd.DataFrame]], Any]) -> list[Any]:
    """What a function makes of the batches of rows in each worker."""

    def pickled(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"found": [pickle.dumps(work(batches))]})

    return [pickle.loads(row["found"]) for row in frame.mapInPandas(pickled, "found binary").collect()]


def fit_on_spark(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit MLlib's K-Means once for each number of segments, on rows that stay in the memory of the workers.

    Raises click.ClickException where MLlib finds fewer centres than asked.
    """
    spark = spark_session()
    from pyspark.ml.functions import array_to_vector, vector_to_array
    from pyspark.sql import functions

    columns, preprocessing = table.columns, table.preprocessing

    def scale(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            X = model_inputs(batch, columns.schema, columns.kinds)
            yield pd.DataFrame({"features": list(preprocessing.transform(X))})

    def sums_of(kmeans: KMeans, batches: Iterator[pd.DataFrame]) -> Sums:
        sums = Sums(*kmeans.cluster_centers_.shape)
        for batch in batches:
            sums.add(kmeans, np.stack(batch["features"].tolist()))
        return sums

    with one_line("data", table.source):
        rows = select(read_on_spark(spark, table.source), columns.fitted)
        scaled = rows.mapInPandas(scale, "features array<double>")
        vectors = scaled.select(array_to_vector(functions.col("features")).alias("features")).persist()
        arrays = vectors.select(vector_to_array(functions.col("features")).alias("features"))
        for k in n_clusters:
            started = time.perf_counter()
            centres, n_iter = _best_centres(vectors, k, options)
            seconds = time.perf_counter() - started
            kmeans = _as_estimator(table, centres, n_iter, options)
            total, *others = _from_workers(arrays, partial(sums_of, kmeans))
            for part in others:
                total.merge(part)
            yield total.as_clustering(table, kmeans, n_iter, seconds)
        vectors.unpersist()


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


def _as_estimator(table: Table, centres: np.ndarray, n_iter: int, options: Options) -> KMeans:
    """A KMeans of scikit-learn with the centres (k, features) that Spark found."""
    # One iteration on the sample makes an estimator that knows its columns.
    kmeans = KMeans(len(centres), init=centres, n_init=1, max_iter=1, random_state=options.random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(table.Z)
    kmeans.set_params(max_iter=options.max_iter, tol=options.tol)
    kmeans.cluster_centers_, kmeans.n_iter_ = centres, n_iter
    return kmeans
