"""What tracking K-Means costs, and how it grows: `python benchmarks/clustering.py [rounds] [rows ...]`.

First, in each round, back to back on the bundled customers,

    apart     19 runs `mlflow run -e kmeans --env-manager local`, one for each k from 2 to 20,
    main      one `mlflow run --env-manager local`, all 19 in one process,
    script    the same without the client of `mlflow run`, which costs the same whatever it starts: `python sweep.py`,
    floor     the same fits and criteria with no MLflow, imports included, in one process,

in an environment with the example's requirements and nothing else, as ratios of processor seconds (user and system,
children included), which depend less on how busy the machine is than seconds do. The last three take turns, five times
in a round, and count with their mean. All must reach the same criteria, or the benchmark fails.

Then, once for each number of rows (10 columns, Parquet; by default 1e5, 1e6 and 1e7), `algorithm=lloyd` on the whole
table in memory against `algorithm=minibatch`: time, peak memory of the largest process, and the inertia of both.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from measuring import COLLECTION, announced, in_a_process, installed, mlflow_run, must, spread, surroundings

EXAMPLE = COLLECTION / "clustering"
KS = range(2, 21)
TURNS = 5  # of main, script and floor in a round
CRITERIA = ("inertia", "silhouette", "davies_bouldin", "calinski_harabasz")

# The silhouettes are the example's own: with scikit-learn's, the floor would be higher than what stands on it.
FLOOR = """
import json, sys
sys.path.insert(0, sys.argv[1])
import pandas as pd
from criteria import elbow, silhouettes
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

table = pd.read_csv(sys.argv[1] + "/data/customers.csv")
Z = StandardScaler().fit_transform(table[["tenure", "monthly_charges"]].astype("float64"))
with threadpool_limits(1):
    models = [KMeans(k, n_init=10, random_state=0).fit(Z) for k in range(2, 21)]
coefficients = silhouettes(Z, [model.labels_ for model in models])
elbow(list(range(2, 21)), [model.inertia_ for model in models])
print(json.dumps({
    model.n_clusters: {
        "inertia": model.inertia_,
        "silhouette": values.mean(),
        "davies_bouldin": davies_bouldin_score(Z, model.labels_),
        "calinski_harabasz": calinski_harabasz_score(Z, model.labels_),
    }
    for model, values in zip(models, coefficients)
}))
"""


def measure(folder: Path) -> dict[str, float]:
    """One round: processor seconds of the four ways, after a check that they reach the same criteria."""
    environment, client = surroundings(folder, installed("clustering"))
    seconds = {"apart": 0.0, "main": 0.0, "script": 0.0, "floor": 0.0}
    for k in KS:
        seconds["apart"] += must(mlflow_run("clustering", "kmeans", n_clusters=k), environment, folder).cpu
    for _ in range(TURNS):
        seconds["main"] += must(mlflow_run("clustering"), environment, folder).cpu / TURNS
        seconds["script"] += must(["python", "sweep.py"], environment, EXAMPLE).cpu / TURNS
        used = must(["python", "-c", FLOOR, str(EXAMPLE)], environment, folder)
        seconds["floor"] += used.cpu / TURNS

    expected = json.loads(used.output.splitlines()[-1])
    runs = [tracked for tracked in client.search_runs(["0"]) if "n_clusters" in tracked.data.params]
    assert len(runs) == (1 + 2 * TURNS) * len(KS)
    for tracked in runs:
        k = tracked.data.params["n_clusters"]
        for criterion in CRITERIA:
            found, wanted = tracked.data.metrics[criterion], expected[k][criterion]
            assert abs(found - wanted) <= 1e-9 * abs(wanted), (k, criterion, found, wanted)
    return seconds


def compare_ways(rounds: int) -> None:
    """Print the seconds of each round, and the ratios of all."""
    ratios: dict[str, list[float]] = {"apart / main": [], "main / floor": [], "script / floor": []}
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(Path(folder))
        for ratio, values in ratios.items():
            above, below = ratio.split(" / ")
            values.append(seconds[above] / seconds[below])
        print(f"round {number}: " + "  ".join(f"{name} {value:.1f} s" for name, value in seconds.items()), flush=True)
    for ratio, values in ratios.items():
        if values:
            print(f"{ratio}: {spread(values)}")


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


def measure_size(rows: int) -> dict[str, dict[str, float]]:
    """Seconds, processor seconds, seconds of the fit, peak memory (MB) and inertia of both algorithms, by algorithm."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, client = surroundings(folder, installed("clustering"))
        in_a_process(write_table, folder / "table.parquet", rows)
        for algorithm in ("lloyd", "minibatch"):
            parameters = {"data": folder / "table.parquet", "columns": "", "n_clusters": 8, "algorithm": algorithm}
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


def compare_sizes(sizes: list[int]) -> None:
    """Print time, peak memory and inertia of both algorithms for tables of so many rows."""
    for rows in sizes:
        found = measure_size(rows)
        for algorithm, used in found.items():
            print(
                f"{rows:.0e} rows, {algorithm}: {used['seconds']:.0f} s, processor {used['cpu']:.0f} s, of which "
                f"fit {used['fit']:.1f} s; peak {used['peak']:.0f} MB; inertia {used['inertia']:.5g}",
                flush=True,
            )
        ratio = found["minibatch"]["inertia"] / found["lloyd"]["inertia"]
        print(f"{rows:.0e} rows: inertia minibatch / lloyd {ratio:.4f}", flush=True)


if __name__ == "__main__":
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        print("Warning: PYTHONDONTWRITEBYTECODE is set: every start compiles anew, and no figure here is typical.")
    versions = [f"{name} {version(name)}" for name in ("mlflow", "scikit-learn")]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(", ".join([machine, f"Python {platform.python_version()}", *versions]))
    compare_ways(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    compare_sizes([int(float(rows)) for rows in sys.argv[2:]] or [100_000, 1_000_000, 10_000_000])
