"""Tables and fits of the clustering example in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from examples import module
from threadpoolctl import threadpool_limits

fit = module("clustering", "fit")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On small tables scikit-learn's threads wait for each other longer than they work."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """Fit as `kmeans` does, without a run: from a table and the parameters that differ to Table and Clustering."""

    def fitted(frame: pd.DataFrame, n_clusters: int, **parameters: Any) -> tuple[Any, Any]:
        data = tmp_path / "table.parquet"
        frame.to_parquet(data, index=False)
        chosen = {option.name: option.default for option in fit.fit.params} | {"data": str(data)} | parameters
        options = fit.Options.of(chosen)
        table = fit.load(fit.Selection.of(chosen), options)
        [clustering] = fit.fit_each(table, [n_clusters], options)
        return table, clustering

    return fitted
