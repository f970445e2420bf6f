"""One retraining at a time, and each window once: a lock on the registered model, and a key on the run."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import click
import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

LOCK = "retraining_"
LOCK_HOURS = 24.0  # a run that has been running for longer has died
WAIT = 10.0  # seconds that two which began together take at most to see who is first


@contextmanager
def alone(name: str, run_id: str) -> Iterator[None]:
    """Let one process at a time retrain a registered model, on any machine.

    As the gate's lock in registry_deploy: each writes a tag of its own, with its run, and then reads all. Who reads no
    other has the lock; of several that began together the one with the lowest key waits, and the others give up. A lock
    whose run has ended, or has been running for LOCK_HOURS, does not count.

    Raises click.ClickException where another process is at it: nothing has been done.
    """
    client, key = MlflowClient(), f"{LOCK}{uuid.uuid4().hex}"
    client.set_registered_model_tag(name, key, run_id)
    try:
        deadline = time.monotonic() + WAIT
        while others := _others(name, key):
            first = min(others)
            if key > first or time.monotonic() > deadline:
                free = f"if it has died, delete the tag {first} of the registered model"
                told = f"{name} is being retrained already, in run {others[first]}: nothing was done ({free})."
                raise click.ClickException(told)
            time.sleep(0.2)
        yield
    finally:
        client.delete_registered_model_tag(name, key)


def _others(name: str, own: str) -> dict[str, str]:
    """The runs of the other retrainings that are under way, by the key of their lock."""
    client, found = MlflowClient(), {}
    for key, run_id in client.get_registered_model(name).tags.items():
        if key.startswith(LOCK) and key != own:
            try:
                info = client.get_run(run_id).info
            except MlflowException:  # it was deleted, or this is no lock
                continue
            if info.status == "RUNNING" and time.time() - info.start_time / 1000 < LOCK_HOURS * 3600:
                found[key] = run_id
    return found


def key_of(name: str, rows: pd.DataFrame) -> str:
    """What makes a retraining the same: the registered model, and the labelled rows with their inputs and truths."""
    told = rows[["request_id", "row", "truth", "inputs"]].sort_values(["request_id", "row"]).to_csv(index=False)
    return hashlib.sha256(f"{name}\n{told}".encode()).hexdigest()[:32]


def decided(key: str) -> Run | None:
    """The run that has decided on the same rows already; None where there is none."""
    filter_string = f"tags.retrain_key = '{key}'"
    found = mlflow.search_runs(search_all_experiments=True, filter_string=filter_string, output_format="list")
    return next((run for run in found if "decision" in run.data.tags), None)
