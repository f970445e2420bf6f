"""The page's commands for your own endpoint, against a recording as an endpoint leaves it; in this process."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import pytest
from examples import COLLECTION, module
from mlflow.models import infer_signature
from mlflow.projects.utils import load_project
from running import Store
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

PAGE = (COLLECTION / "watch" / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    words[words.index("-e") + 1]: words
    for words in (shlex.split(line) for line in PAGE.splitlines() if line.startswith("mlflow run watch -e"))
}
ROWS = 400
WHEN = pd.Timestamp.now("UTC") - pd.Timedelta(hours=1)
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 2)), columns=["x", "z"])
FRAME["churn"] = np.where(FRAME["x"] + 0.5 * np.random.default_rng(1).normal(size=2000) > 0, "Yes", "No")
NEW = FRAME[-ROWS:].reset_index(drop=True)
LABELS = pd.DataFrame({"request_id": [f"r{place}" for place in range(ROWS)], "row": 0, "churn": NEW["churn"]})


def registered(folder: Path, name: str, model: Any, target: pd.Series, rows: pd.DataFrame = FRAME[:1600]) -> str:
    """A version that learnt from rows of a table; its number."""
    learnt = rows.assign(churn=target[rows.index])
    learnt.to_csv(folder / f"{name}.csv", index=False)
    X = learnt[["x", "z"]]
    with mlflow.start_run(nested=True):
        source = str(folder / f"{name}.csv")
        mlflow.log_input(mlflow.data.pandas_dataset.from_pandas(learnt, source=source), "training")
        info = mlflow.sklearn.log_model(
            model.fit(X, learnt["churn"]),
            name="model",
            signature=infer_signature(X, model.predict(X)),
            metadata={"target": "churn"},
            registered_model_name=name,
            pip_requirements=["scikit-learn"],
        )
    return str(info.registered_model_version)


def record(folder: Path, endpoint: str, version: str, outputs: Any, part: slice = slice(None)) -> None:
    """Requests of one row each that a version answered an hour ago."""
    rows = NEW[part]
    frame = pd.DataFrame({"request_id": LABELS["request_id"][part], "row": 0, "model": endpoint, "version": version})
    frame["time"] = WHEN
    frame["inputs"] = [json.dumps({"x": x, "z": z}) for x, z in zip(rows["x"], rows["z"], strict=True)]
    frame["output"] = [json.dumps(output) for output in outputs]
    place = folder / "record" / endpoint
    place.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(place / f"{version}.parquet", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the commands are typed: a champion `churn`, its recording, labels."""
    folder = tmp_path_factory.mktemp("typed")
    store, before = Store(tmp_path_factory.mktemp("store")), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    model = LogisticRegression()
    version = registered(folder, "churn", model, FRAME["churn"])
    store.client.set_registered_model_alias("churn", "champion", version)
    record(folder, "churn", version, model.predict(NEW[["x", "z"]]))
    LABELS.to_csv(folder / "labels.csv", index=False)
    yield folder
    mlflow.set_tracking_uri(before)


