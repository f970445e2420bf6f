"""`mlflow run <git-url>#watch` tells a year, here on a team's server with a data scientist's account."""

from __future__ import annotations

import re

import pytest
from git_server import HERMETIC, GitServer, Repository, copy_collection
from pages import assert_quoted, steps
from running import COLLECTION, Outcome, Store
from team import StoreOfUser, User

MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"]


@pytest.fixture(scope="module")
def store(users: dict[str, User], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return StoreOfUser(tmp_path_factory.mktemp("store"), users["alice"])


@pytest.fixture(scope="module")
def told(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The story, from a Git server; its commit is named on every run."""
    served, folder = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("tmp")
    repository = Repository(served, tmp_path_factory.mktemp("tree"), "collection")
    copy_collection(repository.tree)
    repository.commit("The collection")
    with GitServer(served) as server:
        environment = {**HERMETIC, "TMPDIR": str(folder), "NO_PROXY": "127.0.0.1"}
        outcome = store.mlflow_run(
            f"{server.url('collection')}#watch", "main", {}, "--experiment-name", "alice", environment=environment
        )
    assert outcome.code == 0, outcome.output
    assert not list(folder.rglob("endpoint"))
    return outcome


def test_every_month_is_told_and_the_page_quotes_it(told: Outcome) -> None:
    found = re.findall(r"^\[(\w+)\]", told.output, re.MULTILINE)
    assert found == [*MONTHS[:9], "September", *MONTHS[9:], "December"]
    assert_quoted(steps(COLLECTION / "watch" / "README.md")[0].quoted, told.output)


def test_a_quiet_half_year_is_quiet_and_the_shift_is_noticed(told: Outcome, store: Store) -> None:
    verdicts = {run.info.run_name: run.data.tags.get("verdict") for run in store.children(told.run)}
    assert [verdicts[f"drift 2025-{month:02}"] for month in (1, 2, 3, 5, 6)] == ["none"] * 5
    assert verdicts["drift 2025-04"] == verdicts["drift 2025-07"] == "drift"


def test_of_a_month_of_broken_data_nothing_comes(told: Outcome, store: Store) -> None:
    runs = {run.info.run_name: run for run in store.children(told.run)}
    april = runs["retrain 2025-04"]
    assert april.data.tags["decision"] == "broken data"
    assert "as in another unit" in april.data.tags["mlflow.note.content"]
    assert not store.children(april)
    assert len(store.client.search_model_versions("name = 'churn_watch'")) == 2


def test_the_new_champion_comes_from_the_commit_of_the_first_and_serves_alone(told: Outcome, store: Store) -> None:
    retrained = [run for run in store.children(told.run) if run.info.run_name == "retrain 2025-08"]
    assert [run.data.tags["decision"] for run in retrained] == ["promoted", "nothing to do"]
    steps_ = {run.info.run_name: run for run in store.children(retrained[0])}
    assert list(steps_) == ["retrain", "register", "promote", "deploy 30 %"]
    first = next(run for run in store.children(told.run) if run.info.run_name == "first champion")
    for tag in ("mlflow.source.git.commit", "mlflow.source.name"):
        assert steps_["retrain"].data.tags[tag] == first.data.tags[tag]
    assert first.data.tags["mlflow.source.name"].startswith("http://127.0.0.1")
    model = store.client.get_registered_model("churn_watch")
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"champion": "2", "previous": "1"}
    assert "canary_concluded" in store.client.get_model_version("churn_watch", "2").tags
    assert "350 rows answered by version 2" in told.output
