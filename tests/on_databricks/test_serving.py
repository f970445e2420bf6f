"""The target `databricks`: the unmodified SDK against the local workspace, which really answers requests."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from examples import module
from fork_server import forks
from local_workspace import Fault, Workspace
from mlflow.models import infer_signature
from running import COLLECTION, PATIENCE, PROGRAMS, wait_until
from sklearn.tree import DecisionTreeRegressor

databricks_target: Any = module("registry_deploy", "databricks_target")
DatabricksTarget, DeploymentError = databricks_target.DatabricksTarget, databricks_target.DeploymentError
ROWS = pd.DataFrame({"a": [0.1, np.nan, 1 / 3], "b": [1.0, 2.0, 3.0]})
PACKAGES = [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "pandas", "scikit-learn", "skops")]
NUMBERS = "models:/main.serving.numbers"


@pytest.fixture(scope="module")
def registered(workspace: Workspace) -> None:
    """Versions 1 to 3 of main.serving.numbers, which answer their own number, and models with something amiss."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workspace.environment.items():
            if name.startswith("DATABRICKS_"):
                patch.setenv(name, value)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri("databricks")
        experiment = mlflow.create_experiment("/Shared/serving")
        given = {"input_example": ROWS, "pip_requirements": PACKAGES, "signature": infer_signature(ROWS, np.ones(3))}
        with mlflow.start_run(experiment_id=experiment):
            for number in (1.0, 2.0, 3.0):
                tree = DecisionTreeRegressor().fit(ROWS, np.full(3, number))
                trusted = ["sklearn.tree._tree.Tree"]
                name = "main.serving.numbers"
                mlflow.sklearn.log_model(
                    tree, name="tree", registered_model_name=name, skops_trusted_types=trusted, **given
                )
            for fault in ("crash", "wrong"):
                mlflow.pyfunc.log_model(
                    name="faulty",
                    python_model=str(PROGRAMS / "faulty_on_databricks.py"),
                    model_config={"fault": fault},
                    registered_model_name=f"main.serving.{fault}",
                    **given,
                )
        mlflow.set_tracking_uri(before)


@pytest.fixture
def said() -> list[str]:
    """What a target has told."""
    return []


@pytest.fixture
def target(connected: Workspace, registered: None, said: list[str]) -> Iterator[Callable[..., Any]]:
    """Makes targets, and removes their endpoints afterwards."""
    made = []

    def make(name: str, **more: Any) -> Any:
        made.append(DatabricksTarget(name, say=said.append, **more))
        return made[-1]

    yield make
    for one in made:
        one.undeploy()
        assert not one.status().colours


def shown(status: Any) -> dict[str, tuple[str, int]]:
    return {name: (colour.model_version, colour.traffic) for name, colour in status.colours.items()}


