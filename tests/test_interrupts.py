"""Ctrl-C at the worst moments: within a transaction, in a destructor, and before a server that does not answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from running import COLLECTION, Store

# An entry point that interrupts itself, so that the moment is exact.
ENTRY_POINT = """
import os, signal, time
import support.entry_point as project, click, mlflow, sqlalchemy
from sqlalchemy import event

interrupts = []

def interrupt(*arguments):
    if not interrupts:
        interrupts.append(1)
        os.kill(os.getpid(), signal.SIGINT)

class Swallowing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

@click.command()
def command():
    with mlflow.start_run(run_name={name!r}):
        mlflow.log_param("before", 1)
        {moment}
        mlflow.log_metric("during", 1)
        time.sleep(5)
        mlflow.log_metric("long after", 1)

project.run_command(command)
"""
TRANSACTION = {
    "statement": 'event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", interrupt)',
    "commit": 'event.listen(sqlalchemy.engine.Engine, "commit", interrupt)',
}


def interrupted(store: Store, name: str, moment: str) -> tuple[int, str]:
    """The exit code and the error output of an entry point that is interrupted at the moment."""
    done = subprocess.run(
        [sys.executable, "-c", ENTRY_POINT.format(name=name, moment=moment)],
        cwd=COLLECTION / "classification",
        env=store.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("moment", TRANSACTION)
def test_an_interrupt_waits_for_what_mlflow_writes(moment: str, store: Store) -> None:
    code, error = interrupted(store, moment, TRANSACTION[moment])
    assert (code, error.splitlines()[-1]) == (130, "Interrupted."), error
    (run,) = store.client.search_runs(["0"], f"run_name = '{moment}'")
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"during": 1}
    assert run.data.tags["mlflow.note.content"] == "Interrupted."


def test_an_interrupt_that_a_destructor_swallows_does_not_keep_the_next_from_being_heeded(store: Store) -> None:
    code, error = interrupted(store, "swallowed", "Swallowing(); os.kill(os.getpid(), signal.SIGINT)")
    assert (code, error.splitlines()[-1]) == (130, "Interrupted."), error
    assert "Exception ignored in" in error  # Python's own message
    (run,) = store.client.search_runs(["0"], "run_name = 'swallowed'")
    assert run.info.status == "FAILED"
    assert not run.data.metrics


def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            [sys.executable, "-c", ENTRY_POINT.format(name="silent", moment="")],
            cwd=COLLECTION / "classification",
            env={**store.environment, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()  # it asks
        with connection:
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=30)  # MLflow itself would wait for 2 minutes, and ask again
    assert (process.returncode, error.splitlines()[-1]) == (130, "Interrupted."), error
