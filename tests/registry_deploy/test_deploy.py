"""`deploy.py` as a command: what it does to the registry and to an endpoint on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from running import COLLECTION, PATIENCE, Outcome, Store, free_port

EXAMPLE = COLLECTION / "registry_deploy"


@pytest.fixture
def endpoint(
    server: Any, run: Callable[..., Outcome], log: Callable[..., str], validation: Path
) -> Iterator[Callable[..., Outcome]]:
    """The verbs of an endpoint `e`; the registry holds `served`, version 2 champion and version 1 previous."""
    environment = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

    def verb(doing: str, *, script: str = "deploy.py", **options: Any) -> Outcome:
        return run(script, *doing.split(), environment=environment, **options)

    for seconds in (0.0, 0.001):
        uri = log("slow", uri=server.uri, seconds=seconds)
        verb("", script="register.py", model_uri=uri, name="served")
        given = {"data": validation, "target": "y", "n_resamples": 200, "thresholds": "", "max_slowdown": 1000}
        outcome = verb("", script="promote.py", model_uri="models:/served@challenger", **given)
        assert outcome.code == 0, outcome.output
    yield verb
    verb("undeploy", endpoint="e")


def test_an_endpoint_and_the_registry_know_of_each_other(
    endpoint: Callable[..., Outcome], server: Any, tmp_path: Path
) -> None:
    client = MlflowClient(server.uri, server.uri)
    assert "is not deployed" in endpoint("rollback", endpoint="e").error
    outcome = endpoint("deploy", endpoint="e", port=-1, model_uri="models:/served@previous", canary=10)
    assert outcome.code == 0, outcome.output
    port = outcome.output.partition("e: http://127.0.0.1:")[2].partition("/invocations")[0]
    assert "blue served       1   100 % healthy" in outcome.output
    outcome = endpoint("deploy", endpoint="e", model_uri="models:/served@champion", canary=50)
    assert "50 % healthy" in outcome.output
    assert [key for key in client.get_model_version("served", "2").tags if key.startswith("deployed.local.e.")]
    outcome = endpoint("deploy", endpoint="e", model_uri="models:/served@champion")
    assert "green served       2   100 % healthy" in outcome.output
    again = endpoint("deploy", endpoint="e", model_uri="models:/served@champion")
    assert "green served       2   100 % healthy" in again.output  # started again, it would be blue

    for doing, options in {
        "rename": {"name": "served", "new_name": "other"},
        "delete": {"name": "served", "version": "1", "confirm": "served/1"},
    }.items():
        if doing == "delete":
            client.delete_registered_model_alias("served", "previous")
        line = endpoint(doing, script="registry.py", **options).error
        assert "is deployed: local.e." in line
        assert f"Undeploy it before you {doing} it" in line

    rows = pd.DataFrame({"x": [2.0, -2.0, None], "z": [0, 1, 2], "name": ["ann", "bob", "cy"]})
    rows.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    outcome = endpoint("score", endpoint="e", data=tmp_path / "new.jsonl", output=tmp_path / "scored.csv")
    assert outcome.code == 0, outcome.output
    assert pd.read_csv(tmp_path / "scored.csv")["prediction"].tolist() == ["yes", "no", "no"]
    (tmp_path / "bad.json").write_text(json.dumps([{"x": "high", "z": 1}]))
    assert "'high' in column 'x', row 1," in endpoint("score", endpoint="e", data=tmp_path / "bad.json").error

    outcome = endpoint("rollback", endpoint="e")
    assert "champion of served is version 1 again." in outcome.output
    assert {alias: str(n) for alias, n in client.get_registered_model("served").aliases.items()} == {"champion": "1"}
    assert "rolled_back_at" in client.get_model_version("served", "2").tags
    assert "e: nothing to roll back to" in endpoint("rollback", endpoint="e").error

    # The tracking server away: the endpoint goes on, a deploy is refused in one line, an undeploy is done all the same.
    body = {"dataframe_records": [{"x": 2.0, "z": 0.0}]}
    server.stop()
    assert requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=PATIENCE).json() == {
        "predictions": ["yes"]
    }
    line = endpoint("deploy", endpoint="e", model_uri="models:/served/2").error
    assert line == f"{server.uri} could not do model-versions/get: Connection refused."
    assert "100 % healthy" in endpoint("status", endpoint="e").output
    assert requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=PATIENCE).status_code == 200
    outcome = endpoint("undeploy", endpoint="e")
    assert outcome.code == 0
    assert "e: stopped; nothing is deployed any more." in outcome.output
    assert f"the registry was not told of this deployment: {server.uri} could not do model-versions/" in outcome.output
    server.start()
    assert "e: nothing was deployed." in endpoint("undeploy", endpoint="e").output  # and the registry is told
    assert not [key for key in client.get_model_version("served", "1").tags if key.startswith("deployed.")]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/ping", timeout=PATIENCE)


# The command, what is typed behind it, and a part of the line that refuses it.
MISTYPED = [
    ("deploy deploy", "--target=moon", "'--target': 'moon' is not one of 'local', 'azureml', 'databricks'."),
    ("deploy deploy", "--canary=0", "'--canary': 0 is not in the range 1<=x<=100."),
    ("deploy deploy", "--endpoint=a b", "'--endpoint': 'a b' is no name for an endpoint"),
    ("deploy deploy", "--endpoint=none --model_uri=models:/nobody@champion", "promote a version first."),
    ("deploy deploy", "--endpoint=none --model_uri=runs:/1/model", "'runs:/1/model' names no version"),
    ("deploy start", "--endpoint=none", "none is not deployed in"),
    ("deploy score", "--endpoint=none", "none is not deployed in"),
    ("deploy score", "--output=nowhere/p.csv", "'--output': 'nowhere/p.csv' lies in a folder that does not exist."),
    ("promote", "--model_uri=runs:/1/model", "'--model_uri': 'runs:/1/model' names no version: give models:/"),
    ("promote", "--model_uri=models:/nobody@challenger", "is not in the registry"),
    ("promote", "--thresholds=roc_auc", "'--thresholds': 'roc_auc' cannot be read: 'roc_auc' is no threshold"),
    ("promote", "--metric=speed", "'--metric': 'speed' is none of: roc_auc, log_loss, accuracy_score."),
    ("promote", "--margin=nan", "'--margin': 'nan' is not a finite number."),
    ("promote", "--confidence=1", "'--confidence': 1.0 is not in the range 0<x<1."),
]


def test_what_is_mistyped_is_refused_in_one_line(store: Store, home: Path, validation: Path) -> None:
    commands = []
    for command, typed, _ in MISTYPED:
        module, *verb = command.split()
        more = {"deploy deploy": [f"--port={free_port()}"], "promote": [f"--data={validation}"]}.get(command, [])
        name = "deployment" if verb else module
        commands.append((module, name, [*verb, *more, *typed.replace(" --", "\0--").split("\0")]))
    found = store.run_several(EXAMPLE, commands, environment={"XDG_STATE_HOME": str(home)})
    for outcome, (_, typed, message) in zip(found, MISTYPED, strict=True):
        assert outcome.code == 2, (typed, outcome.output)
        assert message in outcome.error, typed
