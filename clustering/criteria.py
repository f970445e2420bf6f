"""How many segments? Four criteria, what each of them chooses, and where they disagree."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import click
import numpy as np
import pandas as pd
from kneed import KneeLocator
from sklearn import config_context
from sklearn.metrics import pairwise_distances_chunked

from support.language import tr

CRITERIA = ["silhouette", "davies_bouldin", "calinski_harabasz", "elbow"]
SHOWN = ["inertia", "silhouette", "davies_bouldin", "calinski_harabasz"]  # in a line on a clustering


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


@dataclass(frozen=True)
class Choice:
    """Which number of segments, and why.

    scores: the metrics of each number of segments, which is the index.
    by_criterion: the number that each criterion chooses; None for an elbow that does not exist.
    candidates: the numbers that any criterion chooses, in ascending order, each with the criteria that do.
    by: the criterion that decides, or `vote`.
    k: the number chosen.
    """

    scores: pd.DataFrame
    by_criterion: dict[str, int | None]
    candidates: dict[int, list[str]]
    by: str
    k: int

    @property
    def verdict(self) -> str:
        """One sentence on what each criterion chooses, whether they agree, and which chose the end of the range."""
        ends = self.scores.index[-2:].tolist() if len(self.scores) > 4 else []
        inside, end = "{k} ({names})", "{k} ({names}; at the end of the range: the best may lie beyond)"
        said = [tr(end if k in ends else inside, k=k, names=", ".join(by)) for k, by in self.candidates.items()]
        agree = "The criteria agree on the number of segments: {said}."
        text = agree if len(said) == 1 else "The criteria disagree on the number of segments: {said}."
        missing = "" if self.by_criterion["elbow"] else f" {tr('The inertia has no elbow.')}"
        return f"{tr(text, said=', '.join(said))}{missing}"


def decide(scores: pd.DataFrame, by: str) -> Choice:
    """Choose a number of segments.

    scores: columns silhouette, davies_bouldin, calinski_harabasz and inertia; index the numbers of segments.
    by: one of `CRITERIA`, or `vote`: the number that most criteria choose; of equals, the higher silhouette.

    Raises click.BadParameter where that is an elbow that does not exist.
    """
    ks = scores.index.tolist()
    by_criterion = {
        "silhouette": ks[int(np.nanargmax(scores["silhouette"]))],
        "davies_bouldin": ks[int(np.nanargmin(scores["davies_bouldin"]))],
        "calinski_harabasz": ks[int(np.nanargmax(scores["calinski_harabasz"]))],
        "elbow": elbow(ks, scores["inertia"].tolist()),
    }
    numbers = sorted({k for k in by_criterion.values() if k is not None})
    votes = {k: [name for name, chosen in by_criterion.items() if chosen == k] for k in numbers}
    k = max(votes, key=lambda k: (len(votes[k]), scores["silhouette"][k])) if by == "vote" else by_criterion[by]
    if k is None:
        said = f"'elbow' finds no elbow from k_min={ks[0]} to k_max={ks[-1]}: choose by another criterion."
        raise click.BadParameter(said, param_hint="'--choose'")
    return Choice(scores, by_criterion, votes, by, k)


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
