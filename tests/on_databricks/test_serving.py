"""The target `databricks`: the unmodified SDK against the local workspace, which really answers requests."""

from __future__ import annotations

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
from local_workspace import Fault, Workspace
from mlflow.models import infer_signature
from running import PATIENCE, PROGRAMS, wait_until
from sklearn.tree import DecisionTreeRegressor

databricks_target: Any = module("registry_deploy", "databricks_target")
DatabricksTarget, DeploymentError = databricks_target.DatabricksTarget, databricks_target.DeploymentError
ROWS = pd.DataFrame({"a": [0.1, np.nan, 1 / 3], "b": [1.0, 2.0, 3.0]})
NUMBERS = "models:/main.serving.numbers"
API = "/api/2.0/serving-endpoints"
ENTITY = {"entity_name": "main.serving.numbers", "entity_version": "1", "workload_size": "Small"}


@pytest.fixture(scope="module")
def registered(workspace: Workspace) -> None:
    """Versions 1 to 3 of main.serving.numbers, which answer their own number, and models with something amiss."""
    given: dict[str, Any] = {"input_example": ROWS, "signature": infer_signature(ROWS, np.ones(3))}
    given |= {"pip_requirements": [f"scikit-learn=={version('scikit-learn')}"], "name": "model"}
    trusted = ["sklearn.tree._tree.Tree"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workspace.environment.items():
            if name.startswith("DATABRICKS_"):
                patch.setenv(name, value)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri("databricks")
        with mlflow.start_run(experiment_id=mlflow.create_experiment("/Shared/serving")):
            for number in (1.0, 2.0, 3.0):
                tree = DecisionTreeRegressor().fit(ROWS, np.full(3, number))
                registered = {"registered_model_name": "main.serving.numbers", "skops_trusted_types": trusted}
                mlflow.sklearn.log_model(tree, **registered, **given)
            for fault in ("crash", "wrong"):
                file, config = str(PROGRAMS / "faulty_on_databricks.py"), {"fault": fault}
                faulty: dict[str, Any] = {"registered_model_name": f"main.serving.{fault}", "model_config": config}
                mlflow.pyfunc.log_model(python_model=file, **faulty, **given)
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
    """What is of Databricks alone; the verbs themselves are typed in test_page.py and tested with the other targets."""
    life = target("life", workload_size="Medium")
    assert life.owner == connected.url
    assert "is not deployed in" in refused(life.rollback)
    assert shown(life.deploy(f"{NUMBERS}/1", canary=10)) == {"blue": ("1", 100)}  # nothing else could answer
    assert "size is Medium" in said[0]
    assert "scales to zero" in said[0]
    assert life.score(ROWS) == [1.0, 1.0, 1.0]
    [entity] = connected.call("GET", f"{API}/life").json()["config"]["served_entities"]
    assert (entity["scale_to_zero_enabled"], entity["workload_size"]) == (True, "Medium")
    life.deploy(f"{NUMBERS}/2")
    assert shown(life.deploy(f"{NUMBERS}/3")) == {"green": ("2", 0), "amber": ("3", 100)}
    assert shown(life.deploy(f"{NUMBERS}/1")) == {"amber": ("3", 0), "blue": ("1", 100)}
    assert shown(life.rollback()) == {"amber": ("3", 100)}


def test_a_deploy_that_fails_leaves_the_endpoint_as_it_was(target: Callable[..., Any]) -> None:
    live = target("kept")
    live.deploy(f"{NUMBERS}/1")
    before = live.deploy(f"{NUMBERS}/2")
    lines = {"crash": "the weights are gone", "wrong": "wrong answer from amber", "none": "models:/main.serving.none/1"}
    for fault, line in lines.items():
        assert line in refused(live.deploy, f"models:/main.serving.{fault}/1")
        assert live.status() == before
    assert shown(live.rollback()) == {"blue": ("1", 100)}


def test_a_first_deploy_that_fails_leaves_no_endpoint(
    target: Callable[..., Any], connected: Workspace, faults: list[Fault]
) -> None:
    new = target("new")
    for fault in ("crash", "wrong"):
        refused(new.deploy, f"models:/main.serving.{fault}/1")
        assert connected.call("GET", f"{API}/new").status_code == 404
    faults.append(Fault("/serving-endpoints/new", 403))
    assert "CAN QUERY" in refused(new.deploy, f"{NUMBERS}/1")
    assert connected.call("GET", f"{API}/new").status_code == 404


def test_an_endpoint_of_somebody_else_is_left_alone(target: Callable[..., Any], connected: Workspace) -> None:
    connected.call("POST", API, json={"name": "theirs", "config": {"served_entities": [ENTITY]}}).raise_for_status()
    assert "serves numbers-1" in refused(target("theirs").deploy, f"{NUMBERS}/2")
    connected.call("DELETE", f"{API}/theirs").raise_for_status()


def test_what_cannot_be_a_target_is_refused(connected: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected at most 63 letters" in refused(DatabricksTarget, "a b")
    assert "expected Small, Medium, Large" in refused(DatabricksTarget, "a", workload_size="Standard_DS3_v2")
    monkeypatch.setenv("DATABRICKS_TOKEN", "wrong")
    assert "DATABRICKS_CONFIG_PROFILE" in refused(DatabricksTarget("a").status)
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("HOME", "/nowhere")
    assert "sign in: DATABRICKS_HOST" in refused(DatabricksTarget, "a")
    monkeypatch.setenv("DATABRICKS_TOKEN", connected.token)
    mlflow.set_tracking_uri("sqlite://")
    assert "export MLFLOW_TRACKING_URI=databricks" in refused(DatabricksTarget("a").deploy, f"{NUMBERS}/1")


REFUSED = [
    ({"entity_version": "99"}, "RESOURCE_DOES_NOT_EXIST"),
    ({"entity_name": "churn"}, "INVALID_PARAMETER_VALUE"),
    ({"workload_size": "Huge"}, "INVALID_PARAMETER_VALUE"),
]


@pytest.mark.parametrize(("change", "code"), REFUSED)
def test_the_workspace_refuses_what_databricks_refuses(
    change: dict[str, str], code: str, connected: Workspace, registered: None
) -> None:
    said = {"name": "refused", "config": {"served_entities": [{**ENTITY, **change}]}}
    assert connected.call("POST", API, json=said).json()["error_code"] == code
    assert connected.call("POST", "/serving-endpoints/refused/invocations", json={}).status_code == 404
