"""The Azure target: the unmodified Azure client against a stand-in of Azure that really serves what is uploaded."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import azure_stand_in
import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from azure_stand_in import StandIn
from examples import module
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from running import COLLECTION, PATIENCE, PROGRAMS, wait_until
from sklearn.tree import DecisionTreeRegressor

EXAMPLE = COLLECTION / "registry_deploy"
deploy: Any = module("registry_deploy", "deploy")
WHERE = {
    "subscription_id": azure_stand_in.SUBSCRIPTION,
    "resource_group": azure_stand_in.GROUP,
    "workspace_name": azure_stand_in.WORKSPACE,
}
ROWS = pd.DataFrame({"a": [0.1, np.nan, 1 / 3], "b": [1.0, 2.0, 3.0]})
PACKAGES = [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "pandas", "scikit-learn", "skops")]


def azure_target() -> Any:
    """The module; all workers read this file, and the Azure client takes three seconds to import."""
    return module("registry_deploy", "azure_target")


def config(**changed: Any) -> Any:
    """The configuration of the stand-in's workspace."""
    return azure_target().AzureConfig(**{**WHERE, **changed})


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[StandIn]:
    """The stand-in, and an environment in which the Azure client finds nothing else."""
    cache = pytestconfig.cache
    assert cache
    patch = pytest.MonkeyPatch()
    with StandIn(tmp_path_factory.mktemp("azure"), cache.mkdir("azure_stand_in")) as stand_in:
        for name, value in stand_in.variables().items():
            patch.setenv(name, value)
        yield stand_in
    patch.undo()
    servers = [
        deployment.server for endpoint in stand_in.endpoints.values() for deployment in endpoint.deployments.values()
    ]
    assert all(server is None or server.process.poll() is not None for server in servers)


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A registry: versions 1 to 3 of `numbers` and `light` answer their own number; models with something amiss."""
    folder = tmp_path_factory.mktemp("registry")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("azure_target", artifact_location=(folder / "artifacts").as_uri())

    def log_tree(name: str, number: int, example: pd.DataFrame | np.ndarray | None) -> None:
        rows = ROWS if example is None else example
        mlflow.sklearn.log_model(
            DecisionTreeRegressor().fit(rows, np.full(len(rows), float(number))),
            name="tree",
            registered_model_name=name,
            input_example=example,
            pip_requirements=PACKAGES,
            skops_trusted_types=["sklearn.tree._tree.Tree"],
        )

    with mlflow.start_run(experiment_id=experiment):
        for number in (1, 2, 3):
            log_tree("numbers", number, ROWS)
            log_tree("light", number, np.ones((2, 3)))  # a tensor costs less to read than a table: for many requests
        log_tree("untested", 1, None)
        for name in ("new", "newer"):
            log_tree(name, 1, ROWS)
        example = {"a": np.array([0.5, np.nan], "float32"), "b": np.array(["x", "y"], object)}
        mlflow.pyfunc.log_model(
            name="named",
            python_model=str(PROGRAMS / "named_arrays_model.py"),
            registered_model_name="named arrays",
            input_example=example,
            signature=ModelSignature(
                Schema(
                    [TensorSpec(np.dtype("float32"), (-1,), "a"), TensorSpec(np.dtype(object), (-1,), "b")],
                ),
                Schema([TensorSpec(np.dtype("float64"), (-1,))]),
            ),
            pip_requirements=PACKAGES,
        )
        for fault in ("crash", "wrong"):
            mlflow.pyfunc.log_model(
                name="faulty",
                python_model=str(PROGRAMS / "faulty_model.py"),
                model_config={"fault": fault},
                registered_model_name=fault,
                input_example=ROWS,
                pip_requirements=PACKAGES,
            )
    mlflow.MlflowClient().set_registered_model_alias("numbers", "champion", "1")
    yield
    mlflow.set_tracking_uri(before)
    patch.undo()


@pytest.fixture
def said() -> list[str]:
    """What a target has told."""
    return []


@pytest.fixture
def target(azure: StandIn, said: list[str]) -> Iterator[Callable[[str], Any]]:
    """Makes targets, and removes their endpoints and all faults afterwards."""
    made = []

    def make(name: str, **changed: Any) -> Any:
        made.append(azure_target().AzureTarget(name, config=config(**changed), say=said.append))
        return made[-1]

    yield make
    azure.faults.clear()
    for one in made:
        if one.name in azure.endpoints:
            one.undeploy()
            assert one.name not in azure.endpoints


@pytest.fixture(scope="module")
def live_endpoint(azure: StandIn) -> Any:
    """Version 1 deployed, for the tests that must leave it as it is."""
    live = azure_target().AzureTarget("live", config=config())
    live.deploy("models:/numbers/1")
    return live


@pytest.fixture
def live(azure: StandIn, live_endpoint: Any) -> Iterator[Any]:
    """Version 1 deployed; what the test did in vain has left no trace."""
    before = live_endpoint.status()
    yield live_endpoint
    azure.faults.clear()
    assert live_endpoint.status() == before
    assert list(azure.endpoints["live"].deployments) == ["blue"]
    assert live_endpoint.score(ROWS) == [1.0] * 3


def traffic(target: Any) -> dict[str, tuple[str, int]]:
    """Version and percentage of each colour."""
    return {name: (colour.model_version, colour.traffic) for name, colour in target.status().colours.items()}


def refused(action: Callable, *arguments: object, **options: object) -> str:
    """The line that an action ends with; below it may stand the log of a deployment that is removed."""
    with pytest.raises(azure_target().DeploymentError) as caught:
        action(*arguments, **options)
    return str(caught.value).partition("\n")[0]


# A life


def test_a_life(target: Callable[..., Any], azure: StandIn, said: list[str]) -> None:
    life = target("life")
    assert not life.status().colours
    first = life.deploy("models:/numbers@champion", canary=10)  # nothing else could answer the other 90 %
    assert traffic(life) == {"blue": ("1", 100)}
    assert first == life.status()
    assert first.scoring_uri == f"{azure.url}/endpoints/life/score"
    assert (first.colours["blue"].model_name, first.colours["blue"].state) == ("numbers", "Succeeded")
    assert any("1 x Standard_DS3_v2" in line and azure_target().PRICES in line for line in said)
    assert life.score(ROWS) == [1.0, 1.0, 1.0]
    assert "nothing to roll back to" in refused(life.rollback)

    life.deploy("models:/numbers/2", canary=10)
    assert traffic(life) == {"blue": ("1", 90), "green": ("2", 10)}
    assert "a canary is under way" in refused(life.deploy, "models:/numbers/3")
    azure.fail("PUT", "/onlineEndpoints/life$", 429, times=2)  # passes, so nobody should hear of it
    azure.requests.clear()
    life.deploy("models:/numbers/2", canary=100)
    assert traffic(life) == {"blue": ("1", 0), "green": ("2", 100)}
    assert not any(request.startswith("PUT") and "deployments" in request for request in azure.requests)
    assert life.score(ROWS) == [2.0, 2.0, 2.0]

    azure.fail("PUT", "/deployments/amber$", 409)  # neither the live colour nor the one to roll back to is overwritten
    refused(life.deploy, "models:/numbers/3")
    azure.faults.clear()
    assert traffic(life) == {"blue": ("1", 0), "green": ("2", 100)}

    blue = azure.endpoints["life"].deployments["blue"].body["tags"]
    kept, blue["deploy"] = blue["deploy"], "a deploy that was killed before it changed the traffic"
    assert "nothing to roll back to" in refused(life.rollback)
    blue["deploy"] = kept
    azure.requests.clear()
    life.rollback()
    assert traffic(life) == {"blue": ("1", 100), "green": ("2", 0)}
    assert [request for request in azure.requests if request.startswith("PUT")] == [
        f"PUT {azure_stand_in.ENDPOINT.format(endpoint='life')}"
    ]
    assert life.score(ROWS) == [1.0, 1.0, 1.0]
    assert "nothing to roll back to" in refused(life.rollback)

    larger = target("life", instance_type="Standard_F4s_v2", instance_count=2)
    larger.deploy("models:/numbers/1")
    assert traffic(life) == {"blue": ("1", 0), "green": ("1", 100)}
    green = azure.endpoints["life"].deployments["green"].body
    assert (green["properties"]["instanceType"], green["sku"]["capacity"]) == ("Standard_F4s_v2", 2)
    probe = green["properties"][
        "livenessProbe"
    ]  # five minutes to load, and then half a minute until it is found to hang
    assert azure_stand_in.seconds(probe["initialDelay"]) == 300
    assert azure_stand_in.seconds(probe["period"]) * probe["failureThreshold"] == 30

    assert life.undeploy()
    assert not life.status().colours
    assert not life.undeploy()
    assert "is not deployed in" in refused(life.score, ROWS)
    assert "is not deployed in" in refused(life.rollback)


def test_no_request_is_lost(target: Callable[..., Any], azure: StandIn, tmp_path: Path) -> None:
    """Hundreds of requests over deploys, canaries, a rollback, and servers that are killed or hang.

    Azure starts a broken container again; a client sends again what was answered with 503 meanwhile.
    """
    busy = target("busy")
    busy.deploy("models:/light/1")
    key, enough, stop = azure.endpoints["busy"].keys["primaryKey"], tmp_path / "enough", tmp_path / "stop"
    arguments = [str(PROGRAMS / "load_on_azure.py"), busy.status().scoring_uri, key, str(enough), str(stop)]
    load = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    restarts = azure.restarts

    def strike(colour: str, number: int) -> None:
        before, server = azure.restarts, azure.endpoints["busy"].deployments[colour].server
        assert server is not None
        server.send(number)
        wait_until(lambda: azure.restarts > before and azure.endpoints["busy"].deployments[colour].server is not server)

    try:
        busy.deploy("models:/light/2", canary=20)
        strike("green", signal.SIGKILL)
        busy.deploy("models:/light/2")
        time.sleep(1)
        strike("green", signal.SIGSTOP)
        busy.rollback()
        busy.deploy("models:/light/3")
        wait_until(lambda: enough.exists() or load.poll() is not None)
    finally:
        stop.touch()
        output = load.communicate(timeout=PATIENCE)[0]
    counts = json.loads(output)
    print(f"{azure.restarts - restarts} restarts under load: {counts}")
    assert azure.restarts - restarts >= 2
    sent, again = counts.pop("sent"), counts.pop("sent again")
    assert sent >= 600
    assert again
    assert set(counts) == {"version 1", "version 2", "version 3"}
    assert sum(counts.values()) == sent


def test_arrays_by_name_and_a_token_instead_of_a_key(target: Callable[..., Any], azure: StandIn) -> None:
    """A model in ONNX takes one array a column, and both kinds of token let requests in."""
    arrays = {"a": np.array([0.25, np.nan], "float32"), "b": np.array(["x", "yy"], object)}
    for mode in ("AADToken", "AMLToken"):
        named = target("named", auth_mode={"AADToken": "aad_token", "AMLToken": "aml_token"}[mode])
        if mode == "AMLToken":  # of an endpoint that is there, the mode stays as it was created
            azure.endpoints["named"].body["properties"]["authMode"] = mode
        named.deploy("models:/named arrays/1")
        assert azure.endpoints["named"].body["properties"]["authMode"] == mode
        assert named.score(arrays) == [1.25, 2.0]


# What goes wrong on Azure


@pytest.mark.parametrize(
    ("status", "advice"),
    [(403, "role"), (429, "quota"), (500, "try again"), ("Failed", "internal error")],
)
def test_a_deployment_that_azure_refuses(live: Any, azure: StandIn, status: int | str, advice: str) -> None:
    azure.fail("PUT", "/deployments/green$", status)
    message = refused(live.deploy, "models:/numbers/2")
    assert "deploying numbers version 2 to green of live" in message
    assert (f"Azure answered {status}" if isinstance(status, int) else "it failed") in message
    assert advice in message


def test_a_change_of_traffic_that_azure_refuses(live: Any, azure: StandIn) -> None:
    azure.fail("PUT", "/onlineEndpoints/live$", "Failed")
    assert "changing the traffic of live: it failed" in refused(live.deploy, "models:/numbers/2", canary=10)


@pytest.mark.parametrize(
    ("method", "path", "name", "doing"),
    [
        ("GET", "/workspaces/[^/]+$", "numbers", "looking for workspace"),
        ("GET", "/onlineEndpoints/live$", "numbers", "reading endpoint live"),
        ("PUT", "/blob/", "new", "registering new version 1"),
        ("PUT", "/models/.*/versions/", "newer", "registering newer version 1"),
    ],
)
def test_a_forbidden_route(live: Any, azure: StandIn, method: str, path: str, name: str, doing: str) -> None:
    azure.fail(method, path, 403)
    message = refused(live.deploy, f"models:/{name}/1")
    assert doing in message
    assert "Azure answered 403" in message


def test_a_rollback_or_undeploy_that_azure_refuses(live: Any, azure: StandIn) -> None:
    tags = azure.endpoints["live"].body["tags"]
    tags["previous"] = azure.endpoints["live"].deployments["blue"].body["tags"]["deploy"]
    azure.fail("PUT", "/onlineEndpoints/live$", 409)
    azure.fail("DELETE", "/onlineEndpoints/live$", 403)
    assert "Azure answered 409" in refused(live.rollback)
    assert "Azure answered 403" in refused(live.undeploy)
    tags["previous"] = ""


def test_a_model_that_crashes_on_azure(live: Any) -> None:
    with pytest.raises(azure_target().DeploymentError) as caught:
        live.deploy("models:/crash/1")
    message, _, log = str(caught.value).partition("\n")
    assert "deploying crash version 1 to green of live: it failed" in message
    assert "Liveness probe failed" in message
    assert message.endswith("the traffic is as it was")
    assert "the weights are gone" in log  # which goes away with the deployment


def test_a_model_that_answers_wrongly_on_azure(live: Any, azure: StandIn) -> None:
    azure.requests.clear()
    message = refused(live.deploy, "models:/wrong/1")
    assert "wrong answer from green of live: [2.0, 2.0, 2.0]" in message
    assert "[1.0, 1.0, 1.0] here" in message
    assert f"PUT {azure_stand_in.ENDPOINT.format(endpoint='live')}" not in azure.requests  # it never had traffic


def test_a_failed_deploy_leaves_alone_what_another_has_begun(live: Any, azure: StandIn) -> None:
    deployments = azure.endpoints["live"].deployments
    other = azure_stand_in.Deployment(json.loads(json.dumps(deployments["blue"].body)))
    other.body |= {"name": "green", "tags": {"deploy": "another's"}}
    other.state = "Updating"
    deployments["green"] = other
    azure.requests.clear()
    assert "Azure answered 409" in refused(live.deploy, "models:/numbers/2")
    assert not [request for request in azure.requests if request.startswith("DELETE")]
    assert deployments.pop("green") is other


def test_scoring_that_fails(live: Any, azure: StandIn) -> None:
    message = refused(live.score, ROWS[["a"]])
    assert "live answered 424" in message
    assert "missing inputs ['b']" in message
    azure.fail("POST", "/endpoints/live/score", 500)
    assert "live answered 500" in refused(live.score, ROWS)
    azure.faults.clear()
    azure.fail("POST", "/endpoints/live/score", 401)
    assert "live answered 401" in refused(live.score, ROWS)
    azure.faults.clear()
    azure.fail("POST", "/listKeys$", 403)
    assert "reading the keys of live: Azure answered 403" in refused(live.score, ROWS)


# What a user can cause


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"workspace_name": "elsewhere"}, "looking for workspace elsewhere: Azure answered 404"),
        ({"resource_group": "elsewhere"}, "check subscription_id, resource_group, workspace_name"),
        ({"subscription_id": "0" * 8 + azure_stand_in.SUBSCRIPTION[8:]}, "Azure answered 404"),
    ],
)
def test_the_configuration_is_checked_before_anything_is_created(
    target: Callable[..., Any], azure: StandIn, said: list[str], where: dict[str, str], expected: str
) -> None:
    azure.requests.clear()
    assert expected in refused(target("nowhere", **where).deploy, "models:/numbers/1")
    assert not [request for request in azure.requests if not request.startswith("GET")]
    assert not said


def test_machines_that_the_region_has_not(target: Callable[..., Any], azure: StandIn) -> None:
    """A role in the workspace may not read which there are, so Azure itself refuses; no endpoint is left."""
    message = refused(target("huge", instance_type="Standard_Huge").deploy, "models:/numbers/1")
    assert "Azure answered 400" in message
    assert "Standard_Huge is not supported" in message
    assert "huge" not in azure.endpoints


@pytest.mark.parametrize(
    ("model_uri", "canary", "expected"),
    [
        ("models:/numbers@nobody", 100, "alias nobody not found"),
        ("models:/numbers/99", 100, "version=99) not found"),
        ("runs:/123/model", 100, "expected models:/name@alias or models:/name/version"),
        ("models:/untested/1", 100, "has no input example"),
        ("models:/numbers/1", 0, "canary=0: expected a percentage from 1 to 100"),
        ("models:/numbers/1", 101, "canary=101"),
    ],
)
def test_a_wrong_argument(
    target: Callable[..., Any], azure: StandIn, model_uri: str, canary: int, expected: str
) -> None:
    azure.requests.clear()
    assert expected.lower() in refused(target("nowhere").deploy, model_uri, canary=canary).lower()
    assert not [request for request in azure.requests if request != "GET /metadata/endpoints"]


@pytest.mark.parametrize("name", ["ab", "1st", "under_score", "ends-", "a" * 33])
def test_a_wrong_name(name: str) -> None:
    assert "3 to 32 letters" in refused(azure_target().AzureTarget, name, config=config())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "expected a JSON file"),
        ('{"subscription_id": "11111111-2222-3333-4444-555555555555"}', "resource_group: Field required"),
        (json.dumps({**WHERE, "color": "blue"}), "color: Unexpected keyword argument"),
        ("[]", "the names are subscription_id"),
    ],
)
def test_a_wrong_configuration_file(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "azure.json").write_text(text)
    assert expected in refused(azure_target().AzureConfig.read, tmp_path / "azure.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subscription_id", "my subscription"),
        ("resource_group", ""),
        ("instance_count", 0),
        ("instance_count", "1"),
        ("instance_count", True),
        ("request_timeout_seconds", 181),
        ("public_network_access", "no"),
    ],
)
def test_a_wrong_value_in_the_configuration(name: str, value: object) -> None:
    assert f"{name}={value!r}" in refused(azure_target().AzureConfig.read, **{name: value})


def test_the_example_configuration_has_every_name() -> None:
    values = json.loads((EXAMPLE / "azure.json").read_text(encoding="utf-8"))
    kind = azure_target().AzureConfig
    assert kind.read() == kind(**values) == kind(*list(values.values())[:3])


def test_without_the_azure_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure_target", None)
    with pytest.raises(deploy.DeploymentError, match=r"install this project's requirements-azure\.txt"):
        deploy.make_target("azureml", "nowhere", "", "azure.json")


def test_the_default_endpoint_is_named_after_the_workspace(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint's name is unique in its region, and `churn` is surely taken."""
    monkeypatch.setitem(sys.modules, "azure_target", azure_target())  # which is imported for its own target only

    def name(endpoint: str, workspace: str) -> str:
        where = {"subscription_id": azure_stand_in.SUBSCRIPTION, "resource_group": "g", "workspace_name": workspace}
        return str(deploy.make_target("azureml", endpoint, "", "azure.json", **where).name)

    mine, other = name("churn", "mine"), name("churn", "other")
    assert mine == name("churn", "mine")
    assert mine.startswith("churn-")
    assert len({mine, other, "churn"}) == 3
    assert name("sales", "mine") == "sales"


