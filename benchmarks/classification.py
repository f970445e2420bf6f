"""What tracking seven classifiers costs in processor time: `python benchmarks/classification.py [rounds]`.

Each round runs, back to back on the same table and with the same parameters,

    apart     each classifier in its own `mlflow run -e <name> --env-manager local`,
    main      all of them in one `mlflow run --env-manager local`,
    script    the same without the client of `mlflow run`, which costs the same whatever it starts: `python compare.py`,
    floor     the same fits and predictions with no MLflow, imports included, in one process,

in an environment with the example's requirements and nothing else, and reports ratios of processor seconds (user and
system, children included), which depend less on how busy the machine is than seconds do. The last three take turns,
five times in a round, and count with their mean. All must reach the same ROC AUC, or the benchmark fails.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from measuring import COLLECTION, installed, mlflow_run, must, spread, surroundings

EXAMPLE = COLLECTION / "classification"
# main bounds random_forest too: its own entry point gets the same bound.
CLASSIFIERS: dict[str, dict[str, int]] = {
    "ann": {},
    "decision_tree": {"max_depth": 5},
    "gaussian_nb": {},
    "knn": {},
    "logistic_regression": {},
    "random_forest": {"max_depth": 5},
    "svm": {},
}

TURNS = 5  # of main, script and floor in a round

FLOOR = """
import json, sys
sys.path.insert(0, sys.argv[1])
from classifiers import CLASSIFIERS
from features import load_split, with_preprocessing
from sklearn.metrics import roc_auc_score

split = load_split("data/churn.csv", "churn", "", "", 0.25, 0)
found = {}
for name, parameters in json.loads(sys.argv[2]).items():
    arguments = [word for parameter, value in parameters.items() for word in ("--" + parameter, str(value))]
    classifier = CLASSIFIERS[name].main(arguments, standalone_mode=False)
    if "random_state" in classifier.get_params():
        classifier.set_params(random_state=0)
    pipeline = with_preprocessing(classifier, split.columns).fit(split.X_train, split.y_train)
    found[name] = roc_auc_score(split.y_test == "Yes", pipeline.predict_proba(split.X_test)[:, 1])
print(json.dumps(found))
"""


def measure(folder: Path) -> dict[str, float]:
    """One round: processor seconds of the four ways, after a check that they reach the same quality."""
    environment, client = surroundings(folder, installed("classification"))
    floor = ["python", "-c", FLOOR, str(EXAMPLE), json.dumps(CLASSIFIERS)]
    seconds = {"apart": 0.0, "main": 0.0, "script": 0.0, "floor": 0.0}
    for name, parameters in CLASSIFIERS.items():
        seconds["apart"] += must(mlflow_run("classification", name, **parameters), environment, folder).cpu
    for _ in range(TURNS):
        seconds["main"] += must(mlflow_run("classification", max_depth=5), environment, folder).cpu / TURNS
        seconds["script"] += must(["python", "compare.py", "--max_depth", "5"], environment, EXAMPLE).cpu / TURNS
        used = must(floor, environment, folder)
        seconds["floor"] += used.cpu / TURNS

    expected = json.loads(used.output.splitlines()[-1])
    runs = [run for run in client.search_runs(["0"]) if "classifier" in run.data.tags]
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
        print(f"{ratio}: {spread(values)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
