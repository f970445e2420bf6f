"""More rows and more workers: K-Means and scoring of large tables, here or by Spark; tuning; cold starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from measuring import COLLECTION, Used, announced, in_a_process, installed, mlflow_run, must, run, surroundings

TABLE = COLLECTION / "classification" / "data" / "churn.csv"


def write_table(path: Path, rows: int) -> None:
    """Ten columns: twelve overlapping groups of unequal size, one column with a long tail. A million rows at a time."""
    generator = np.random.default_rng(0)
    centres, weights = generator.normal(size=(12, 10)) * 1.2, generator.dirichlet(np.ones(12))
    names = [f"x{column}" for column in range(10)]
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1_000_000):
            size = min(1_000_000, rows - start)
            values = centres[generator.choice(12, size=size, p=weights)] + generator.normal(size=(size, 10))
            values[:, 0] = np.exp(values[:, 0])
            writer.write_table(pyarrow.table(dict(zip(names, values.T, strict=True)), schema=schema))


def kmeans(rows: int) -> dict[str, dict[str, float]]:
    """Seconds, processor seconds, seconds of the fit, peak memory (MB) and inertia of both algorithms, by algorithm."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, client = surroundings(folder, installed("clustering"))
        in_a_process(write_table, folder / "table.parquet", rows)
        for algorithm, engine in (("lloyd", "local"), ("minibatch", "minibatch")):
            parameters = {"data": folder / "table.parquet", "columns": "", "n_clusters": 8, "engine": engine}
            used = must(mlflow_run("clustering", "kmeans", **parameters), environment, folder)
            metrics = client.get_run(announced(used)).data.metrics
            found[algorithm] = {
                "seconds": used.seconds,
                "cpu": used.cpu,
                "peak": used.peak,
                "fit": metrics["fit_seconds"],
                "inertia": metrics["inertia"],
            }
    return found


def write_customers(path: Path, rows: int) -> None:
    """A Parquet file with the bundled customers over and over, without the target."""
    table = pyarrow.Table.from_pandas(pd.read_csv(TABLE).drop(columns="churn"), preserve_index=False)
    whole = pyarrow.concat_tables([table] * (200_000 // len(table) + 1))
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for start in range(0, rows, 200_000):
            writer.write_table(whole.slice(0, min(200_000, rows - start)))


def score(folder: Path, rows: int, engines: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Classes of so many customers by a logistic regression, with each engine; equal counts of each class asserted."""
    environment, client = surroundings(folder)
    model = announced(must(mlflow_run("classification", "logistic_regression"), environment, folder))
    in_a_process(write_customers, folder / "customers.parquet", rows)
    given = {"model_uri": f"runs:/{model}/model", "data": folder / "customers.parquet"}
    found, counts = {}, []
    for engine in engines:
        more = {"engine": engine, "output": folder / ("spark" if engine == "spark" else "local.parquet")}
        used = must(mlflow_run("classification", "predict", **given, **more), environment, folder)
        tracked = client.get_run(announced(used))
        counts.append({key: value for key, value in tracked.data.metrics.items() if not key.endswith("_seconds")})
        found[engine] = {"seconds": used.seconds, "cpu": used.cpu, "peak": used.peak, "rows": float(rows)}
    assert all(each == counts[0] for each in counts), counts
    return found


def tune(folder: Path, jobs: int, engine: str = "local", n_trials: int = 20) -> dict[str, float]:
    """The study of a random forest with so many workers, or tasks of Spark."""
    environment, client = surroundings(folder)
    options = {"model": "random_forest", "n_trials": n_trials, "jobs": jobs, "engine": engine}
    used = must(mlflow_run("classification", "tune", **options), environment, folder)
    metrics = client.get_run(announced(used)).data.metrics
    return {"seconds": used.seconds, "cpu": used.cpu, **{f"metric_{key}": value for key, value in metrics.items()}}


def tune_each_way(folder: Path) -> dict[str, dict[str, float]]:
    """The same study by one worker, by two, and by two tasks of Spark where it is there."""
    ways = {"1": (1, "local"), "2": (2, "local"), **({"Spark": (2, "spark")} if spark_is_there() else {})}
    found = {}
    for name, (jobs, engine) in ways.items():
        (folder / name).mkdir()
        found[name] = tune(folder / name, jobs, engine)
    return found


def start(folder: Path, env_manager: str) -> dict[str, float] | None:
    """Seconds of the first and the second `mlflow run` of one classifier; None where the manager is not there.

    The environments of MLflow start empty; the caches of uv and conda with downloaded packages do not.
    """
    tool = {"local": "python", "uv": "uv", "conda": "conda"}[env_manager]
    environment, _ = surroundings(folder)
    environment["MLFLOW_ENV_ROOT"] = str(folder / "environments")
    if shutil.which(tool, path=environment["PATH"]) is None:
        return None
    if env_manager == "conda":
        environment["CONDA_ENVS_PATH"] = str(folder / "environments")
    command = mlflow_run("classification", "logistic_regression", env_manager)
    found: list[Used] = []
    for _ in range(2):
        used = run(command, environment, folder, may_fail=True)
        if used is None:
            return None
        found.append(used)
    return {"cold": found[0].seconds, "warm": found[1].seconds}


def spark_is_there() -> bool:
    """Whether PySpark and a Java can be started."""
    java = shutil.which("java") or os.environ.get("JAVA_HOME")
    return find_spec("pyspark") is not None and bool(java)