def test_without_credentials(target: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    message = refused(target("nowhere").deploy, "models:/numbers/1")
    assert "Azure answered 401" in message
    assert "az login" in message


def test_a_registry_that_was_made_anew(live: Any, azure: StandIn) -> None:
    asset = azure.assets[f"{azure_stand_in.HOME}/models/numbers/versions/1"]
    green = azure.endpoints["live"].deployments["blue"].body["tags"]
    kept = green["mlflow_id"], asset["properties"]["tags"]["mlflow_id"]
    green["mlflow_id"] = asset["properties"]["tags"]["mlflow_id"] = "m-of-another-registry"
    assert "numbers:1 is another model" in refused(live.deploy, "models:/numbers/1")
    green["mlflow_id"], asset["properties"]["tags"]["mlflow_id"] = kept


def test_no_secret_is_logged(live: Any, azure: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    live.score(ROWS)
    azure.fail("PUT", "/deployments/green$", 409)
    message = refused(live.deploy, "models:/numbers/2")
    assert "live" in caplog.text
    for secret in (azure.token, azure.identity_header, *azure.endpoints["live"].keys.values()):
        assert secret not in caplog.text + message


# The stand-in


def test_the_stand_in_refuses_what_azure_refuses(live: Any, azure: StandIn) -> None:
    def change(method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, str]:
        url = f"{azure.url}{path}"
        answer = requests.request(
            method, url, json=body, headers=headers, verify=str(azure.authority), timeout=PATIENCE
        )
        return answer.status_code, answer.text

    path = azure_stand_in.ENDPOINT.format(endpoint="live")
    token = {"Authorization": f"Bearer {azure.token}"}
    body = azure.endpoints["live"].body

    def with_traffic(**percent: int) -> dict:
        return body | {"properties": body["properties"] | {"traffic": percent}}

    assert change("PUT", path, token, with_traffic(blue=90)) == (400, matching("must sum to 0 or 100, not 90"))
    assert change("PUT", path, token, with_traffic(green=100)) == (400, matching("no deployment green"))
    assert change("DELETE", f"{path}/deployments/blue", token) == (400, matching("has traffic"))
    assert change("DELETE", f"{path}/deployments/green", token) == (404, matching("green was not found"))
    assert change("GET", f"{azure_stand_in.HOME}x", token) == (404, matching("ResourceNotFound"))
    machines = f"{azure_stand_in.REGIONAL}/vmSizes"
    assert change("GET", machines, token) == (403, matching("AuthorizationFailed"))
    assert change("PUT", azure_stand_in.HOME, token, {}) == (403, matching("AuthorizationFailed"))
    assert change("POST", f"{path}/token", token) == (400, matching("authentication mode is not amltoken"))
    assert change("GET", path, {}) == (401, matching(""))
    assert change("GET", path, {"Authorization": "Bearer wrong"}) == (401, matching(""))
    for headers in ({}, {"Authorization": "Bearer wrong"}, token):
        assert change("POST", "/endpoints/live/score", headers, {}) == (401, matching("KeyAuthAccessDenied"))


class matching(str):  # noqa: N801
    """Equal to every text that holds it."""

    def __eq__(self, other: object) -> bool:
        return re.search(re.escape(str(self)), str(other)) is not None

    __hash__ = str.__hash__
