"""Two retrainings of one registered model at once: one acts, the other says so; what a dead one left does not count."""

from __future__ import annotations

import threading
import time
from typing import Any

import click
import mlflow
import pytest
from examples import module
from running import PATIENCE, Store

once: Any = module("watch", "once")


@pytest.fixture
def name(store: Store, request: pytest.FixtureRequest) -> str:
    """A registered model of the test's own."""
    store.client.create_registered_model(request.node.name)
    return str(request.node.name)


def locks(store: Store, name: str) -> list[str]:
    return [key for key in store.client.get_registered_model(name).tags if key.startswith(once.LOCK)]


def test_a_second_one_gives_way_and_names_the_first(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow.start_run() as run, once.alone(name, run.info.run_id):
        [first] = locks(store, name)
        monkeypatch.setattr(once, "WAIT", 0.2)  # for which one whose key is lower would wait
        with pytest.raises(click.ClickException) as refused:
            once.alone(name, "another").__enter__()
        assert run.info.run_id in refused.value.message
        assert first in refused.value.message
        assert locks(store, name) == [first]
    assert locks(store, name) == []


def test_of_four_that_begin_together_no_two_act_at_once(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "WAIT", PATIENCE)
    acting, most, refused = [0], [0], []
    runs = [store.client.create_run("0").info.run_id for _ in range(4)]

    def act(run_id: str) -> None:
        try:
            with once.alone(name, run_id):
                acting[0] += 1
                most[0] = max(most[0], acting[0])
                time.sleep(1)
                acting[0] -= 1
        except click.ClickException:
            refused.append(run_id)

    threads = [threading.Thread(target=act, args=[run_id]) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(refused) <= 3
    assert locks(store, name) == []


def test_a_lock_whose_run_has_ended_or_that_is_too_old_does_not_count(store: Store, name: str) -> None:
    ended = store.client.create_run("0").info.run_id
    store.client.set_terminated(ended, "FAILED")
    old = store.client.create_run("0", start_time=int(1000 * (time.time() - 25 * 3600))).info.run_id
    for key, run_id in {"ended": ended, "old": old, "policy": "each Monday"}.items():
        store.client.set_registered_model_tag(name, f"{once.LOCK}{key}", run_id)
    with once.alone(name, "mine"):
        assert len(locks(store, name)) == 4
