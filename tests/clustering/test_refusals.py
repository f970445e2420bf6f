"""Bad input ends with one line that names parameter, value and what would be right, and with exit code 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Outcome, Store, model_uri
from sklearn.linear_model import LogisticRegression

CLUSTERING = COLLECTION / "clustering"


def table(rows: int = 40, **changed: list) -> pd.DataFrame:
    """Good rows, with columns changed or added."""
    columns = {
        "tenure": [number % 9 for number in range(rows)],
        "monthly_charges": [number % 7 for number in range(rows)],
    }
    return pd.DataFrame({**columns, **changed})


# Name of the case -> the file, made from the path it is to have.
FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe"),
    "ragged": lambda path: path.write_text("tenure,monthly_charges\n1,2\n1,2,3,4\n"),
    "header": lambda path: path.write_text("tenure,monthly_charges\n"),
    "good": lambda path: table().to_csv(path, index=False),
    "constant": lambda path: table(tenure=[3] * 40).to_csv(path, index=False),
    "hollow": lambda path: table(tenure=[None] * 40).to_csv(path, index=False),
    "missing": lambda path: table(tenure=[None, 1, 2, 3] * 10).to_csv(path, index=False),
    "infinite": lambda path: table(tenure=[float("inf"), *range(39)]).to_csv(path, index=False),
    "negative": lambda path: table(tenure=[-1, *range(39)]).to_csv(path, index=False),
    "few": lambda path: table(tenure=[1, 2] * 20, monthly_charges=[1, 1, 2, 2] * 10).to_csv(path, index=False),
    "three": lambda path: table(rows=3).to_csv(path, index=False),
    "text": lambda path: table(contract=["a", "b"] * 20).to_csv(path, index=False),
    "texts": lambda path: table(60, contract=[f"n{number}" for number in range(60)]).to_csv(path, index=False),
    "dates": lambda path: table(since=pd.date_range("2026-01-01", periods=40).tolist()).to_parquet(path, index=False),
    "late": lambda path: table(2000, tenure=[*np.arange(1999.0), None]).to_parquet(
        path, index=False, row_group_size=500
    ),
}

STREAMED = ["--algorithm", "minibatch", "--batch_size", "500", "--init_size", "100"]

FITTING: list[tuple[str, list[str], str]] = [
    ("", ["--data", "nowhere.csv"], "'--data': 'nowhere.csv' does not exist (a relative path starts in the project's"),
    ("", ["--data", "http://127.0.0.1:9/t.csv"], "'--data': 'http://127.0.0.1:9/t.csv' cannot be read: "),
    ("empty", [], "is empty: it needs a header and rows."),
    ("picture", [], "is not a table: neither UTF-8 text nor Parquet."),
    ("ragged", [], "is not a table: Error tokenizing data. C error: Expected 2 fields in line 3, saw 4."),
    ("header", [], "has a header but no rows."),
    ("good", ["--columns", "tenuer"], "'--columns': 'tenuer' is not a column of the table; it has: tenure, monthly_ch"),
    ("good", ["--drop", "x y"], "'--drop': 'x y' is not a column of the table; it has: tenure, monthly_charges."),
    ("good", ["--profile", "churn"], "'--profile': 'churn' is not a column of the table"),
    ("good", ["--log_columns", "log"], "'--log_columns': 'log' is not a column of the table"),
    (
        "good",
        ["--axes", "tenure"],
        "'--axes': 'tenure' must be two of the columns of numbers: tenure, monthly_charges.",
    ),
    ("good", ["--drop", "tenure,monthly_charges"], "has no column to fit on."),
    (
        "text",
        ["--columns", ""],
        "'--columns': 'contract' holds text: give -P categories=onehot to fit on it, -P profile=",
    ),
    (
        "text",
        ["--log_columns", "contract"],
        "'--log_columns': 'contract' is not one of the columns of numbers to fit on.",
    ),
    (
        "texts",
        ["--columns", "", "--categories", "onehot"],
        "'contract' holds 60 different texts, too many to encode: give",
    ),
    ("dates", ["--columns", ""], "'--columns': 'since' holds dates, which K-Means cannot measure: give -P drop=since."),
    ("constant", [], "'--columns': 'tenure' is constant (3.0): it tells no segments apart; give -P drop=tenure."),
    ("hollow", [], "'--columns': 'tenure' is empty: it tells no segments apart; give -P drop=tenure."),
    (
        "missing",
        [],
        "'--columns': 'tenure' has 10 missing values in 40 rows: give -P missing=impute to fill in the median",
    ),
    ("late", STREAMED, "'--columns': 'tenure' has 1 missing values in 2,000 rows: give -P missing=impute"),
    ("infinite", [], "'--data': 'inf' in column 'tenure', row 1, is not a (finite) number."),
    ("negative", ["--log_columns", "tenure"], "'--log_columns': 'tenure' has 1 values of -1 or less, which log(1 + x)"),
    ("few", ["--n_clusters", "5"], "'--n_clusters': '5' is more than the 4 distinct rows of the columns to fit on."),
    ("three", ["--n_clusters", "3"], "'--n_clusters': '3' is too many for 3 rows: a segment needs several."),
    ("good", ["--n_clusters", "1"], "'--n_clusters': 1 is not in the range x>=2."),
    ("good", ["--n_clusters", "four"], "'--n_clusters': 'four' is not a valid integer range."),
    ("good", ["--n_init", "0"], "'--n_init': 0 is not in the range x>=1."),
    ("good", ["--tol", "nan"], "'--tol': 'nan' is not a finite number."),
    ("good", ["--random_state", "-1"], "'--random_state': -1 is not in the range"),
    (
        "good",
        ["--algorithm", "dbscan"],
        "'--algorithm': 'dbscan' is not one of 'lloyd', 'elkan', 'minibatch', 'spark'",
    ),
    ("good", ["--missing", "ignore"], "'--missing': 'ignore' is not one of 'refuse', 'impute'."),
    ("good", ["--n_cluster", "3"], "No such option '--n_cluster'. (Did you mean one of: '--columns', '--n_clusters'?)"),
    ("good", ["sweep", "--k_min", "6", "--k_max", "3"], "'--k_min': '6' is more than k_max=3."),
    ("few", ["sweep"], "'--k_max': '20' is more than the 4 distinct rows of the columns to fit on."),
    ("good", ["sweep", "--choose", "gap"], "'--choose': 'gap' is not one of 'silhouette', 'davies_bouldin'"),
]

PREDICTING: list[tuple[str, str]] = [
    ('{"tenure": 3}', "'--data': 'monthly_charges' is a column that the model needs; the file has: tenure."),
    ('{"tenure": "a while", "monthly_charges": 3}', "'a while' in column 'tenure', row 1, is not a (finite) number."),
    (
        '{"tenure": 1, "monthly_charges": 3}\n{"tenure": null, "monthly_charges": 3}',
        "'nan' in column 'tenure', row 2: a value is missing: fit with missing=impute to allow it.",
    ),
    ('{"tenure": 1, "monthly_charges": 3}\n{"tenure": 3,', "is malformed JSON at line 2: "),
    ('{"tenure": 1, "monthly_charges": 3}\n[1, 2]', "cannot be read: line 2 is not a JSON object."),
]

MODELS = [
    ("runs:/0123456789abcdef0123456789abcdef/model", "cannot be loaded: Run with id=0123456789abcdef0123456789abcdef"),
    ("models:/nobody/1", "cannot be loaded: Registered Model with name=nobody not found"),
    ("/nowhere", "cannot be loaded: "),
]


@pytest.fixture(scope="module")
def fitting(store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("tables")
    commands = []
    for file, arguments, _ in FITTING:
        script = "sweep" if arguments[:1] == ["sweep"] else "fit"
        arguments = [argument for argument in arguments if argument != "sweep"]
        if file:
            FILES[file](folder / file)
            arguments += ["--data", str(folder / file)]
        commands.append((script, script, arguments))
    before = len(store.client.search_runs(["0"]))
    found = store.run_several(CLUSTERING, commands)
    assert len(store.client.search_runs(["0"])) == before, "a refusal began a run"
    return found


@pytest.mark.parametrize("case", range(len(FITTING)), ids=[f"{file}{arguments}" for file, arguments, _ in FITTING])
def test_fitting_refuses(case: int, fitting: list[Outcome]) -> None:
    assert fitting[case].code == 2, fitting[case].output
    [line] = fitting[case].output.splitlines()
    assert line.startswith("Error: ")
    assert FITTING[case][2] in line


def test_predict_refuses_and_says_where(store: Store, segmented: Run, tmp_path: Path) -> None:
    commands = []
    for case, (text, _) in enumerate(PREDICTING):
        (tmp_path / f"{case}.jsonl").write_text(text)
        commands.append(
            ("predict", "predict", ["--model_uri", model_uri(segmented), "--data", str(tmp_path / f"{case}.jsonl")])
        )
    commands += [("predict", "predict", ["--model_uri", uri]) for uri, _ in MODELS]
    commands.append(
        ("predict", "predict", ["--model_uri", model_uri(segmented), "--output", "/no/such/folder/out.csv"])
    )
    expected = [message for _, message in [*PREDICTING, *MODELS]] + ["lies in a folder that does not exist."]
    for message, outcome in zip(expected, store.run_several(CLUSTERING, commands), strict=True):
        assert outcome.code == 2, outcome.output
        assert outcome.output.splitlines()[-1] == f"Error: {outcome.error}"
        assert message in outcome.error
        assert "Traceback" not in outcome.output
    statuses = {run.info.status for run in store.client.search_runs(["0"])}
    assert "RUNNING" not in statuses


def test_predict_refuses_a_model_of_another_kind(store: Store, tmp_path: Path) -> None:
    rows = table()
    model = LogisticRegression().fit(rows, rows["tenure"] > 4)
    mlflow.sklearn.save_model(model, tmp_path / "model", input_example=rows.astype(float), pip_requirements=[])
    command = ("predict", "predict", ["--model_uri", str(tmp_path / "model")])
    [outcome] = store.run_several(CLUSTERING, [command])
    assert outcome.code == 2
    assert "is no Pipeline that ends in K-Means." in outcome.error


@pytest.mark.parametrize(
    ("entry_point", "parameters", "message"),
    [
        ("main", {"k_min": 7, "k_max": 3}, "'7' is more than k_max=3."),
        ("kmeans", {"columns": "tenure,contract"}, "'contract' holds text: give -P categories=onehot"),
        ("predict", {"model_uri": "models:/nobody/1"}, "Registered Model with name=nobody not found"),
    ],
)
def test_a_refused_run_is_failed_and_says_why(
    entry_point: str, parameters: dict[str, object], message: str, store: Store
) -> None:
    outcome = store.mlflow_run(CLUSTERING, entry_point, parameters)
    assert outcome.code != 0
    assert message in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.error
    assert outcome.run.data.tags["error"] == outcome.error
    assert not store.children(outcome.run)


def test_an_elbow_that_is_not_there_fails_the_parent_alone(store: Store) -> None:
    outcome = store.mlflow_run(CLUSTERING, parameters={"k_max": 3, "choose": "elbow"})
    assert outcome.code != 0
    assert "'elbow' finds no elbow from k_min=2 to k_max=3: choose by another one." in outcome.error
    assert outcome.run.info.status == "FAILED"
    assert [child.info.status for child in store.children(outcome.run)] == ["FINISHED", "FINISHED"]


def test_ctrl_c_leaves_no_run_running(store: Store) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "run", str(CLUSTERING), "--env-manager", "local"),
            *("--experiment-name", "interrupted segments"),
        ],
        cwd=store.folder,
        env=store.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a process group of its own, as a terminal makes one
    )

    def runs() -> list[Run]:
        experiment = store.client.get_experiment_by_name("interrupted segments")
        return list(store.client.search_runs([experiment.experiment_id])) if experiment else []

    while len(runs()) < 3 and process.poll() is None:  # the parent and two children
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)

    assert process.returncode != 0
    statuses = [run.info.status for run in runs()]
    assert 3 <= len(statuses) < 20
    assert set(statuses) <= {"FINISHED", "FAILED", "KILLED"}
    assert [run.info.status for run in runs() if "mlflow.parentRunId" not in run.data.tags] != ["FINISHED"]


def test_a_package_that_is_not_installed(store: Store, tmp_path: Path) -> None:
    """As after `make run`, whose environment is that of classification."""
    (tmp_path / "kneed.py").write_text("raise ModuleNotFoundError(\"No module named 'kneed'\", name='kneed')\n")
    outcome = store.mlflow_run(CLUSTERING, environment={"PYTHONPATH": str(tmp_path)})
    assert outcome.code == 1
    assert outcome.error == (
        "the package kneed is not installed in this environment: python -m pip install -r clustering/requirements.txt"
    )
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