def typed(words: list[str], folder: Path, **more: str) -> int:
    """Run a command of the page as `mlflow run` would, in this process; its exit code."""
    given = dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-P")
    given = {key: value.replace("$PWD", str(folder)) for key, value in given.items()} | more
    entry_point = words[words.index("-e") + 1]
    project: Any = load_project(str(COLLECTION / "watch"))
    _, script, *arguments = shlex.split(project.get_entry_point(entry_point).compute_command(given, None))
    try:
        command = getattr(module("watch", script.removesuffix(".py")), entry_point)
        return int(command.main(arguments, standalone_mode=False) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("drift", "No drift found (3 tests on 400 rows)."),
        ("labels", "400 of 400 rows are labelled."),
        ("retrain", "Nothing to do: nothing asks for it."),
        ("conclude", "Nothing to do: version 1 of churn is no canary any more."),
    ],
)
def test_a_command_of_the_page(entry_point: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(COMMANDS[entry_point], folder) == 0
    assert said in capsys.readouterr().out


def test_the_rows_of_a_model_below_a_run_that_split_the_table_are_verified(folder: Path) -> None:
    """As `mlflow run classification` logs them: the parameters of the split are those of the run above."""
    FRAME.to_csv(folder / "whole.csv", index=False)
    learnt, held_out = train_test_split(FRAME, test_size=0.25, random_state=3, stratify=FRAME["churn"])
    with mlflow.start_run():
        mlflow.log_params({"test_size": 0.25, "random_state": 3})
        version = registered(folder, "below", LogisticRegression(), FRAME["churn"], learnt)
    reference = module("watch", "reference")
    found = reference.read_reference(reference.find_served("below", version), str(folder / "whole.csv"), "churn")
    assert (found.doubt, len(found.X), len(found.held_out)) == ("", len(learnt), len(held_out))


def test_a_model_is_not_asked_for_probabilities_of_rows_without_one_of_its_columns(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = recorded(folder, tmp_path, inputs=[json.dumps({"x": x}) for x in NEW["x"]])
    assert typed(COMMANDS["labels"], folder, record=place) == 0
    told = capsys.readouterr()
    assert "gives no probabilities here (column 'z' was not recorded): metrics of its answers alone" in told.err
    assert " accuracy" in told.out


def recorded(folder: Path, tmp_path: Path, **columns: Any) -> str:
    """The recording of the page with other columns."""
    rows = pd.read_parquet(next((folder / "record" / "churn").glob("*.parquet"))).assign(**columns)
    (tmp_path / "churn").mkdir()
    rows.to_parquet(tmp_path / "churn" / "rows.parquet", index=False)
    return str(tmp_path)


def test_no_drift_is_never_said_of_what_was_not_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = recorded(folder, tmp_path, inputs='{"other": 1}', output="[1, 2]")
    assert typed(COMMANDS["drift"], folder, record=place) == 3
    told = capsys.readouterr().out
    assert "Undecided (0 tests on 400 rows; not compared: x, z, prediction)" in told


def test_a_canary_is_not_concluded_on_labels_of_one_class(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who left are known late: until then no metric can be worked out, and nothing is decided."""
    client, model = mlflow.MlflowClient(), LogisticRegression()
    one, two = (registered(folder, "early", model, FRAME["churn"]) for _ in range(2))
    for version, alias, part in ((one, "previous", slice(200)), (two, "champion", slice(200, None))):
        client.set_registered_model_alias("early", alias, version)
        record(folder, "early", version, model.predict(NEW[["x", "z"]][part]), part)
    LABELS.assign(churn="No").to_csv(tmp_path / "labels.csv", index=False)
    given = {"name": "early", "endpoint": "early", "labels": str(tmp_path / "labels.csv")}
    assert typed(COMMANDS["conclude"], folder, **given) == 3
    assert "Undecided: too few of Yes in the labelled rows of a version" in capsys.readouterr().out


def test_rows_of_one_time_cannot_be_learnt_and_judged_by(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch in one request: none of its rows is older than those that the gate would judge by."""
    assert typed(COMMANDS["retrain"], folder, when="always") == 3
    assert "400 of 400 rows are labelled, all of one time" in capsys.readouterr().out


@pytest.mark.parametrize("entry_point", ["labels", "retrain", "conclude"])
def test_a_model_that_answers_amounts_is_refused_in_one_line(entry_point: str, folder: Path) -> None:
    model = LinearRegression()
    version = registered(folder, "amounts", model, FRAME["x"] * 3)
    mlflow.MlflowClient().set_registered_model_alias("amounts", "champion", version)
    mlflow.MlflowClient().set_registered_model_alias("amounts", "previous", version)
    record(folder, "amounts", version, model.predict(NEW[["x", "z"]]))
    with pytest.raises(click.BadParameter, match=r"answers amounts .*, not classes: of such a model, use drift alone"):
        typed(COMMANDS[entry_point], folder, name="amounts", endpoint="amounts")


def test_a_canary_that_is_worse_is_rolled_back_and_one_that_is_not_gets_all_requests(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conclude, asked = module("watch", "conclude"), []
    monkeypatch.setattr(conclude, "run_project", lambda _, entry_point, *rest: asked.append(entry_point))
    monkeypatch.setattr(conclude, "deploy", lambda *rest: asked.append(rest[1:]))
    good, bad = LogisticRegression(), LogisticRegression()
    client, half = mlflow.MlflowClient(), ROWS // 2
    one = registered(folder, "canary", good, FRAME["churn"])
    shuffled = pd.Series(np.random.default_rng(2).permutation(FRAME["churn"]))
    two = registered(folder, "canary", bad, shuffled)
    record(folder, "canary", one, good.predict(NEW[["x", "z"]][:half]), slice(half))
    record(folder, "canary", two, bad.predict(NEW[["x", "z"]][half:]), slice(half, None))
    for champion, previous, said, then in [
        (two, one, f"Rolled back: version {two} of canary: roc_auc -0.", "rollback"),
        (one, two, f"Kept: version {one} of canary gets all requests: roc_auc +0.", (one, 100)),
    ]:
        client.set_registered_model_alias("canary", "champion", champion)
        client.set_registered_model_alias("canary", "previous", previous)
        assert typed(COMMANDS["conclude"], folder, name="canary", endpoint="canary") == 0
        assert said in capsys.readouterr().out
        assert asked.pop() == then


def test_a_project_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    origin = module("watch", "origin")
    with pytest.raises(click.UsageError, match=r"/elsewhere is not there: give its Git URL"):
        origin.project_of("../elsewhere", "main", {})
    with pytest.raises(click.UsageError, match=r"^https://127\.0\.0\.1:9/x\.git cannot be read: fatal: "):
        origin.project_of("https://127.0.0.1:9/x.git#classification", "main", {})
    gone = origin.Origin(str(tmp_path), "elsewhere", "", "main", {})
    with pytest.raises(click.ClickException, match=r"there is no folder elsewhere\.$"):
        origin.train_again(gone, "data", "my.csv", "again")
