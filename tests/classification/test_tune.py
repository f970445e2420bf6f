"""`tune` searches on the training rows, loses no finished trial, and says whether the result beats the defaults."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, metrics_without_times

CLASSIFICATION = COLLECTION / "classification"
SMALL = ["--model", "decision_tree", "--cv", "3"]
RARE = ["--data", "RARE", "--target", "left", "--positive", ""]  # a table with few rows of a class

REFUSED: list[tuple[list[str], str]] = [
    (
        ["--model", "forest"],
        "'--model': 'forest' is neither all nor a classifier; choose from: all, ann, decision_tree",
    ),
    (["--metric", "mean"], "'--metric': 'mean' is not one of 'roc_auc', 'average_precision'"),
    (["--engine", "dask"], "'--engine': 'dask' is not one of 'local', 'spark'."),
    (["--n_trials", "0"], "'--n_trials': 0 is not in the range x>=1."),
    (["--jobs", "0"], "'--jobs': 0 is not in the range x>=1."),
    (["--timeout", "-1"], "'--timeout': -1.0 is not in the range x>=0."),
    (["--timeout", "1e-6"], "'--timeout': '1e-06' seconds are too few: no trial has finished."),
    (["--cv", "1"], "'--cv': 1 is not in the range 2<=x<=20."),
    ([*RARE, "--cv", "5"], "'--cv': '5' is more than the 4 training rows of class 'yes'."),
    ([*RARE, "--cv", "2"], "'--cv': '2' folds leave fewer than 3 of the 4 training rows of class 'yes' to train on."),
    (["--study", "my study"], "'--study': 'my study' is not a name of letters, digits, dots, hyphens and underscores."),
    (["--study", "first", "--metric", "f1"], "'--study': 'first' was begun with metric=roc_auc; this is metric=f1: "),
    (["--study", "first", "--drop", "Age"], "'--study': 'first' was begun with training_rows="),
    (
        ["--study", "first", "--positive", "good"],
        "'--study': 'first' was begun with positive=bad; this is positive=good",
    ),
]


@pytest.fixture(scope="module")
def table(credit: Path) -> list[str]:
    return ["--data", str(credit), "--target", "Status"]


@pytest.fixture(scope="module")
def outcomes(store: Store, table: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """A search, the same again, one in two worker processes, a tree with its defaults, and what is refused."""
    rare = tmp_path_factory.mktemp("rare") / "rare.csv"
    amounts = pd.DataFrame({"amount": [number % 9 for number in range(60)], "left": ["no"] * 55 + ["yes"] * 5})
    amounts.to_csv(rare, index=False)
    search = [*table, *SMALL, "--positive", "bad", "--n_trials", "16"]
    commands = [
        ("tune", "tune", [*search, "--study", "first"]),
        ("tune", "tune", [*search, "--study", "again"]),
        ("tune", "tune", [*search, "--study", "two", "--jobs", "2"]),
        ("train", "train", [*table, "--positive", "bad", "decision_tree"]),
    ]
    for arguments, _ in REFUSED:
        arguments = [str(rare) if argument == "RARE" else argument for argument in arguments]
        begun = [*table, "--positive", "bad", *SMALL, "--n_trials", "2", *arguments]
        commands.append(("tune", "tune", begun))
    return store.run_several(CLASSIFICATION, commands)


def runs_of(store: Store, study: str) -> tuple[list[Run], list[Run]]:
    """The searches and the trials of a study, the first started first."""
    found = store.client.search_runs(["0"], f"tags.study = '{study}'", order_by=["attributes.start_time ASC"])
    return [run for run in found if "trial" not in run.data.tags], [run for run in found if "trial" in run.data.tags]


@pytest.fixture(scope="module")
def search(store: Store, outcomes: list[Outcome]) -> Run:
    assert outcomes[0].code == 0, outcomes[0].output
    (search,), _ = runs_of(store, "first")
    return search


def test_every_trial_is_a_child_run(store: Store, search: Run) -> None:
    _, trials = runs_of(store, "first")
    children = {child.info.run_id: child for child in store.children(search)}
    assert len(trials) == 16
    assert len(children) == 17  # and the best, refitted
    for trial in trials:
        assert set(trial.data.params) == {"criterion", "max_depth", "min_samples_leaf"}
        assert trial.info.end_time >= trial.info.start_time
        assert trial.info.run_id in children
    finished = [trial for trial in trials if trial.info.status == "FINISHED"]
    best = max(trial.data.metrics["cv_roc_auc"] for trial in finished)
    assert best == search.data.metrics["best_cv_roc_auc"]


def test_a_trial_that_lags_is_given_up(store: Store, search: Run) -> None:
    _, trials = runs_of(store, "first")
    given_up = [trial for trial in trials if trial.info.status == "KILLED"]
    assert len(given_up) == search.data.metrics["pruned_trials"] > 0
    assert not any("cv_roc_auc" in trial.data.metrics for trial in given_up)
    assert all("running_mean" in trial.data.metrics for trial in given_up)


def test_the_search_begins_with_the_defaults(store: Store, search: Run) -> None:
    _, trials = runs_of(store, "first")
    assert trials[0].data.params == {"criterion": "gini", "max_depth": "5", "min_samples_leaf": "20"}


def test_the_same_seed_finds_the_same(store: Store, search: Run, outcomes: list[Outcome]) -> None:
    assert outcomes[1].code == 0, outcomes[1].output
    (again,), trials = runs_of(store, "again")
    assert again.data.metrics["best_cv_roc_auc"] == search.data.metrics["best_cv_roc_auc"]
    assert again.data.metrics["best_roc_auc"] == search.data.metrics["best_roc_auc"]
    assert [trial.data.params for trial in trials] == [trial.data.params for trial in runs_of(store, "first")[1]]


def test_two_worker_processes_share_the_trials(store: Store, outcomes: list[Outcome]) -> None:
    assert outcomes[2].code == 0, outcomes[2].output
    (search,), trials = runs_of(store, "two")
    assert len(trials) == search.data.metrics["trials"] == 16
    choices = [tuple(trial.data.params.values()) for trial in trials]
    assert len(set(choices)) > 12, "both workers draw the same"


def test_what_a_search_leaves(store: Store, search: Run) -> None:
    pictures = {"optimization_history.png", "parallel_coordinate.png", "param_importances.png"}
    assert {"trials.csv", *pictures} <= store.artifacts(search)
    table = pd.read_csv(io.StringIO(store.artifact(search, "trials.csv").read_text()))
    assert set(table["run_id"]) == {trial.info.run_id for trial in runs_of(store, "first")[1]}
    assert set(table["state"]) == {"COMPLETE", "PRUNED"}


def test_it_says_whether_the_result_beats_the_defaults(store: Store, search: Run, outcomes: list[Outcome]) -> None:
    by_default = {
        name.removeprefix("default_roc_auc_"): value
        for name, value in search.data.metrics.items()
        if name.startswith("default_roc_auc_")
    }
    assert len(by_default) == 6  # all but the ann, which is not searched
    assert f"roc_auc {by_default['decision_tree']:.4f}" in outcomes[3].output
    tuned = search.data.metrics["best_roc_auc"]
    assert search.data.tags["beats_defaults"] == str(tuned > max(by_default.values())).lower()
    said = "beats every default" if tuned > max(by_default.values()) else "does not beat the best defaults"
    assert said in outcomes[0].output
    assert said in search.data.tags["mlflow.note.content"]


def test_the_command_of_the_note_trains_the_best_again(store: Store, search: Run, outcomes: list[Outcome]) -> None:
    command = re.search(r"mlflow run classification -e (\w+) (.*) --env-manager local", outcomes[0].output)
    assert command
    assert command[0] in search.data.tags["mlflow.note.content"]
    given = dict(pair.split("=", 1) for pair in shlex.split(command[2]) if pair != "-P")
    of_the_table = [f"--{key}={given.pop(key)}" for key in ("data", "target", "positive")]
    arguments = [*of_the_table, command[1], *(f"--{key}={value}" for key, value in given.items())]
    (outcome,) = store.run_several(CLASSIFICATION, [("train", "train", arguments)])
    model = re.search(r"Model: runs:/(\w+)/model", outcome.output)
    assert model, outcome.output
    best = store.client.get_run(search.data.tags["best_model_uri"].split("/")[1])
    assert metrics_without_times(store.client.get_run(model[1])) == metrics_without_times(best)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_refusals(outcomes: list[Outcome], number: int) -> None:
    outcome = outcomes[4 + number]
    assert outcome.code == 2, outcome.output
    assert outcome.error.startswith(f"Invalid value for {REFUSED[number][1]}")


def test_a_killed_search_goes_on_with_every_finished_trial(table: list[str], tmp_path: Path) -> None:
    store = Store(tmp_path)  # the killed run stays RUNNING: nobody is there to end it
    arguments = [*table, *SMALL, "--study", "killed", "--n_trials", "1000"]
    with subprocess.Popen([sys.executable, "tune.py", *arguments], cwd=CLASSIFICATION, env=store.environment) as script:
        deadline = time.monotonic() + 120
        while len(runs_of(store, "killed")[1]) < 5:
            assert script.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        script.send_signal(signal.SIGKILL)
    _, kept = runs_of(store, "killed")
    parameters = {"data": table[1], "target": table[3], "model": "decision_tree", "cv": 3, "study": "killed"}
    resumed = store.mlflow_run(CLASSIFICATION, "tune", {**parameters, "n_trials": len(kept) + 2})
    assert resumed.code == 0, resumed.output
    assert f"Study killed: {len(kept)} trials are there already." in resumed.output
    _, trials = runs_of(store, "killed")
    assert [trial.info.run_id for trial in trials[: len(kept)]] == [trial.info.run_id for trial in kept]
    assert len(trials) == len(kept) + 2
    assert {trial.info.status for trial in trials} <= {"FINISHED", "KILLED"}
    listed = pd.read_csv(io.StringIO(store.artifact(resumed.run, "trials.csv").read_text()))
    assert set(listed["run_id"]) == {trial.info.run_id for trial in trials}


SPARK = """
import sys
import tune
tune.tune.main(sys.argv[1:], standalone_mode=False)
print("TensorFlow is loaded:", "tensorflow" in sys.modules)
"""


def test_trials_on_spark(store: Store, table: list[str]) -> None:
    arguments = [*table, *SMALL, "--study", "sparkling", "--n_trials", "4", "--engine", "spark", "--jobs", "2"]
    done = subprocess.run(
        [sys.executable, "-c", SPARK, *arguments],
        cwd=CLASSIFICATION,
        env={**store.environment, "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "TensorFlow is loaded: False" in done.stdout
    (search,), _ = runs_of(store, "sparkling")
    (study,) = (child for child in store.children(search) if child.info.run_name == "study sparkling")
    trials = store.children(study)
    assert len(trials) == 4
    best = max(trial.data.metrics["value"] for trial in trials if trial.info.status == "FINISHED")
    assert search.data.metrics["best_cv_roc_auc"] == best
    assert search.data.tags["best_classifier"] == "decision_tree"


def test_without_pyspark_one_line_says_what_to_install(store: Store, table: list[str], tmp_path: Path) -> None:
    (tmp_path / "pyspark.py").write_text("raise ImportError('there is no pyspark here')")
    command = [sys.executable, str(CLASSIFICATION / "tune.py"), *table, *SMALL, "--engine", "spark"]
    outcome = store.run(command, environment={"PYTHONPATH": str(tmp_path)})
    assert outcome.code == 2, outcome.output
    needs = "needs PySpark: install classification/requirements-spark.txt; it needs Java 17."
    assert outcome.error == f"Invalid value for '--engine': 'spark' {needs}"


# A network that is pruned as soon as it can be, and the sentences on a tuned knn and on a log_loss.
IN_PROCESS = """
import json, optuna
from features import load_split
from objective import Objective
from tune import verdict
optuna.logging.set_verbosity(optuna.logging.WARNING)
split = load_split("data/churn.csv", "churn", "", "", 0.9, 0)
objective = Objective(split.X_train, split.y_train, split.columns, split.classes, split.positive,
                      model="ann", metric="roc_auc", cv=2, random_state=0)
