"""What tracking costs, and what the ways of others cost: ratios of processor seconds, at equal quality.

Each round runs, back to back on the bundled table and with the same parameters,

    apart     a `mlflow run` for each classifier, or each number of segments,
    main      all of them in one `mlflow run`,
    script    the same without the client of `mlflow run`, which costs the same whatever it starts,
    floor     the same fits with no MLflow and no picture, imports included, in one process.

The last three take turns, five times a round, and count with their mean. All run in an environment with the example's
requirements and nothing else, and must reach the same metrics, or the benchmark fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from measuring import COLLECTION, PROGRAMS, installed, mlflow_run, must, surroundings
from mlflow import MlflowClient
from mlflow.entities import Run

TURNS = 5  # of main, script and floor in a round
NETWORK = (15, 100)  # epochs: the default of the example, and what the naive loops of others train for
SIX = ("decision_tree", "gaussian_nb", "knn", "logistic_regression", "random_forest", "svm")
ALL = ("ann", "hist_gradient_boosting", *SIX)
KS = range(2, 21)


def classification(folder: Path) -> dict[str, float]:
    """Processor seconds of the four ways to train the classifiers."""
    programs = installed("classification")
    environment, client = surroundings(folder, programs)
    environment["PYTHONPATH"] = str(COLLECTION / "classification")  # for classes of its own in the pipelines
    pipelines = write_pipelines(folder, programs)
    apart = [mlflow_run("classification", name) for name in ALL]
    seconds, printed = four_ways(
        environment,
        folder,
        apart,
        main=mlflow_run("classification"),
        script=["python", "compare.py"],
        floor=["python", str(PROGRAMS / "floor_classification.py"), str(pipelines)],
    )
    expected = {name: {"roc_auc": area} for name, area in json.loads(printed).items()}
    check(all_runs(client), expected)
    return seconds


def clustering(folder: Path) -> dict[str, float]:
    """Processor seconds of the four ways to find 2 to 20 segments."""
    environment, client = surroundings(folder, installed("clustering"))
    environment["PYTHONPATH"] = str(COLLECTION / "clustering")
    floor = ["python", str(PROGRAMS / "floor_clustering.py"), str(COLLECTION / "clustering" / "data" / "customers.csv")]
    seconds, printed = four_ways(
        environment,
        folder,
        [mlflow_run("clustering", "kmeans", n_clusters=k) for k in KS],
        main=mlflow_run("clustering"),
        script=["python", "sweep.py"],
        floor=floor,
    )
    check(all_runs(client), json.loads(printed))
    return seconds


def four_ways(
    environment: dict[str, str],
    folder: Path,
    apart: list[list[str]],
    *,
    main: list[str],
    script: list[str],
    floor: list[str],
) -> tuple[dict[str, float], str]:
    """Processor seconds of each way, and the last line that the floor prints."""
    example = Path(main[2])
    seconds = {"apart": sum(must(command, environment, folder).cpu for command in apart)}
    seconds |= {"main": 0.0, "script": 0.0, "floor": 0.0}
    for _ in range(TURNS):
        seconds["main"] += must(main, environment, folder).cpu / TURNS
        seconds["script"] += must(script, environment, example).cpu / TURNS
        used = must(floor, environment, folder)
        seconds["floor"] += used.cpu / TURNS
    return seconds, used.output.splitlines()[-1]


def scripts(folder: Path) -> dict[str, float]:
    """Processor seconds of a script for each of six classifiers, and of one `mlflow run` with the six."""
    environment, client = surroundings(folder)
    environment["PYTHONPATH"] = str(COLLECTION / "classification")
    pipelines = write_pipelines(folder)
    program = [str(PROGRAMS / "script_a_model.py"), str(pipelines)]
    apart = sum(must(["python", *program, name], environment, folder).cpu for name in SIX)
    expected = {named(run): {"roc_auc": run.data.metrics["roc_auc"]} for run in all_runs(client)}
    main = must(mlflow_run("classification", models=",".join(SIX)), environment, folder).cpu
    check(all_runs(client), expected)
    return {"scripts": apart, "main": main}


def network(folder: Path, epochs: int) -> dict[str, float]:
    """Processor seconds of training the network, naive and ours; their ROC AUC may differ by 0.005."""
    environment, _ = surroundings(folder)
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    pipelines = write_pipelines(folder)
    environment["PYTHONPATH"] = str(COLLECTION / "classification")
    found = {}
    for way in ("naive", "ours"):
        command = ["python", str(PROGRAMS / "network.py"), str(pipelines), way, str(epochs)]
        found[way] = json.loads(must(command, environment, folder).output.splitlines()[-1])
    assert abs(found["naive"]["roc_auc"] - found["ours"]["roc_auc"]) < 0.005, found
    return {f"{way}_{key}": value for way, each in found.items() for key, value in each.items()}


def write_pipelines(folder: Path, programs: Path | None = None) -> Path:
    """The classifiers of `mlflow run classification`, not fitted, from a run in a store of its own."""
    own = folder / "pipelines"
    own.mkdir()
    environment, _ = surroundings(own, programs)
    must(mlflow_run("classification"), environment, own)
    environment["PYTHONPATH"] = str(COLLECTION / "classification")
    must(["python", str(PROGRAMS / "pipelines.py"), str(own / "pipelines.pkl")], environment, own)
    return own / "pipelines.pkl"


def all_runs(client: MlflowClient) -> list[Run]:
    """The runs of a store."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments))


def named(run: Run) -> str:
    """The classifier or the number of segments of a run; empty where it has none."""
    known = {**run.data.tags, **run.data.params}
    return str(known.get("classifier") or known.get("n_clusters") or "")


def check(runs: list[Run], expected: Mapping[str, Mapping[str, float]]) -> None:
    """Fail where a run has other metrics than what was done without MLflow under the same name."""
    for run in runs:
        for metric, wanted in expected.get(named(run), {}).items():
            found = run.data.metrics[metric]
            assert abs(found - wanted) <= 1e-9 * abs(wanted), (named(run), metric, found, wanted)
    assert {named(run) for run in runs} >= set(expected)
