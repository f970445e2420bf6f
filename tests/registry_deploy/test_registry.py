"""Registering, looking at, renaming, archiving and deleting, on SQLite and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from examples import module
from mlflow import MlflowClient
from running import Outcome, Store, model_logged
from sklearn.linear_model import LinearRegression
from unity_catalog import served

owners: Any = module("registry_deploy", "owners")
versions: Any = module("registry_deploy", "versions")


class Endpoint:
    """A target that serves one version, as far as its record asks."""

    kind = "local"

    def __init__(self, name: str, owner: str, model: str, version: str) -> None:
        self.name, self.owner = name, owner
        self.serves = {"blue": SimpleNamespace(model_name=model, model_version=version)}

    def status(self) -> Any:
        return SimpleNamespace(colours=self.serves)


def test_an_endpoint_of_the_same_name_elsewhere_keeps_its_own_record(
    store: Store, run: Callable[..., Outcome], log: Callable[..., str]
) -> None:
    run("register.py", model_uri=log("good"), name="shared", alias="")
    here, there = (Endpoint("churn", owner, "shared", "1") for owner in ("one:/home/churn", "two:/home/churn"))
    for endpoint in (here, there):
        owners.record(endpoint)
    here.serves = {}
    owners.record(here)  # undeployed here

    def delete() -> Outcome:
        return run("registry.py", "delete", name="shared", version="1", confirm="shared/1")

    name = owners.record_of(there)
    assert f"is deployed: {name} (blue on two:/home/churn, by " in delete().error
    assert name in run("registry.py", "list", name="shared").output
    for wrong in ("local.churn", owners.record_of(here), name[:-1]):
        assert "is the record of no version" in run("deploy.py", "undeploy", force=wrong).error
    assert "is removed from models:/shared/1" in run("deploy.py", "undeploy", force=name).output
    owners.record(here, starting=[("shared", "1")])  # about to be deployed
    assert f"is deployed: {owners.record_of(here)} (starting on one:/home/churn, by " in delete().error
    owners.record(here)  # in vain
    assert delete().code == 0


@pytest.mark.parametrize("name", ["O'Brien", 'the "best"'])
def test_names_with_quotes_and_models_of_the_former_layout_are_registered_once(
    name: str, store: Store, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    mlflow.sklearn.save_model(LinearRegression().fit([[0], [1]], [0, 1]), tmp_path / "old", pip_requirements=["mlflow"])
    with mlflow.start_run() as former:
        mlflow.log_artifacts(str(tmp_path / "old"), "model")
    for _ in range(2):
        run("register.py", model_uri=f"runs:/{former.info.run_id}/model", name=name)
    [only] = store.client.get_latest_versions(name)
    assert (str(only.version), only.tags["source_run"]) == ("1", former.info.run_id)


def test_a_model_is_registered_once_with_where_it_comes_from(
    store: Store, run: Callable[..., Outcome], log: Callable[..., str]
) -> None:
    uri = log("good", experiment="origins", roc_auc=0.9)
    run_id = uri.split("/")[1]
    outcome = run("register.py", model_uri=uri, name="once", description="From *origins*.")
    assert outcome.code == 0, outcome.output
    assert "is once version 1 now." in outcome.output
    version = store.client.get_model_version_by_alias("once", "challenger")
    assert (str(version.version), version.description, version.run_id) == ("1", "From *origins*.", run_id)
    assert version.tags["source_run"] == run_id
    assert version.tags["dataset"].startswith("table ")
    assert version.tags["metric.roc_auc"] == "0.9"

    model = model_logged(store.client.get_run(run_id))
    for again in (uri, f"models:/{model}"):
        outcome = run("register.py", model_uri=again, name="once")
        assert f"{again} is registered already, as once version 1." in outcome.output
    assert len(store.client.search_model_versions("name='once'")) == 1


def test_the_best_model_of_an_experiment(store: Store, run: Callable[..., Outcome], log: Callable[..., str]) -> None:
    log("weak", experiment="trials", roc_auc=0.6, log_loss=0.3)
    best = log("good", experiment="trials", roc_auc=0.8, log_loss=0.4)
    log("weak", experiment="trials")
    run("register.py", experiment="trials", name="best")
    assert store.client.get_model_version("best", "1").tags["source_run"] == best.split("/")[1]
    run("register.py", experiment="trials", name="best", metric="log_loss", greater_is_better="false", alias="")
    assert store.client.get_model_version("best", "2").tags["metric.log_loss"] == "0.3"
    assert str(store.client.get_model_version_by_alias("best", "challenger").version) == "1"


def test_a_model_that_was_not_logged_to_its_end_is_not_registered(
    store: Store, run: Callable[..., Outcome], log: Callable[..., str]
) -> None:
    whole, half = (log("good", experiment="cut off", roc_auc=auc).split("/")[1] for auc in (0.6, 0.9))
    model_id = model_logged(store.client.get_run(half))
    store.client.finalize_logged_model(model_id, "FAILED")
    for uri in (f"runs:/{half}/model", f"models:/{model_id}"):
        outcome = run("register.py", model_uri=uri, name="cut")
        assert outcome.code == 2
        assert "was not logged to its end" in outcome.error
    run("register.py", experiment="cut off", name="cut")
    assert store.client.get_model_version("cut", "1").tags["source_run"] == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give either model_uri or experiment."),
        ({"model_uri": "runs:/0123456789abcdef0123456789abcdef/model"}, "'--model_uri': 'runs:/0123"),
        ({"experiment": "nowhere"}, "'--experiment': 'nowhere' is not there"),
        ({"experiment": "measured", "metric": "speed"}, "'speed' is a metric of no model there; they have: roc_auc."),
        ({"experiment": "bare"}, "'roc_auc' is a metric of no model there; they have: none, so give model_uri."),
        ({"model_uri": "models:/m-1", "name": "a/b"}, "'--name': 'a/b' cannot be the name of a model"),
    ],
)
def test_register_refuses(
    options: dict[str, str], message: str, run: Callable[..., Outcome], log: Callable[..., str]
) -> None:
    if options.get("experiment") in ("measured", "bare"):
        log("good", experiment=options["experiment"], **({"roc_auc": 0.5} if "metric" in options else {}))
    outcome = run("register.py", **options)
    assert outcome.code == 2
    assert message in outcome.error


def test_a_life_in_the_registry(
    server: Any, run: Callable[..., Outcome], log: Callable[..., str], validation: Any
) -> None:
    """Over HTTP, under a name of three levels, as Unity Catalog has them."""
    uri, life, after = server.uri, "main.default.life", "main.default.afterlife"
    client = MlflowClient(uri, uri)

    def verb(script: str, *words: str, **options: Any) -> Outcome:
        return run(script, *words, environment={"MLFLOW_TRACKING_URI": uri}, **options)

    def refusal(script: str, *words: str, **options: Any) -> str:
        outcome = verb(script, *words, **options)
        assert outcome.code == 2, outcome.output
        return outcome.error

    assert "has never had" not in verb("registry.py", "list").output
    given = {"data": validation, "target": "y", "n_resamples": 200, "max_slowdown": 1000}
    for kind in ("weak", "good"):
        assert verb("register.py", model_uri=log(kind, uri=uri), name=life).code == 0
        outcome = verb("promote.py", model_uri=f"models:/{life}@challenger", **given, thresholds="")
        assert outcome.code == 0, outcome.output
    listed = verb("registry.py", "list", name=life).output.splitlines()
    assert [line.split()[1:3] for line in listed[1:3]] == [["2", "champion"], ["1", "previous"]]
    told = verb("registry.py", "list", name=life, metric="speed").output
    assert "No version has the metric 'speed': `describe` shows those of a version." in told

    told = verb("registry.py", "describe", model_uri=f"models:/{life}@champion").output
    assert "'x': double (required), 'z': double (required)" in told
    assert "promoted_by" in told
    for which in (f"models:/{life}@champion", f"models:/{life}/2"):
        assert 'its own input example: {"predictions": ["' in verb("registry.py", "load", model_uri=which).output

    reigns = verb("registry.py", "history", name=life).output.splitlines()
    assert [line.split()[0] for line in reigns[1:]] == ["1", "2"]
    assert reigns[1].split()[2] == reigns[2].split()[1]
    client.set_registered_model_alias(life, "champion", "1")
    assert "alias moved by other means" in verb("registry.py", "history", name=life).output
    client.set_registered_model_alias(life, "champion", "2")

    message = refusal("registry.py", "delete", name=life, version="2", confirm=f"{life}/2")
    assert message.endswith(f"'models:/{life}/2' is champion: move or remove the alias before you delete it.")
    assert "is previous" in refusal("registry.py", "archive", model_uri=f"models:/{life}/1")
    client.delete_registered_model_alias(life, "previous")
    assert verb("registry.py", "archive", model_uri=f"models:/{life}/1").code == 0
    assert "is archived (since" in refusal("promote.py", model_uri=f"models:/{life}/1", **given)
    for wrong in ("", life, f"{life}/2"):
        assert "'--confirm'" in refusal("registry.py", "delete", name=life, version="1", confirm=wrong)
    assert verb("registry.py", "delete", name=life, version="1", confirm=f"{life}/1").code == 0
    assert [str(version.version) for version in client.search_model_versions(f"name='{life}'")] == ["2"]

    client.create_registered_model("taken")
    assert "cannot be the new name" in refusal("registry.py", "rename", name=life, new_name="taken")
    assert verb("registry.py", "rename", name=life, new_name=after).code == 0
    assert str(client.get_model_version_by_alias(after, "champion").version) == "2"
    kept = client.get_registered_model(after).tags
    assert [json.loads(value)["version"] for key, value in sorted(kept.items()) if key.startswith("champion.")] == [
        "1",
        "2",
    ]
    assert "is champion" in refusal("registry.py", "delete", name=after, confirm=after)
    client.delete_registered_model_alias(after, "champion")
    assert verb("registry.py", "delete", name=after, confirm=after).code == 0
    assert f"'{after}' is not in the registry" in refusal("registry.py", "list", name=after)


def test_unity_catalog_keeps_champion_history_and_deployments(
    store: Store, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "main.default.churn"
    with served() as catalog:
        for _ in range(3):
            catalog.add_version(name)
        for key, value in catalog.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(mlflow.tracking._model_registry.utils, "_registry_uri", None)
        versions.move_champion(name, "1", judged_against=None, run_id="a" * 32)
        versions.move_champion(name, "2", judged_against="1", run_id="b" * 32)
        endpoint = Endpoint("churn-eu", "machine:/a", name, "2")
        owners.record(endpoint)

        def verb(*words: str, **options: str) -> Outcome:
            return run("registry.py", *words, environment=catalog.environment, **options)

        model = catalog.models[name]
        assert model["aliases"] == {"champion": "2", "previous": "1"}
        assert not [key for key in model["tags"] if "lock" in key]
        assert "churn-eu" in verb("list", name=name).output
        assert [line.split()[0] for line in verb("history", name=name).output.splitlines()[1:]] == ["1", "2"]
        refused = verb("rename", name=name, new_name="main.default.other")
        assert "is deployed: local.churn-eu." in refused.error
        assert verb("archive", model_uri=f"models:/{name}/3").code == 0
        assert "archived_at" in model["versions"]["3"]

        endpoint.serves = {}
        owners.record(endpoint, [name])
        assert "churn-eu" not in verb("list", name=name).output
        assert verb("delete", name=name, version="3", confirm=f"{name}/3").code == 0
        assert list(model["versions"]) == ["1", "2"]
