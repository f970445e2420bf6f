"""Ctrl-C at the worst moments: within a transaction, in a destructor, and before a server that does not answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from running import COLLECTION, PATIENCE, PROGRAMS, Store

INTERRUPTING = PROGRAMS / "interrupting.py"


def interrupted(store: Store, moment: str) -> tuple[int, str]:
    """The exit code and the error output of an entry point that is interrupted at the moment."""
    done = subprocess.run(
        [sys.executable, INTERRUPTING, moment],
        env={**store.environment, "PYTHONPATH": str(COLLECTION)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("moment", ["statement", "commit"])
def test_an_interrupt_waits_for_what_mlflow_writes(moment: str, store: Store) -> None:
    code, error = interrupted(store, moment)
    assert (code, error.splitlines()[-1]) == (130, "Interrupted."), error
    (run,) = store.client.search_runs(["0"], f"run_name = '{moment}'")
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"during": 1}
    assert run.data.tags["mlflow.note.content"] == "Interrupted."


def test_an_interrupt_that_a_destructor_swallows_does_not_keep_the_next_from_being_heeded(store: Store) -> None:
    code, error = interrupted(store, "swallowed")
    assert (code, error.splitlines()[-1]) == (130, "Interrupted."), error
    assert "Exception ignored in" in error  # Python's own message
    (run,) = store.client.search_runs(["0"], "run_name = 'swallowed'")
    assert run.info.status == "FAILED"
    assert not run.data.metrics


def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, INTERRUPTING, "silent"],
            env={**store.environment, "PYTHONPATH": str(COLLECTION), "MLFLOW_TRACKING_URI": uri},
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()  # it asks
        with connection:
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=PATIENCE)  # MLflow itself would ask again and again
    assert (process.returncode, error.splitlines()[-1]) == (130, "Interrupted."), error