study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1.0))
study.optimize(objective, n_trials=1)
defaults = {"knn": 0.7, "svm": 0.8}
print(json.dumps({
    "state": study.trials[0].state.name,
    "steps": list(study.trials[0].intermediate_values),
    "verdicts": [verdict("roc_auc", "knn", tuned, defaults)[1] for tuned in (0.81, 0.75, 0.6)],
    "best": verdict("roc_auc", "svm", 0.8, defaults),
    "lower": verdict("log_loss", "knn", 0.6, defaults),
}))
"""


def test_a_network_is_given_up_amid_its_epochs_and_the_sentences_are_right() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS], cwd=CLASSIFICATION, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["state"], found["steps"]) == ("PRUNED", [25])
    assert found["verdicts"] == [
        "The tuned knn, with roc_auc 0.8100, beats every default: the best of them are svm's, with 0.8000.",
        "The tuned knn, with roc_auc 0.7500, beats its own defaults, with 0.7000, but does not beat the best defaults, "
        "svm's, with 0.8000.",
        "The tuned knn, with roc_auc 0.6000, does not beat its own defaults, with 0.7000, and does not beat the best "
        "defaults, svm's, with 0.8000.",
    ]
    assert found["best"] == [
        False,
        "The tuned svm, with roc_auc 0.8000, does not beat the best defaults, svm's, with 0.8000.",
    ]
    assert found["lower"][0] is True
