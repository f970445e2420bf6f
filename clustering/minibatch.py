"""K-Means on a table that need not fit in memory: scikit-learn's MiniBatchKMeans, a batch of rows at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from features import Table, batches
from kmeans import Clustering, Options, Sums, threads_for


class Fit:
    """One number of segments while it is being fitted: the model, and its passes, inertia and seconds so far.

    It starts from the best of `n_init` K-Means on the sample in `table.Z`, and learns from the sample first: then the
    centres carry its weight, and the order of the rows in the file cannot pull them far.
    """

    def __init__(self, table: Table, n_clusters: int, options: Options) -> None:
        started, seed = time.perf_counter(), options.random_state
        with threads_for(table.Z):
            start = KMeans(n_clusters, algorithm=options.algorithm, n_init=options.n_init, random_state=seed)
            start.fit(table.Z)
        # Small segments are segments, too: no centre is moved elsewhere because few rows belong to it.
        given = {"init": start.cluster_centers_, "n_init": 1, "reassignment_ratio": 0.0, "random_state": seed}
        self.model = MiniBatchKMeans(n_clusters, **given).partial_fit(table.Z)
        self.passes, self.before, self.inertia = 0, np.inf, np.inf
        self.seconds = time.perf_counter() - started

    def begin_pass(self) -> None:
        self.passes, self.before, self.inertia = self.passes + 1, self.inertia, 0.0

    def learn(self, Z: np.ndarray) -> None:
        """Learn from a batch of preprocessed rows (rows, features)."""
        started = time.perf_counter()
        self.model.partial_fit(Z)
        self.inertia += self.model.inertia_
        self.seconds += time.perf_counter() - started

    def moves(self, options: Options) -> bool:
        """Whether one pass more is worth while."""
        return self.passes < options.max_iter and self.before - self.inertia > options.tol * self.inertia


def fit_in_batches(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit all the numbers of segments in the same passes over the table's source, so that each pass reads it once."""
    moving = fits = [Fit(table, k, options) for k in n_clusters]
    while moving:
        for fit in moving:
            fit.begin_pass()
        for Z in batches(table, options.batch_size):
            for fit in moving:
                fit.learn(Z)
        done = max(fit.passes for fit in moving)
        moving = [fit for fit in moving if fit.moves(options)]
        click.echo(f"Pass {done} over {table.rows:,} rows: {len(fits) - len(moving)} of {len(fits)} settled")

    sums = [Sums(fit.model.n_clusters, table.Z.shape[1]) for fit in fits]
    for Z in batches(table, options.batch_size):
        for fit, into in zip(fits, sums, strict=True):
            into.add(fit.model, Z)
    for fit, summed in zip(fits, sums, strict=True):
        yield summed.as_clustering(table, fit.model, fit.passes, fit.seconds)
