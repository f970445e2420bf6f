"""Fit K-Means: on a table in memory, a mini-batch at a time on one that need not fit there, or on Spark."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import calinski_harabasz_score
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from features import Table
from support.table import conform, read_batches

# Up to so many rows scikit-learn's threads wait for each other longer than they work.
SINGLE_THREADED = 100_000


@dataclass(frozen=True)
class Options:
    """How to fit, under scikit-learn's names.

    algorithm: `lloyd` or `elkan` for KMeans, `minibatch` for MiniBatchKMeans, `spark` for the K-Means of Spark's MLlib.
    n_init: how many initialisations to try, k-means++ or, with spark, k-means||.
    max_iter: the most iterations; with minibatch, the most passes over the table.
    tol: stop when the centres (with minibatch: the inertia of a pass) change relatively less than this.
    batch_size: rows of a mini-batch.
    random_state: seed of the initialisations.
    """

    algorithm: str
    n_init: int
    max_iter: int
    tol: float
    batch_size: int
    random_state: int


@dataclass(frozen=True)
class Clustering:
    """A fitted K-Means and what it makes of a table. Segments are numbered from 0, the largest first.

    pipeline: from raw columns to segments.
    labels: the segment of each row of `table.frame` (rows,).
    sizes: rows of each segment in the whole table.
    metrics: inertia, calinski_harabasz, n_iter and fit_seconds.
    """

    pipeline: Pipeline
    labels: np.ndarray
    sizes: list[int]
    metrics: dict[str, float]

    @property
    def n_clusters(self) -> int:
        return len(self.sizes)


def fit(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit K-Means once for each number of segments, in that order.

    `minibatch` and `spark` read the table's source again.
    """
    if options.algorithm == "minibatch":
        yield from _fit_batches(table, n_clusters, options)
    elif options.algorithm == "spark":
        from spark_kmeans import fit_on_spark  # late: the others need no Spark

        yield from fit_on_spark(table, n_clusters, options)
    else:
        for k in n_clusters:
            yield _fit_whole(table, k, options)


def _fit_whole(table: Table, n_clusters: int, options: Options) -> Clustering:
    started = time.perf_counter()
    kmeans = KMeans(
        n_clusters,
        algorithm=options.algorithm,
        n_init=options.n_init,
        max_iter=options.max_iter,
        tol=options.tol,
        random_state=options.random_state,
    )
    with threadpool_limits(1 if len(table.Z) <= SINGLE_THREADED else None):
        kmeans.fit(table.Z)
    seconds = time.perf_counter() - started
    sizes = np.bincount(kmeans.labels_, minlength=n_clusters)
    order = largest_first(kmeans, sizes)
    kmeans.labels_ = np.argsort(order)[kmeans.labels_].astype("int32")
    metrics = {
        "inertia": float(kmeans.inertia_),
        "calinski_harabasz": float(calinski_harabasz_score(table.Z, kmeans.labels_)),
        "n_iter": int(kmeans.n_iter_),
        "fit_seconds": seconds,
    }
    return Clustering(as_pipeline(table, kmeans), kmeans.labels_, sizes[order].tolist(), metrics)


