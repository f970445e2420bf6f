"""The metrics of a clustering, under scikit-learn's names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import davies_bouldin_score

from criteria import sample_rows, silhouettes
from features import Table
from kmeans import Clustering, Options

# What a line on a clustering shows.
SHOWN = ["inertia", "silhouette", "davies_bouldin", "calinski_harabasz"]


@dataclass(frozen=True)
class Scored:
    """A clustering with its metrics.

    metrics: under scikit-learn's names.
    rows: the numbers of the rows of `Table.frame` that silhouettes were computed on (rows,).
    silhouettes: their coefficients (rows,).
    """

    clustering: Clustering
    metrics: dict[str, float]
    rows: np.ndarray
    silhouettes: np.ndarray


def score(table: Table, clusterings: list[Clustering], options: Options) -> list[Scored]:
    """Compute the metrics of each clustering of a table."""
    rows = sample_rows(len(table.Z), options.sample_size, options.random_state)
    coefficients = silhouettes(table.Z[rows], [clustering.labels[rows] for clustering in clusterings])
    found = []
    for clustering, values in zip(clusterings, coefficients, strict=True):
        metrics = {
            **clustering.metrics,
            "silhouette": float(values.mean()),
            "davies_bouldin": float(davies_bouldin_score(table.Z, clustering.labels)),
            "rows": table.rows,
            "silhouette_rows": len(rows),
            "largest_segment": max(clustering.sizes),
            "smallest_segment": min(clustering.sizes),
        }
        found.append(Scored(clustering, metrics, rows, values))
    return found


def scores_of(scored: list[Scored]) -> pd.DataFrame:
    """The metrics of all clusterings, one row each; the index is the number of segments."""
    ks = pd.Index([each.clustering.n_clusters for each in scored], name="n_clusters")
    return pd.DataFrame([each.metrics for each in scored], index=ks)
