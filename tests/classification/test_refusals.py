"""Bad input ends with one line that names parameter, value and what would be right, and with exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, model_uri

CLASSIFICATION = COLLECTION / "classification"


def table(**changed: list) -> pd.DataFrame:
    """Forty good rows, with columns changed or added."""
    columns = {"amount": [number % 9 for number in range(40)], "churn": ["Yes", "No"] * 20}
    return pd.DataFrame({**columns, **changed})


# Name of the case -> the file, made from the path it is to have.
FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe"),
    "ragged": lambda path: path.write_text("a,churn\n1,Yes\n1,2,3,4\n"),
    "header": lambda path: path.write_text("amount,churn\n"),
    "broken_parquet": lambda path: path.write_bytes(b"PAR1 and no more"),
    "one_class": lambda path: table(churn=["Yes"] * 40).to_csv(path, index=False),
    "missing_target": lambda path: table(churn=["Yes", "No", None, "No"] * 10).to_csv(path, index=False),
    "continuous": lambda path: table(churn=[number / 7 for number in range(40)]).to_csv(path, index=False),
    "rare_class": lambda path: table(churn=["Yes"] * 38 + ["No"] * 2).to_csv(path, index=False),
    "infinite": lambda path: table(amount=[float("inf"), *range(39)]).to_csv(path, index=False),
    "nothing_to_learn": lambda path: table(amount=[1] * 40).to_csv(path, index=False),
    "three_classes": lambda path: table(churn=(["a", "b", "c"] * 14)[:40]).to_csv(path, index=False),
    "good": lambda path: table().to_csv(path, index=False),
}

TRAINING: list[tuple[str, list[str], str]] = [
    ("", ["--data", "nowhere.csv"], "'--data': 'nowhere.csv' does not exist (a relative path starts in the project's"),
    ("", ["--data", "http://127.0.0.1:9/t.csv"], "'--data': 'http://127.0.0.1:9/t.csv' cannot be read: "),
    ("empty", [], "is empty: it needs a header and rows."),
    ("picture", [], "is not a table: neither UTF-8 text nor Parquet."),
    ("ragged", [], "is not a table: Error tokenizing data. C error: Expected 2 fields in line 3, saw 4."),
    ("header", [], "has a header but no rows."),
    ("broken_parquet", [], "cannot be read: "),
    ("good", ["--target", "chrun"], "'--target': 'chrun' is not a column of the table; it has: amount, churn."),
    ("one_class", [], "'--target': 'churn' has the one class 'Yes': at least two are needed."),
    ("missing_target", [], "'--target': 'churn' has 10 missing values: every row needs a class."),
    ("continuous", [], "'--target': 'churn' is continuous (40 distinct numbers)"),
    ("rare_class", [], "'--target': 'churn' has 2 rows of class 'No': test_size=0.25 needs 4 a class."),
    ("infinite", [], "holds infinite values in column 'amount'."),
    ("nothing_to_learn", [], "has no column to learn from."),
    ("good", ["--positive", "yes"], "'--positive': 'yes' is not a class of the target; it has: No, Yes."),
    ("three_classes", ["--positive", "a"], "'--positive': 'a' needs a target with two classes; this one has 3."),
    ("good", ["--drop", "amuont"], "'--drop': 'amuont' is not a column of the table; it has: amount, churn."),
    ("good", ["--test_size", "half"], "'--test_size': 'half' is not a valid float"),
    ("good", ["--test_size", "1.5"], "'--test_size': 1.5 is not in the range 0<x<1."),
    ("good", ["--test_size", "nan"], "'--test_size': 'nan' is not a finite number."),
    ("good", ["--random_state", "-1"], "'--random_state': -1 is not in the range"),
    ("good", ["knn", "--n_neighbors", "0"], "'--n_neighbors': 0 is not in the range x>=1."),
    ("good", ["knn", "--n_neighbors", "31"], "'--n_neighbors': '31' is more than the 30 training rows."),
    ("good", ["decision_tree", "--max_depth", "deep"], "'--max_depth': 'deep' is neither an integer of 1 or more nor"),
    ("good", ["decision_tree", "--criterion", "ginny"], "'--criterion': 'ginny' is not one of 'gini', 'entropy'"),
    ("good", ["decision_tree", "--max_deph", "3"], "No such option '--max_deph'. Did you mean '--max_depth'?"),
    ("good", ["svm", "--gamma", "wide"], "'--gamma': 'wide' is none of: scale, auto, a number above 0."),
    ("good", ["svm", "--C", "nan"], "'--C': 'nan' is not a finite number."),
]


@pytest.fixture(scope="module")
def training(store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("tables")
    commands = []
    for file, arguments, _ in TRAINING:
        if not any(argument in ("knn", "svm", "decision_tree") for argument in arguments):
            arguments = [*arguments, "gaussian_nb"]
        if file:
            FILES[file](folder / file)
            arguments = ["--data", str(folder / file), *arguments]
        commands.append(("train", "train", arguments))
    commands.append(("compare", "compare", ["--models", "knn,svn"]))
    before = len(store.client.search_runs(["0"]))
    found = store.run_several(CLASSIFICATION, commands)
    assert len(store.client.search_runs(["0"])) == before, "a refusal began a run"
    return found


@pytest.mark.parametrize("case", range(len(TRAINING)), ids=[f"{f}{a}" for f, a, _ in TRAINING])
def test_training_refuses(case: int, training: list[Outcome]) -> None:
    assert training[case].code == 2, training[case].output
    assert training[case].output.splitlines()[-1] == f"Error: {training[case].error}"
    assert TRAINING[case][2] in training[case].error


def test_main_refuses_an_unknown_classifier(training: list[Outcome]) -> None:
    line = training[-1].error
    assert line.startswith("Invalid value for '--models': 'svn' is not a classifier; choose from: ann, decision_tree")


PREDICTING: list[tuple[dict | str, str]] = [
    ({"contract": "One year", "tenure": "a while"}, "'a while' in column 'tenure', row 2, is not a (finite) number."),
    ({"contract": "One year"}, "'tenure' is a column that the model needs; the file has: female, senior_citizen"),
    ('{"tenure": 3,', "is malformed JSON at line 2: "),
    ("[1, 2]", "cannot be read: line 2 is not a JSON object."),
]


MODELS = [
    ("runs:/0123456789abcdef0123456789abcdef/model", "Run with id=0123456789abcdef0123456789abcdef not found"),
    ("models:/nobody/1", "Registered Model with name=nobody not found"),
    ("/nowhere", ""),
]


def instances(second: dict | str) -> str:
    """Two new customers as JSON Lines, the second spoilt; both without `tenure` where the second has none."""
    first = json.loads((CLASSIFICATION / "data" / "new_customers.jsonl").read_text().splitlines()[0])
    if isinstance(second, str):
        return f"{json.dumps(first)}\n{second}\n"
    if "tenure" not in second:
        del first["tenure"]
    return "\n".join(json.dumps(row) for row in (first, {**first, **second}))


def test_predict_refuses_a_bad_instance_and_says_where(store: Store, tree: Run, tmp_path: Path) -> None:
    commands = []
    for case, (second, _) in enumerate(PREDICTING):
        (tmp_path / f"{case}.jsonl").write_text(instances(second))
        arguments = ["--model_uri", model_uri(tree), "--data", str(tmp_path / f"{case}.jsonl")]
        commands.append(("predict", "predict", arguments))
    for (_, message), outcome in zip(PREDICTING, store.run_several(CLASSIFICATION, commands), strict=True):
        assert outcome.code == 2, outcome.output
        assert message in outcome.error
        assert "Traceback" not in outcome.output
    begun = store.client.search_runs(["0"], order_by=["start_time DESC"], max_results=len(PREDICTING))
    assert {run.info.status for run in begun} == {"FAILED"}


def test_predict_refuses_a_model_that_cannot_be_loaded(store: Store) -> None:
    before = len(store.client.search_runs(["0"]))
    commands = [("predict", "predict", ["--model_uri", uri]) for uri, _ in MODELS]
    for (uri, reason), outcome in zip(MODELS, store.run_several(CLASSIFICATION, commands), strict=True):
        assert outcome.code == 2
        start = f"Invalid value for '--model_uri': '{uri}' cannot be loaded: {reason}"
        assert outcome.error.startswith(start)
    assert len(store.client.search_runs(["0"])) == before


@pytest.mark.parametrize(
    ("entry_point", "parameters", "message"),
    [
        ("main", {"target": "chrun"}, "'chrun' is not a column of the table"),
        ("knn", {"n_neighbors": "many"}, "'many' is not a valid integer"),
        ("predict", {"model_uri": "models:/nobody/1"}, "Registered Model with name=nobody not found"),
    ],
)
def test_a_refused_run_is_failed_and_says_why(
    entry_point: str, parameters: dict[str, str], message: str, store: Store
) -> None:
    outcome = store.mlflow_run(CLASSIFICATION, entry_point, parameters)
    assert outcome.code != 0
    assert message in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.error
    assert outcome.run.data.tags["error"] == outcome.error
    assert not store.children(outcome.run)


def test_a_relative_store_is_refused_before_it_makes_a_second_database(store: Store) -> None:
    outcome = store.mlflow_run(CLASSIFICATION, "knn", environment={"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"})
    assert outcome.code != 0
    assert "MLFLOW_TRACKING_URI=sqlite:///mlflow.db is relative" in outcome.error
    assert not (CLASSIFICATION / "mlflow.db").exists()


def test_ctrl_c_leaves_no_run_running(store: Store) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "run", str(CLASSIFICATION), "--env-manager", "local"),
            *("--experiment-name", "interrupted", "-P", "models=gaussian_nb,svm,ann"),
        ],
        cwd=store.folder,
        env=store.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal makes one
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("[1/3]"):
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)

    experiment = store.client.get_experiment_by_name("interrupted")
    assert experiment
    runs = store.client.search_runs([experiment.experiment_id])
    assert len(runs) >= 2
    assert process.returncode != 0
    statuses = {run.data.tags["mlflow.runName"]: run.info.status for run in runs}
    assert statuses["gaussian_nb"] == "FINISHED"
    assert set(statuses.values()) <= {"FINISHED", "FAILED", "KILLED"}
    assert [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags] != ["FINISHED"]
