"""What every entry point does around its work: end on one clear line, record its working tree, say where to look."""

from __future__ import annotations

import atexit
import gc

# Before the rest is imported, hence this module comes first everywhere: the imports make a million objects that stay,
# and Python looks through them for garbage again and again, which costs a fifth of a run's processor time, and several
# times more at the end. What is frozen is left alone: `run_command` freezes the imports, and the handler, which is
# registered first and hence called last, all that is left.
gc.set_threshold(1_000_000, 50, 100)
atexit.register(gc.freeze)

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, NoReturn
from weakref import WeakSet

FOLDER = Path(__file__).resolve().parent


def _name_what_is_missing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line which package is not installed, as `--env-manager local` in another environment finds out."""
    if isinstance(error, ModuleNotFoundError):
        lacking = f"the package {error.name or error} is not installed in this environment"
        print(f"Error: {lacking}: python -m pip install -r {FOLDER.name}/requirements.txt", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _name_what_is_missing

import click


class FiniteRange(click.FloatRange):
    """A float in a range; unlike click's own, it refuses nan and infinity, which pass every comparison."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def run_command(command: click.Command) -> NoReturn:
    """Run a click command as an entry point of an MLflow Project and exit.

    A mistake of the user ends with one line on stderr, exit code 2, and that line as the run's note and `error` tag.
    Ctrl-C ends with exit code 130. `mlflow run` marks the run FAILED for both.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    _hush()
    _heed_one_signal()
    run_id = None
    try:
        _refuse_relative_store()
        run_id = os.environ.get("MLFLOW_RUN_ID")  # read now: the first start_run() deletes it
        command.main(standalone_mode=False)
        sys.exit(0)
    except click.ClickException as error:
        line = " ".join(error.format_message().split())
        click.echo(f"Error: {line}", err=True)
        _note(run_id, line)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        _note(run_id, "Interrupted.")
        sys.exit(130)


def log_working_tree() -> None:
    """Tag the active run `mlflow.source.git.dirty` and, where the tree was dirty, log its `git.diff`.

    MLflow records the commit, not whether the files that ran were those of the commit. Outside a Git checkout,
    nothing is tagged.
    """
    import mlflow

    own = [".", ":(exclude)mlruns", ":(exclude)mlflow.db*", ":(exclude,glob)**/__pycache__/**"]
    status = _git("status", "--porcelain", "--", *own)
    if status is None:
        return
    mlflow.set_tag("mlflow.source.git.dirty", str(bool(status)).lower())
    if status:
        mlflow.log_text(f"{status}\n{_git('diff', 'HEAD', '--', *own) or ''}", "git.diff")


def say_where_to_look() -> None:
    """Print how to open the active or last run in the Tracking UI."""
    import mlflow

    run = mlflow.active_run() or mlflow.last_active_run()
    if run is None:
        return
    uri = mlflow.get_tracking_uri()
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    if uri.startswith(("http://", "https://")):
        click.echo(f"See the run: {uri.rstrip('/')}{page}")
    elif "databricks" not in uri:  # on Databricks MLflow prints the link itself
        click.echo(f"See the run: mlflow ui --workers 1 --backend-store-uri {uri}")
        click.echo(f"        then http://127.0.0.1:5000{page}")


def _hush() -> None:
    """Silence what MLflow says at each run and nobody can act on."""
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted in multiple ways")
    for name in (
        "mlflow.utils.environment",
        "mlflow.pyfunc",
    ):  # "Failed to resolve installed pip version", "Validating"
        logging.getLogger(name).setLevel(logging.ERROR)


class _Interrupted(KeyboardInterrupt):
    """The interrupt that is being answered; it is gone where a destructor has swallowed it."""

    answered: ClassVar[WeakSet[KeyboardInterrupt]] = WeakSet()

    def __init__(self) -> None:
        super().__init__()
        self.answered.add(self)


def _heed_one_signal() -> None:
    """Have Ctrl-C or SIGTERM raise KeyboardInterrupt between calls of MLflow, and none cut the ending of runs short.

    Raised within a transaction, it would leave it open: the database is then locked, to the end of this very run too.
    It waits for MLflow 5 seconds at most, as a server may not answer. What follows the first is ignored as long as that
    one is answered: after a Ctrl-C, which reaches this process too, `mlflow run` sends it a SIGTERM on top.
    """
    latest = math.inf

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal latest
        if _Interrupted.answered:
            return
        if hasattr(signal, "setitimer") and _in_mlflow(frame):  # Windows has none
            latest = min(latest, time.monotonic() + 5)
            if time.monotonic() < latest:
                signal.signal(signal.SIGALRM, interrupt)
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                return
        latest = math.inf
        raise _Interrupted

    if threading.current_thread() is threading.main_thread():  # only there can signals be handled
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, interrupt)


def _in_mlflow(frame: FrameType | None) -> bool:
    """Whether a store of MLflow, or what it writes with, is at work."""
    while frame:
        if frame.f_globals.get("__name__", "").startswith(("mlflow.tracking.", "mlflow.store.", "sqlalchemy.")):
            return True
        frame = frame.f_back
    return False


def _refuse_relative_store() -> None:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    database = uri.removeprefix("sqlite:///")
    if database != uri and "MLFLOW_RUN_ID" in os.environ and not Path(database).is_absolute():
        raise click.UsageError(
            f"MLFLOW_TRACKING_URI={uri} is relative: in the project's folder it names another database. "
            f"Give its full path: sqlite:////full/path/{database}."
        )


def _note(run_id: str | None, line: str) -> None:
    """Leave the line where the user looks first: on the page of the run, if there is one."""
    if run_id is None and "mlflow" in sys.modules:
        last = sys.modules["mlflow"].last_active_run()
        run_id = last.info.run_id if last else None
    if run_id is None:
        return
    from mlflow import MlflowClient  # late: a mistake in the command line is answered before MLflow is loaded

    for key in ("error", "mlflow.note.content"):
        MlflowClient().set_tag(run_id, key, line)


def _git(*arguments: str) -> str | None:
    """What git prints about this folder; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(FOLDER), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
