"""An entry point that interrupts itself at the moment that its argument names, so that the moment is exact."""

import os
import signal
import time

import click
import mlflow
import sqlalchemy
from sqlalchemy import event

from support.entry_point import run_command

sent: list[bool] = []


def interrupt(*arguments: object) -> None:
    """Press Ctrl-C, once."""
    if not sent:
        sent.append(True)
        os.kill(os.getpid(), signal.SIGINT)


class Swallowing:
    """Its destructor is interrupted, and Python prints and ignores what a destructor raises."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@click.command()
@click.argument("moment")
def command(moment: str) -> None:
    """A run with a parameter before, a metric during, and another long after the interrupt."""
    with mlflow.start_run(run_name=moment):
        mlflow.log_param("before", 1)
        if moment == "statement":
            event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", interrupt)
        elif moment == "commit":
            event.listen(sqlalchemy.engine.Engine, "commit", interrupt)
        elif moment == "swallowed":
            Swallowing()
            os.kill(os.getpid(), signal.SIGINT)
        mlflow.log_metric("during", 1)
        time.sleep(3600)
        mlflow.log_metric("long after", 1)


if __name__ == "__main__":
    run_command(command)
