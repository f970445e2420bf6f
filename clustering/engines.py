"""What does the work of fitting, by the name of the engine."""

from __future__ import annotations

from collections.abc import Iterator

from features import Selection, Table, load_table
from kmeans import Clustering, Options, fit_in_memory
from minibatch import fit_in_batches
from support.table import bad


def load(selection: Selection, options: Options) -> Table:
    """Read a table, check it, and fit the preprocessing; with minibatch and spark on a sample of its rows.

    Raises click.BadParameter where the table, a name or the engine does not allow it.
    """
    if options.engine == "spark":
        if options.algorithm != "lloyd":
            raise bad("algorithm", options.algorithm, "is not an algorithm of Spark: leave it out with engine=spark.")
        from spark_kmeans import load_on_spark  # late: the other engines need no Spark

        return load_on_spark(selection, options)
    if options.engine == "minibatch":
        return load_table(selection, options.random_state, options.batch_size, options.init_size)
    return load_table(selection, options.random_state)


def fit(table: Table, n_clusters: list[int], options: Options) -> Iterator[Clustering]:
    """Fit K-Means once for each number of segments, in that order; minibatch and spark read the table again."""
    if options.engine == "spark":
        from spark_kmeans import fit_on_spark  # late: the other engines need no Spark

        return fit_on_spark(table, n_clusters, options)
    if options.engine == "minibatch":
        return fit_in_batches(table, n_clusters, options)
    return (fit_in_memory(table, k, options) for k in n_clusters)
