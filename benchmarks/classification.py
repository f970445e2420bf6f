"""What tracking seven classifiers costs in processor time: `python benchmarks/classification.py [rounds]`.

Each round runs, back to back on the same table and with the same parameters,

    apart     each classifier in its own `mlflow run -e <name> --env-manager local`,
    main      all of them in one `mlflow run --env-manager local`,
    script    the same without the client of `mlflow run`, which costs the same whatever it starts: `python compare.py`,
    floor     the same fits and predictions with no MLflow, imports included, in one process,

and reports ratios of processor seconds (user and system, children included), which depend less on how busy the
machine is than seconds do. The last three take turns, three times in a round, and count with their mean. All must reach
the same ROC AUC, or the benchmark fails.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient

EXAMPLE = Path(__file__).resolve().parent.parent / "classification"
# main bounds random_forest too: its own entry point gets the same bound.
CLASSIFIERS = {
    "ann": [],
    "decision_tree": ["max_depth=5"],
    "gaussian_nb": [],
    "knn": [],
    "logistic_regression": [],
    "random_forest": ["max_depth=5"],
    "svm": [],
}

TURNS = 3  # of main, script and floor in a round

FLOOR = """
import json, sys
sys.path.insert(0, sys.argv[1])
from classifiers import CLASSIFIERS
from features import load_split, with_preprocessing
from sklearn.metrics import roc_auc_score

split = load_split("data/churn.csv", "churn", "", "", 0.25, 0)
found = {}
for name, arguments in json.loads(sys.argv[2]).items():
    arguments = [word for argument in arguments for word in ("--" + argument).split("=")]
    classifier = CLASSIFIERS[name].main(arguments, standalone_mode=False)
    if "random_state" in classifier.get_params():
        classifier.set_params(random_state=0)
    pipeline = with_preprocessing(classifier, split.columns).fit(split.X_train, split.y_train)
    found[name] = roc_auc_score(split.y_test == "Yes", pipeline.predict_proba(split.X_test)[:, 1])
print(json.dumps(found))
"""


def processor_seconds() -> float:
    """Processor time of all finished child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(commands: list[list[str]], environment: dict[str, str], folder: Path) -> tuple[float, str]:
    """Processor seconds of commands run one after the other, and what the last one printed."""
    before = processor_seconds()
    output = ""
    for command in commands:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        output = done.stdout
    return processor_seconds() - before, output


def measure(folder: Path) -> dict[str, float]:
    """One round: processor seconds of the four ways, after a check that they reach the same quality."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    run = [sys.executable, "-m", "mlflow", "run", str(EXAMPLE), "--env-manager", "local"]
    with chdir(folder):  # where a new store puts its artifacts
        MlflowClient(uri, uri).search_experiments()  # the database is made once, and not for any of them

    apart = [
        [*run, "-e", name, *(word for parameter in parameters for word in ("-P", parameter))]
        for name, parameters in CLASSIFIERS.items()
    ]
    script = [sys.executable, "compare.py", "--max_depth", "5"]
    floor = [sys.executable, "-c", FLOOR, str(EXAMPLE), json.dumps(CLASSIFIERS)]
    seconds = {"apart": spent(apart, environment, folder)[0], "main": 0.0, "script": 0.0, "floor": 0.0}
    for _ in range(TURNS):
        seconds["main"] += spent([[*run, "-P", "max_depth=5"]], environment, folder)[0] / TURNS
        seconds["script"] += spent([script], environment, EXAMPLE)[0] / TURNS
        used, output = spent([floor], environment, folder)
        seconds["floor"] += used / TURNS

    expected = json.loads(output.splitlines()[-1])
    runs = [run for run in MlflowClient(uri, uri).search_runs(["0"]) if "classifier" in run.data.tags]
    assert len(runs) == (1 + 2 * TURNS) * len(CLASSIFIERS)
    for tracked in runs:
        name = tracked.data.tags["classifier"]
        assert abs(tracked.data.metrics["roc_auc"] - expected[name]) < 1e-9, name
    return seconds


def main(rounds: int) -> None:
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        print("Warning: PYTHONDONTWRITEBYTECODE is set: every start compiles anew, and no figure here is typical.")
    versions = [f"{name} {version(name)}" for name in ("mlflow", "scikit-learn", "keras")]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(", ".join([machine, f"Python {platform.python_version()}", *versions]))
    ratios: dict[str, list[float]] = {"apart / main": [], "main / floor": [], "script / floor": []}
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(Path(folder))
        for ratio, values in ratios.items():
            above, below = ratio.split(" / ")
            values.append(seconds[above] / seconds[below])
        shown = "  ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        print(f"round {number}: {shown}", flush=True)
    for ratio, values in ratios.items():
        print(f"{ratio}: median {statistics.median(values):.2f}, from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
