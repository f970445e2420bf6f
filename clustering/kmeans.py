"""K-Means on a table in memory, and what a fitted K-Means is and reaches, whatever engine fitted it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from criteria import silhouettes
from features import Table

SINGLE_THREADED = 100_000  # up to this many rows, scikit-learn's threads wait for each other longer than they work


@dataclass(frozen=True)
class Options:
    """How to fit and score: the parameters of these names, scikit-learn's own.

    engine: what does the work: `local`, scikit-learn's KMeans on the whole table in memory; `minibatch`, its
        MiniBatchKMeans, a batch of rows at a time; `spark`, the K-Means of Spark's MLlib.
    """

    engine: str
    algorithm: str
    n_init: int
    max_iter: int
    tol: float
    batch_size: int
    init_size: int
    sample_size: int
    random_state: int

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Options:
        """The options among the parameters of a command."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Clustering:
    """A fitted K-Means and what it makes of a table. Segments are numbered from 0, the largest first.

    pipeline: from raw columns to segments.
    labels: the segment of each row of `table.frame` (rows,).
    sizes: rows of each segment in the whole table.
    farthest: the distance of the farthest row of each segment from its centre, in scaled units.
    metrics: under scikit-learn's names; `score` adds those that a sample of the rows is enough for.
    silhouettes: the coefficients that `score` computes, by the number of the row in `table.frame`.
    """

    pipeline: Pipeline
    labels: np.ndarray
    sizes: list[int]
    farthest: list[float]
    metrics: dict[str, float]
    silhouettes: pd.Series = field(default_factory=pd.Series)

    @property
    def n_clusters(self) -> int:
        return len(self.sizes)


def fit_in_memory(table: Table, n_clusters: int, options: Options) -> Clustering:
    """Fit scikit-learn's KMeans on all rows of a table."""
    given = {name: getattr(options, name) for name in ("algorithm", "n_init", "max_iter", "tol", "random_state")}
    kmeans = KMeans(n_clusters, **given)
    started = time.perf_counter()
    with threads_for(table.Z):
        kmeans.fit(table.Z)
    seconds = time.perf_counter() - started
    number_by_size(kmeans, np.bincount(kmeans.labels_, minlength=n_clusters))
    kmeans.labels_, distances = nearest(kmeans, table.Z)
    sizes = np.bincount(kmeans.labels_, minlength=n_clusters)
    metrics = {
        "inertia": float(kmeans.inertia_),
        "calinski_harabasz": float(calinski_harabasz_score(table.Z, kmeans.labels_)),
        "n_iter": int(kmeans.n_iter_),
        "fit_seconds": seconds,
    }
    most = farthest(kmeans.labels_, distances, n_clusters)
    pipeline = Pipeline([("preprocessing", table.preprocessing), ("kmeans", kmeans)])
    return Clustering(pipeline, kmeans.labels_, sizes.tolist(), most.tolist(), metrics)


def score(table: Table, clusterings: Iterable[Clustering], options: Options) -> list[Clustering]:
    """The same clusterings, with all their metrics and with silhouettes."""
    fitted, rows = list(clusterings), np.arange(len(table.Z))
    if len(rows) > options.sample_size:  # the same sample as that of sklearn.metrics.silhouette_score
        rows = np.random.RandomState(options.random_state).permutation(len(rows))[: options.sample_size]
    coefficients = silhouettes(table.Z[rows], [clustering.labels[rows] for clustering in fitted])
    scored = []
    for clustering, values in zip(fitted, coefficients, strict=True):
        metrics = {
            **clustering.metrics,
            "silhouette": float(values.mean()),
            "davies_bouldin": float(davies_bouldin_score(table.Z, clustering.labels)),
            "rows": table.rows,
            "silhouette_rows": len(rows),
            "largest_segment": max(clustering.sizes),
            "smallest_segment": min(clustering.sizes),
        }
        scored.append(replace(clustering, metrics=metrics, silhouettes=pd.Series(values, rows)))
    return scored


def threads_for(Z: np.ndarray) -> threadpool_limits:
    """One thread for a small table, all of them for a large one."""
    return threadpool_limits(1 if len(Z) <= SINGLE_THREADED else None)


