"""How a team's server answers under load, beside the same server on SQLite: `python benchmarks/team_server.py`.

Both have accounts and one process. Each is filled with runs, then clients log to it at once, then somebody looks at the
table of runs, sorted by a metric. Ratios are those of one round, so a busy machine changes them less than the times.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "team_server"))
from server import TeamServer

SEARCHES: dict[str, dict[str, Any]] = {  # a page of 100 runs, as the UI asks for
    "table of runs, newest": {},
    "table of runs, by metric": {"order_by": ["metrics.roc_auc DESC"]},
    "search by metric": {"filter_string": "metrics.roc_auc > 0.99 and params.parameter_1 = '1'"},
}
METRICS = ("accuracy", "f1", "log_loss", "recall", "roc_auc")


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


def timed(work: Callable[[], object]) -> float:
    """The milliseconds that a call takes."""
    begun = time.perf_counter()
    work()
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


def measure(server: TeamServer, n_runs: int, n_clients: int, n_requests: int) -> dict[str, list[float]]:
    """The milliseconds of each kind of request to one server."""
    server.start()
    try:
        os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": server.secret["admin"]}
        client = MlflowClient(server.uri, server.uri)
        experiment = client.create_experiment("load")
        fill(server.environment["MLFLOW_BACKEND_STORE_URI"], experiment, n_runs)
        found = {"log five metrics": log_at_once(client, experiment, n_clients, n_requests)}
        for name, given in SEARCHES.items():
            search = partial(client.search_runs, [experiment], max_results=100, **given)
            found[name] = [timed(search) for _ in range(9)]
        return found
    finally:
        server.stop()


@click.command()
@click.option("--n_runs", default=100_000, show_default=True)
@click.option("--n_clients", default=20, show_default=True)
@click.option("--n_requests", default=50, show_default=True, help="of each client")
@click.option("--port", default=25_000, show_default=True)
def main(n_runs: int, n_clients: int, n_requests: int, port: int) -> None:
    """Print the 50th and 99th percentile of both, in milliseconds, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        team = measure(TeamServer(Path(folder) / "team", port), n_runs, n_clients, n_requests)
        sqlite = measure(OnSQLite(Path(folder) / "sqlite", port + 10), n_runs, n_clients, n_requests)
    click.echo(f"{n_runs:,} runs, {n_clients} clients at once{'PostgreSQL':>30}{'SQLite':>14}{'ratio':>8}")
    for name in team:
        for percentile in (50, 99):
            ours, theirs = (float(np.percentile(each[name], percentile)) for each in (team, sqlite))
            click.echo(f"{name:<30}p{percentile:<8}{ours:>19.1f} ms{theirs:>11.1f} ms{ours / theirs:>8.2f}")


if __name__ == "__main__":
    main()
