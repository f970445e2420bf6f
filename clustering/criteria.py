"""How many segments? Four criteria, what each of them chooses, and where they disagree."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from kneed import KneeLocator
from sklearn import config_context
from sklearn.metrics import pairwise_distances_chunked

CRITERIA = ["silhouette", "davies_bouldin", "calinski_harabasz", "elbow"]


def silhouettes(Z: np.ndarray, labelings: list[np.ndarray]) -> list[np.ndarray]:
    """The silhouette coefficients of the same rows under several labelings.

    What `sklearn.metrics.silhouette_samples` gives for each, but the distances, which are nearly all of its cost, are
    computed once for all labelings, and a block of rows at a time.

    Z: rows (rows, features).
    labelings: for each clustering, the segment of each row (rows,), from 0.

    Returns the coefficients (rows,) of each labeling, between -1 and 1, 0 for a segment of one row; nan where all rows
    are in one segment. Source: Rousseeuw, J. Comput. Appl. Math. 20 (1987), 53-65.
    """
    memberships = [np.eye(labels.max() + 1)[labels] for labels in labelings]
    sizes = [membership.sum(axis=0) for membership in memberships]
    bounds = np.cumsum([membership.shape[1] for membership in memberships])[:-1]
    stacked = np.hstack(memberships)
    coefficients: list[list[np.ndarray]] = [[] for _ in labelings]
    start = 0
    with config_context(working_memory=64), np.errstate(divide="ignore", invalid="ignore"):
        for distances in pairwise_distances_chunked(Z):
            rows = np.arange(len(distances))
            # The sum of the distances of each row to each segment, for all labelings in one product of matrices.
            for number, sums in enumerate(np.split(distances @ stacked, bounds, axis=1)):
                own, size = labelings[number][start + rows], sizes[number]
                within = sums[rows, own] / (size[own] - 1)
                means = np.where(size > 0, sums / size, np.inf)
                means[rows, own] = np.inf
                nearest = means.min(axis=1)
                value = np.nan_to_num((nearest - within) / np.maximum(within, nearest))
                value[np.isinf(nearest)] = np.nan
                coefficients[number].append(value)
            start += len(distances)
    return [np.concatenate(parts) for parts in coefficients]


def sample_rows(rows: int, sample_size: int, random_state: int) -> np.ndarray:
    """The rows that `sklearn.metrics.silhouette_score` takes as its sample; all of them where there are no more."""
    if rows <= sample_size:
        return np.arange(rows)
    return np.random.RandomState(random_state).permutation(rows)[:sample_size]


def elbow(n_clusters: list[int], inertias: list[float]) -> int | None:
    """Where more segments stop paying: the elbow of the inertia, by Kneedle; None where it finds none.

    Source: Satopaa, Albrecht, Irwin and Raghavan, "Finding a Kneedle in a Haystack", ICDCS Workshops 2011, 166-171.
    """
    if len(n_clusters) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no elbow
        found = KneeLocator(n_clusters, inertias, curve="convex", direction="decreasing").elbow
    return None if found is None else int(found)


def choices(scores: pd.DataFrame) -> dict[str, int | None]:
    """The number of segments that each criterion chooses; None for an elbow that is not there.

    scores: columns silhouette, davies_bouldin, calinski_harabasz and inertia; index the numbers of segments.
    """
    ks = scores.index.tolist()
    return {
        "silhouette": ks[int(np.nanargmax(scores["silhouette"]))],
        "davies_bouldin": ks[int(np.nanargmin(scores["davies_bouldin"]))],
        "calinski_harabasz": ks[int(np.nanargmax(scores["calinski_harabasz"]))],
        "elbow": elbow(ks, scores["inertia"].tolist()),
    }


def candidates(chosen: dict[str, int | None]) -> dict[int, list[str]]:
    """The numbers of segments that any criterion chooses, in order, each with the criteria that do."""
    numbers = sorted({k for k in chosen.values() if k is not None})
    return {k: [name for name, choice in chosen.items() if choice == k] for k in numbers}


def vote(chosen: dict[str, int | None], scores: pd.DataFrame) -> int:
    """The number that most criteria choose; among equals, the one with the highest silhouette."""
    groups = candidates(chosen)
    return max(groups, key=lambda k: (len(groups[k]), scores["silhouette"][k]))


def verdict(chosen: dict[str, int | None], scores: pd.DataFrame) -> str:
    """One sentence on what each criterion chooses, whether they agree, and which chose the end of the range."""
    groups = candidates(chosen)
    ends = scores.index[-2:].tolist() if len(scores) > 4 else []
    told = [
        f"{k} ({', '.join(names)}{'; at the end of the range: the best may lie beyond' if k in ends else ''})"
        for k, names in groups.items()
    ]
    missing = "" if chosen["elbow"] else "; the inertia has no elbow"
    if len(groups) == 1:
        return f"The criteria agree on the number of segments: {told[0]}{missing}."
    return f"The criteria disagree on the number of segments: {', '.join(told)}{missing}."