def number_by_size(kmeans: KMeans | MiniBatchKMeans, sizes: np.ndarray) -> np.ndarray:
    """Number the centres of a fitted K-Means anew, the largest segment first; returns the old numbers in that order."""
    order = np.argsort(-sizes, kind="stable")
    kmeans.cluster_centers_ = np.ascontiguousarray(kmeans.cluster_centers_[order])
    return order


def nearest(kmeans: KMeans | MiniBatchKMeans, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The segment of each preprocessed row (rows,), and its distance to the centre (rows,).

    A row has the same distance to the last digit in whatever batch it comes, which `kmeans.transform` does not promise.
    """
    labels = kmeans.predict(Z)
    return labels, np.linalg.norm(Z - kmeans.cluster_centers_[labels], axis=1)


def farthest(labels: np.ndarray, distances: np.ndarray, n_clusters: int) -> np.ndarray:
    """The largest distance in each segment (n_clusters,); 0 for an empty one. Arguments as `nearest` gives them."""
    found = np.zeros(n_clusters)
    np.maximum.at(found, labels, distances)
    return found


class Sums:
    """What all rows of a table, a batch at a time, add up to for one fitted K-Means of n_clusters and n_features.

    sizes, farthest: rows of each segment, and its largest distance (n_clusters,).
    totals: sum of the rows of each segment (n_clusters, n_features).
    squares, inertia: sums of the squared lengths of all rows, and of their squared distances.
    """

    def __init__(self, n_clusters: int, n_features: int) -> None:
        self.sizes, self.farthest = np.zeros(n_clusters, dtype=int), np.zeros(n_clusters)
        self.totals = np.zeros((n_clusters, n_features))
        self.squares = self.inertia = 0.0

    def add(self, kmeans: KMeans | MiniBatchKMeans, Z: np.ndarray) -> None:
        """Add a batch of preprocessed rows (rows, n_features)."""
        labels, distances = nearest(kmeans, Z)
        self.sizes += np.bincount(labels, minlength=len(self.sizes))
        self.farthest = np.maximum(self.farthest, farthest(labels, distances, len(self.sizes)))
        for feature in range(Z.shape[1]):
            self.totals[:, feature] += np.bincount(labels, weights=Z[:, feature], minlength=len(self.sizes))
        self.squares += float(np.einsum("ij,ij->", Z, Z))
        self.inertia += float(distances @ distances)

    def merge(self, other: Sums) -> None:
        """Add what another worker has summed."""
        self.sizes += other.sizes
        self.farthest = np.maximum(self.farthest, other.farthest)
        self.totals += other.totals
        self.squares += other.squares
        self.inertia += other.inertia

    def calinski_harabasz(self) -> float:
        """The index of all rows, by the definition of `sklearn.metrics.calinski_harabasz_score`."""
        rows, k = self.sizes.sum(), len(self.sizes)
        means = self.totals / np.maximum(self.sizes, 1)[:, None]
        mean = self.totals.sum(axis=0) / rows
        between = float(self.sizes @ ((means - mean) ** 2).sum(axis=1))
        within = self.squares - float(self.sizes @ (means**2).sum(axis=1))
        return between / (k - 1) / (within / (rows - k)) if within > 0 else 1.0

    def as_clustering(self, table: Table, kmeans: KMeans | MiniBatchKMeans, n_iter: int, seconds: float) -> Clustering:
        """The clustering that all these rows belong to."""
        metrics = {
            "inertia": self.inertia,
            "calinski_harabasz": self.calinski_harabasz(),
            "n_iter": n_iter,
            "fit_seconds": seconds,
        }
        order = number_by_size(kmeans, self.sizes)
        kmeans.inertia_, kmeans.labels_ = self.inertia, kmeans.predict(table.Z)
        sizes, most = self.sizes[order].tolist(), self.farthest[order].tolist()
        pipeline = Pipeline([("preprocessing", table.preprocessing), ("kmeans", kmeans)])
        return Clustering(pipeline, kmeans.labels_, sizes, most, metrics)
