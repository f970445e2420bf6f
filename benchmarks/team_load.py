"""How a team's server answers under load, beside the same server on SQLite.

All have accounts and one process. Each is filled with runs, then clients log to it at once, then somebody looks at the
table of runs, sorted by a metric. `python benchmarks/report.py team` measures it for the report.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "team_server"))
from server import TeamServer

SEARCHES: dict[str, dict[str, Any]] = {  # a page of 100 runs, as the UI asks for
    "newest": {},
    "by_metric": {"order_by": ["metrics.roc_auc DESC"]},
    "search": {"filter_string": "metrics.roc_auc > 0.99 and params.parameter_1 = '1'"},
}
METRICS = ("accuracy", "f1", "log_loss", "recall", "roc_auc")


LIMIT = 60  # s that a client waits for an answer


class OnSQLite(TeamServer):
    """The same server with SQLite instead of PostgreSQL."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.folder / 'mlflow.db'}"}


def fill(uri: str, experiment: str, n_runs: int) -> None:
    """Write finished runs with five metrics and five parameters each into the database."""
    random = np.random.default_rng(0)
    store = SqlAlchemyStore(uri, "mlflow-artifacts:/")
    for _ in range(0, n_runs, 1000):
        ids = [uuid4().hex for _ in range(min(n_runs, 1000))]
        times = {"start_time": 1, "end_time": 2, "experiment_id": int(experiment), "lifecycle_stage": "active"}
        runs = [{"run_uuid": key, "name": key[:8], "status": "FINISHED", "user_id": "filled", **times} for key in ids]
        params = [{"run_uuid": key, "key": f"parameter_{n}", "value": str(n)} for key in ids for n in range(5)]
        values = [(key, name, float(random.random())) for key in ids for name in METRICS]
        metrics = [{"run_uuid": run, "key": key, "value": value, "timestamp": 1} for run, key, value in values]
        with store.engine.begin() as connection:
            connection.execute(insert(models.SqlRun.__table__), runs)
            connection.execute(insert(models.SqlParam.__table__), params)
            for table in (models.SqlMetric, models.SqlLatestMetric):
                connection.execute(insert(table.__table__), [{**each, "step": 0, "is_nan": False} for each in metrics])


class AnalyzedSQLite(OnSQLite):
    """SQLite that has counted what its tables hold, from which it plans a search."""


def timed(work: Callable[[], object]) -> float:
    """The milliseconds that a call takes; LIMIT where it was given up then."""
    begun = time.perf_counter()
    try:
        work()
    except MlflowException:
        if time.perf_counter() - begun < LIMIT:
            raise
        return 1000.0 * LIMIT
    return 1000 * (time.perf_counter() - begun)


def log_at_once(client: MlflowClient, experiment: str, n_clients: int, n_requests: int) -> list[float]:
    """The milliseconds of each request with five metrics, of clients that log at once."""
    found: list[float] = []

    def log() -> None:
        run = client.create_run(experiment).info.run_id
        for step in range(n_requests):
            batch = [Metric(name, 0.5, 1, step) for name in METRICS]
            found.append(timed(partial(client.log_batch, run, batch)))
        client.set_terminated(run)

    threads = [threading.Thread(target=log) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def measure(server: TeamServer, n_runs: int, n_clients: int = 20, n_requests: int = 50) -> dict[str, list[float]]:
    """The milliseconds of each kind of request to one server; a search is repeated unless it is slow."""
    server.start()
    try:
        os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": server.secret["admin"]}
        os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(LIMIT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        client = MlflowClient(server.uri, server.uri)
        experiment = client.create_experiment("load")
        uri = server.environment["MLFLOW_BACKEND_STORE_URI"]
        fill(uri, experiment, n_runs)
        if isinstance(server, AnalyzedSQLite):
            with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
                database.execute("ANALYZE")
        found = {"log": log_at_once(client, experiment, n_clients, n_requests)}
        for name, given in SEARCHES.items():
            search = partial(client.search_runs, [experiment], max_results=100, **given)
            first = timed(search)
            found[name] = [first] + [timed(search) for _ in range(20 if first < 5000 else 0)]
        return found
    finally:
        server.stop()


def measure_all(folder: Path, n_runs: int) -> dict[str, dict[str, list[float]]]:
    """The 50th and 99th percentile of the milliseconds of each kind of request, by the name of the database."""
    servers = {"postgresql": TeamServer, "sqlite": OnSQLite, "analyzed": AnalyzedSQLite}
    ports = dict(zip(servers, range(25_000, 25_100, 10), strict=False))
    found = {name: measure(kind(folder / name, ports[name]), n_runs) for name, kind in servers.items()}
    return {
        name: {request: np.percentile(each, (50, 99)).round(1).tolist() for request, each in requests.items()}
        for name, requests in found.items()
    }