def _fit_batches(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit all the numbers of segments in the same passes over the table, so that each pass reads it once.

    Each starts from the best of `n_init` K-Means on the sample in `table.Z`, and learns from the sample first: the
    centres then carry its weight, and the order of the rows in the file cannot pull them far.
    """
    models: list[MiniBatchKMeans] = []
    seconds = dict.fromkeys(n_clusters, 0.0)
    for k in n_clusters:
        started = time.perf_counter()
        with threadpool_limits(1 if len(table.Z) <= SINGLE_THREADED else None):
            start = KMeans(k, n_init=options.n_init, random_state=options.random_state).fit(table.Z)
        # Small segments are segments, too: no centre is moved elsewhere because few rows belong to it.
        model = MiniBatchKMeans(
            k, init=start.cluster_centers_, n_init=1, reassignment_ratio=0.0, random_state=options.random_state
        )
        models.append(model.partial_fit(table.Z))
        seconds[k] += time.perf_counter() - started

    passes = dict.fromkeys(n_clusters, 0)
    before = dict.fromkeys(n_clusters, np.inf)
    moving = models
    while moving:
        inertia = {model.n_clusters: 0.0 for model in moving}
        for Z in _batches(table, options.batch_size):
            for model in moving:
                started = time.perf_counter()
                model.partial_fit(Z)
                inertia[model.n_clusters] += model.inertia_
                seconds[model.n_clusters] += time.perf_counter() - started
        for k in inertia:
            passes[k] += 1
        moving = [
            model
            for model in moving
            if passes[model.n_clusters] < options.max_iter
            and before[model.n_clusters] - inertia[model.n_clusters] > options.tol * inertia[model.n_clusters]
        ]
        before |= inertia
        settled = f"{len(models) - len(moving)} of {len(models)} settled"
        click.echo(f"Pass {max(passes.values())} over {table.rows:,} rows: {settled}")

    for model, sums in zip(models, _sums(table, models, options.batch_size), strict=True):
        k = model.n_clusters
        order = largest_first(model, sums.sizes)
        metrics = {
            "inertia": sums.inertia,
            "calinski_harabasz": sums.calinski_harabasz(),
            "n_iter": passes[k],
            "fit_seconds": seconds[k],
        }
        yield Clustering(as_pipeline(table, model), model.predict(table.Z), sums.sizes[order].tolist(), metrics)


def farthest(table: Table, clustering: Clustering) -> list[float]:
    """How far from its centre the farthest row of each segment lies, in units of `table.Z`; 0 for an empty segment."""
    found = []
    for segment, centre in enumerate(clustering.pipeline[-1].cluster_centers_):
        members = table.Z[clustering.labels == segment]
        found.append(float(np.linalg.norm(members - centre, axis=1).max(initial=0.0)))
    return found


class Sums:
    """What one pass over all rows adds up for a clustering: sizes, totals of the segments, and squared distances."""

    def __init__(self, n_clusters: int, features: int) -> None:
        self.sizes = np.zeros(n_clusters, dtype=int)
        self.totals = np.zeros((n_clusters, features))
        self.squares = 0.0
        self.inertia = 0.0

    def add(self, Z: np.ndarray, labels: np.ndarray, distances: np.ndarray) -> None:
        """Count rows in. Z: (rows, features); labels, distances: (rows,), to the centre of the segment."""
        self.sizes += np.bincount(labels, minlength=len(self.sizes))
        for feature in range(Z.shape[1]):
            self.totals[:, feature] += np.bincount(labels, weights=Z[:, feature], minlength=len(self.sizes))
        self.squares += float(np.einsum("ij,ij->", Z, Z))
        self.inertia += float(distances @ distances)

    def calinski_harabasz(self) -> float:
        """The index of all rows, by the definition of `sklearn.metrics.calinski_harabasz_score`."""
        rows, k = self.sizes.sum(), len(self.sizes)
        means = self.totals / np.maximum(self.sizes, 1)[:, None]
        mean = self.totals.sum(axis=0) / rows
        between = float(self.sizes @ ((means - mean) ** 2).sum(axis=1))
        within = self.squares - float(self.sizes @ (means**2).sum(axis=1))
        return between / (k - 1) / (within / (rows - k)) if within > 0 else 1.0


def _sums(table: Table, models: list[MiniBatchKMeans], batch_size: int) -> list[Sums]:
    sums = [Sums(model.n_clusters, table.Z.shape[1]) for model in models]
    for Z in _batches(table, batch_size):
        for model, into in zip(models, sums, strict=True):
            distances = model.transform(Z)
            into.add(Z, distances.argmin(axis=1), distances.min(axis=1))
    return sums


def _batches(table: Table, batch_size: int) -> Iterator[np.ndarray]:
    """The preprocessed rows of a table, a batch at a time."""
    row = 1
    for batch in read_batches(table.source, batch_size=batch_size):
        yield table.preprocessing.transform(conform(batch, table.schema, first_row=row))
        row += len(batch)


def largest_first(kmeans: KMeans | MiniBatchKMeans, sizes: np.ndarray) -> np.ndarray:
    """Number the centres of a fitted K-Means anew, the largest segment first; returns the old numbers in that order."""
    order = np.argsort(-sizes, kind="stable")
    kmeans.cluster_centers_ = np.ascontiguousarray(kmeans.cluster_centers_[order])
    return order


def as_pipeline(table: Table, kmeans: KMeans | MiniBatchKMeans) -> Pipeline:
    """The model that is logged: from raw columns to segments."""
    return Pipeline([("preprocessing", table.preprocessing), ("kmeans", kmeans)])
