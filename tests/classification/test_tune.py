"""`tune` searches on the training rows, loses no finished trial, and says whether the result beats the defaults."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, PROGRAMS, Outcome, Store, metrics_without_times, wait_until

CLASSIFICATION = COLLECTION / "classification"
SMALL = ["--model", "decision_tree", "--cv", "3"]

REFUSED: list[tuple[list[str], str]] = [
    (["--timeout", "1e-9"], "'--timeout': '1e-09' seconds are too few: no trial has finished."),
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
def outcomes(store: Store, table: list[str]) -> list[Outcome]:
    """A search, the same again, a tree with its defaults, and what is refused."""
    search = [*table, *SMALL, "--positive", "bad", "--n_trials", "16"]
    commands = [
        ("tune", "tune", [*search, "--study", "first"]),
        ("tune", "tune", [*search, "--study", "again"]),
        ("train", "train", ["decision_tree", *table, "--positive", "bad"]),
    ]
    for arguments, _ in REFUSED:
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
        assert set(trial.data.params) == {"criterion", "max_depth", "min_samples_leaf", "class_weight"}
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
    assert trials[0].data.params == {
        **{"criterion": "gini", "max_depth": "5", "min_samples_leaf": "20", "class_weight": "None"}
    }


def test_the_same_seed_finds_the_same(store: Store, search: Run, outcomes: list[Outcome]) -> None:
    assert outcomes[1].code == 0, outcomes[1].output
    (again,), trials = runs_of(store, "again")
    assert again.data.metrics["best_cv_roc_auc"] == search.data.metrics["best_cv_roc_auc"]
    assert again.data.metrics["best_roc_auc"] == search.data.metrics["best_roc_auc"]
    assert [trial.data.params for trial in trials] == [trial.data.params for trial in runs_of(store, "first")[1]]


def test_two_worker_processes_share_the_trials(store: Store, table: list[str]) -> None:
    search = [*table, *SMALL, "--positive", "bad", "--n_trials", "16", "--study", "two", "--jobs", "2"]
    outcome = store.run([sys.executable, str(CLASSIFICATION / "tune.py"), *search])
    assert outcome.code == 0, outcome.output
    (found,), trials = runs_of(store, "two")
    assert len(trials) == found.data.metrics["trials"] == 16
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
    assert len(by_default) == 7  # all but the ann, which is not searched
    assert f"roc_auc {by_default['decision_tree']:.4f}" in outcomes[2].output
    said = "beats every default" if search.data.tags["beats_defaults"] == "true" else "the best default"
    assert said in outcomes[0].output
    assert said in search.data.tags["mlflow.note.content"]


def test_the_command_of_the_note_trains_the_best_again(store: Store, search: Run, outcomes: list[Outcome]) -> None:
    command = re.search(r"mlflow run classification -e (\w+) (.*) --env-manager local", outcomes[0].output)
    assert command
    assert command[0] in search.data.tags["mlflow.note.content"]
    given = dict(pair.split("=", 1) for pair in shlex.split(command[2]) if pair != "-P")
    of_the_table = [f"--{key}={given.pop(key)}" for key in ("data", "target", "positive")]
    arguments = [command[1], *of_the_table, *(f"--{key}={value}" for key, value in given.items())]
    (outcome,) = store.run_several(CLASSIFICATION, [("train", "train", arguments)])
    model = re.search(r"Model: runs:/(\w+)/model", outcome.output)
    assert model, outcome.output
    best = store.client.get_run(search.data.tags["best_model_uri"].split("/")[1])
    assert metrics_without_times(store.client.get_run(model[1])) == metrics_without_times(best)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_refusals(outcomes: list[Outcome], number: int) -> None:
    outcome = outcomes[3 + number]
    assert outcome.code == 2, outcome.output
    assert outcome.error.startswith(f"Invalid value for {REFUSED[number][1]}")


def test_a_killed_search_goes_on_with_every_finished_trial(table: list[str], tmp_path: Path) -> None:
    store = Store(tmp_path)  # the killed run stays RUNNING: nobody is there to end it
    arguments = [*table, *SMALL, "--study", "killed", "--n_trials", "1000"]
    with subprocess.Popen([sys.executable, "tune.py", *arguments], cwd=CLASSIFICATION, env=store.environment) as script:
        wait_until(lambda: len(runs_of(store, "killed")[1]) >= 5 or script.poll() is not None)
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


def test_a_network_is_given_up_amid_its_epochs() -> None:
    command = [sys.executable, str(PROGRAMS / "prune_a_network.py")]
    done = subprocess.run(command, cwd=CLASSIFICATION, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"state": "PRUNED", "steps": [25]}
