# Copied by `make vendor` from support/entry_point.py of the collection: edit that, or this in your own copy.
"""What every entry point does around its work: end on one clear line, record its working tree, say where to look."""

from __future__ import annotations

import atexit
import gc

# Imports make a million objects that stay. To look through them for garbage costs a fifth of a run's processor time.
gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)  # registered first, so called last: nothing is looked through at the end

import logging
import math
import os
import re
import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from support.interrupts import heed_interrupts

if TYPE_CHECKING:
    import mlflow

RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow names a run shivering-bird-943 where nobody names it
FOLDER = Path(__file__).resolve().parent.parent  # of the example
# What click says of a value of another type, and how people say it.
PLAIN = {r"a valid integer range\.": "an integer.", r"a valid float range\.": "a number."}
PLAIN |= {r"a valid boolean\. Recognized values: .*": "true or false."}


class FiniteRange(click.FloatRange):
    """A float in a range; unlike click's own, it refuses nan and infinity, which pass every comparison."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def run_command(command: click.Command) -> NoReturn:
    """Run a click command as an entry point of an MLflow Project and exit.

    A mistake of the user, and what a tracking server refuses, end with one line on stderr, exit code 2, and that line
    as the run's note and `error` tag; Ctrl-C ends with exit code 130; a command chooses another code by
    `raise click.exceptions.Exit(3)`. `mlflow run` marks the run FAILED for each.
    """
    gc.freeze()
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted in multiple ways")
    for name in ("mlflow.utils.environment", "mlflow.pyfunc"):  # what they say, nobody can act on
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it says "Downloading" of what lies here
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):  # `say_where_to_look` prints the link
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if os.environ.get("MLFLOW_EXPERIMENT_ID"):  # chosen by `mlflow run`; an inner one refuses both
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
    heed_interrupts()
    _refuse_relative_store()
    run_id = os.environ.get("MLFLOW_RUN_ID")  # read now: the first start_run() deletes it
    try:
        ended = command.main(standalone_mode=False)
        if run_id:
            _name_run(run_id)
        sys.exit(ended if isinstance(ended, int) else 0)  # click returns the code of its Exit
    except (click.Abort, KeyboardInterrupt):
        _end("Interrupted.", run_id, 130)
    except Exception as error:
        from support.server_errors import refused_by_server  # late, as it is seldom needed

        line = refused_by_server(error)
        if line is None and isinstance(error, click.ClickException):
            line = " ".join(error.format_message().split())
            for of_click, plain in PLAIN.items():
                line = re.sub(of_click, plain, line)
        if line is None:
            raise
        _end(f"Error: {line}", run_id, 2)


def describe_run(run: mlflow.ActiveRun, name: str, parameters: dict[str, Any] | None = None) -> None:
    """Name a run that is active, log its parameters, and record whether the files that run are those of its commit.

    name: given only where the user has not (`mlflow run --run-name`).
    parameters: logged only where `mlflow run` has not; those of the command by default.
    """
    import mlflow

    if RANDOM_NAME.fullmatch(run.info.run_name or ""):
        mlflow.MlflowClient().update_run(run.info.run_id, name=name)
    if not run.data.params:
        mlflow.log_params(click.get_current_context().params if parameters is None else parameters)
    log_working_tree()


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
    context = click.get_current_context(silent=True)
    french = context is not None and context.meta.get("language") == "fr"  # set by support/language.py
    see, then = ("Voir l’exécution\N{NO-BREAK SPACE}:", "puis") if french else ("See the run:", "then")
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    if uri.startswith(("http://", "https://")):
        click.echo(f"{see} {uri.rstrip('/')}{page}")
    elif "databricks" not in uri:  # on Databricks MLflow prints the link itself
        click.echo(f"{see} mlflow ui --workers 1 --backend-store-uri {shlex.quote(uri)}")
        click.echo(f"        {then} http://127.0.0.1:5000{page}")


def _refuse_relative_store() -> None:
    """Exit where the store is another one here than it was for `mlflow run`; a note would go to the wrong one."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    database = uri.removeprefix("sqlite:///")
    if database != uri and "MLFLOW_RUN_ID" in os.environ and not Path(database).is_absolute():
        click.echo(
            f"Error: MLFLOW_TRACKING_URI={uri} is relative: in the project's folder it names another database. "
            f"Give its full path: sqlite:////full/path/{database}.",
            err=True,
        )
        sys.exit(2)


def _end(line: str, run_id: str | None, code: int) -> NoReturn:
    """Print a line, leave it on the page of the run, if there is one, and exit."""
    click.echo(line, err=True)
    if run_id is not None or "mlflow" in sys.modules:
        import mlflow  # late: a mistake in the command line is answered before MLflow is loaded
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # the store is away, or the run deleted: the line above says what matters
            last = None if run_id else mlflow.last_active_run()
            if run_id := run_id or (last.info.run_id if last else None):
                _name_run(run_id)
                for key in ("error", "mlflow.note.content"):
                    mlflow.MlflowClient().set_tag(run_id, key, line.removeprefix("Error: "))
    sys.exit(code)


def _name_run(run_id: str) -> None:
    """Name a run of `mlflow run` by its entry point, where neither the user nor the command has named it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        run = MlflowClient().get_run(run_id)
        if RANDOM_NAME.fullmatch(run.info.run_name or ""):
            MlflowClient().update_run(run_id, name=run.data.tags.get("mlflow.project.entryPoint", "main"))


def _git(*arguments: str) -> str | None:
    """What git prints about this folder; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(FOLDER), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