def refused(verb: Callable[..., Any], *given: Any, **more: Any) -> str:
    with pytest.raises(DeploymentError) as caught:
        verb(*given, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_request_is_lost_over_five_switches_and_two_rollbacks(
    target: Callable[..., Any], connected: Workspace
) -> None:
    busy = target("busy")
    busy.deploy(f"{NUMBERS}/1")
    uri, counts, stop = busy.status().scoring_uri, Counter[str](), threading.Event()
    body = {"dataframe_split": {"columns": ["a", "b"], "data": [[0.5, 1.0], [1.5, 2.0]]}}

    def send() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {connected.token}"
            while not stop.is_set():
                answer = session.post(uri, json=body, timeout=PATIENCE)
                said = answer.json().get("predictions", answer.text) if answer.ok else answer.text
                whole = answer.ok and len(said) == 2 and len(set(said)) == 1
                counts[f"version {said[0]:.0f}" if whole else f"lost: {answer.status_code} {said}"] += 1

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number, canary in ((2, 20), (2, 100), (3, 50), (3, 100)):
            busy.deploy(f"{NUMBERS}/{number}", canary=canary)
        busy.rollback()
        busy.deploy(f"{NUMBERS}/3")
        busy.rollback()
        wait_until(lambda: sum(counts.values()) > 200)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(f"5 switches and 2 rollbacks under load: {dict(counts)}")
    assert set(counts) == {"version 1", "version 2", "version 3"}


def test_the_life_of_an_endpoint(target: Callable[..., Any], said: list[str], connected: Workspace) -> None:
    life = target("life", workload_size="Medium")
    assert life.owner == connected.url
    assert life.status().scoring_uri == ""
    assert "no such endpoint" in refused(life.rollback)
    assert shown(life.deploy(f"{NUMBERS}/1", canary=10)) == {"blue": ("1", 100)}  # nothing else could answer
    assert "size Medium" in said[0]
    assert "scales to zero" in said[0]
    assert life.score(ROWS) == [1.0, 1.0, 1.0]
    [entity] = connected.call("GET", "/api/2.0/serving-endpoints/life").json()["config"]["served_entities"]
    assert (entity["scale_to_zero_enabled"], entity["workload_size"]) == (True, "Medium")
    assert shown(life.deploy(f"{NUMBERS}/2", canary=10)) == {"blue": ("1", 90), "green": ("2", 10)}
    assert "a canary is under way" in refused(life.deploy, f"{NUMBERS}/3")
    assert shown(life.rollback()) == {"blue": ("1", 100)}
    assert "nothing to roll back to" in refused(life.rollback)
    life.deploy(f"{NUMBERS}/2")
    assert shown(life.deploy(f"{NUMBERS}/3")) == {"green": ("2", 0), "amber": ("3", 100)}
    assert shown(life.deploy(f"{NUMBERS}/1")) == {"amber": ("3", 0), "blue": ("1", 100)}
    assert shown(life.rollback()) == {"amber": ("3", 100)}
    life.deploy(f"{NUMBERS}/3")
    assert said[-1] == "life already serves main.serving.numbers version 3 from amber"


@pytest.mark.parametrize(
    ("model_uri", "line"),
    [
        ("models:/main.serving.crash/1", "the weights are gone"),
        ("models:/main.serving.wrong/1", "wrong answer from amber"),
        ("models:/main.serving.none/1", "models:/main.serving.none/1"),
        ("runs:/0a/model", "expected models:/name@alias"),
    ],
)
def test_a_deploy_that_fails_leaves_the_endpoint_as_it_was(
    model_uri: str, line: str, target: Callable[..., Any]
) -> None:
    live = target("kept")
    live.deploy(f"{NUMBERS}/1")
    before = live.deploy(f"{NUMBERS}/2")
    assert line in refused(live.deploy, model_uri)
    assert live.status() == before
    assert shown(live.rollback()) == {"blue": ("1", 100)}


def test_a_first_deploy_that_fails_leaves_no_endpoint(
    target: Callable[..., Any], connected: Workspace, faults: list[Fault]
) -> None:
    new = target("new")
    for fault in ("crash", "wrong"):
        refused(new.deploy, f"models:/main.serving.{fault}/1")
        assert connected.call("GET", "/api/2.0/serving-endpoints/new").status_code == 404
    faults.append(Fault("/serving-endpoints/new", 403))
    assert "CAN QUERY" in refused(new.deploy, f"{NUMBERS}/1")
    assert connected.call("GET", "/api/2.0/serving-endpoints/new").status_code == 404


def test_an_endpoint_of_somebody_else_is_left_alone(target: Callable[..., Any], connected: Workspace) -> None:
    entity = {"entity_name": "main.serving.numbers", "entity_version": "1", "workload_size": "Small"}
    api = "/api/2.0/serving-endpoints"
    connected.call("POST", api, json={"name": "theirs", "config": {"served_entities": [entity]}}).raise_for_status()
    assert "serves numbers-1" in refused(target("theirs").deploy, f"{NUMBERS}/2")
    connected.call("DELETE", f"{api}/theirs").raise_for_status()


def test_what_cannot_be_a_target_is_refused(connected: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected at most 63 letters" in refused(DatabricksTarget, "a b")
    assert "expected Small, Medium, Large" in refused(DatabricksTarget, "a", workload_size="Standard_DS3_v2")
    monkeypatch.setenv("DATABRICKS_TOKEN", "wrong")
    assert "DATABRICKS_CONFIG_PROFILE" in refused(DatabricksTarget("a").status)
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("HOME", "/nowhere")
    assert "sign in: DATABRICKS_HOST" in refused(DatabricksTarget, "a")
    mlflow.set_tracking_uri("sqlite://")
    monkeypatch.setenv("DATABRICKS_TOKEN", connected.token)
    assert "export MLFLOW_TRACKING_URI=databricks" in refused(DatabricksTarget("a").deploy, f"{NUMBERS}/1")


def test_the_verbs_of_the_page(target: Callable[..., Any], connected: Workspace) -> None:
    page = (COLLECTION / "on_databricks" / "README.md").read_text(encoding="utf-8")
    deploy, status, rollback, undeploy = re.findall(r"`mlflow run registry_deploy -e (.*target=databricks.*?)`", page)
    connected.client.set_registered_model_alias("main.serving.numbers", "champion", "1")
    target("churn").deploy(f"{NUMBERS}/2")

    def typed(words: str) -> str:
        verb, *parameters = words.replace("main.default.churn", "main.serving.numbers").replace(" -P ", " ").split()
        entry = [verb, *(word for each in parameters if each != "-P" for word in f"--{each}".split("=", 1))]
        done = connected.run([f"{forks()}/python", "deploy.py", *entry], COLLECTION / "registry_deploy")
        assert done.code == 0, done.output
        return done.output

    assert "answers 10 % of the requests" in typed(deploy)
    assert re.search(r"green +main.serving.numbers +1 +10 %", typed(status))
    assert re.search(r"blue +main.serving.numbers +2 +100 %", typed(rollback))
    assert "it is billed no more" in typed(undeploy)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"entity_version": "99"}, "RESOURCE_DOES_NOT_EXIST"),
        ({"entity_name": "churn"}, "INVALID_PARAMETER_VALUE"),
        ({"workload_size": "Huge"}, "INVALID_PARAMETER_VALUE"),
        ({"entity_version": None}, "INVALID_PARAMETER_VALUE"),
    ],
)
def test_the_workspace_refuses_what_databricks_refuses(
    change: dict[str, Any], code: str, connected: Workspace, registered: None
) -> None:
    entity = {"entity_name": "main.serving.numbers", "entity_version": "1", "workload_size": "Small", **change}
    said = {"name": "refused", "config": {"served_entities": [entity]}}
    answer = connected.call("POST", "/api/2.0/serving-endpoints", json=said)
    assert answer.json()["error_code"] == code
    assert connected.call("POST", "/serving-endpoints/refused/invocations", json={}).status_code == 404
