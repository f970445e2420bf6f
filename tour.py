"""The tour: a model's whole life, told by the examples, each run as the MLflow Project that it is, below one parent."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# For the examples too, whose processes inherit it: their own words, without MLflow's account of each run.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["PYTHONUNBUFFERED"] = "1"  # so that what they print is seen while they run

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_REPO_URL,
    MLFLOW_PROJECT_ENV,
    MLFLOW_SOURCE_NAME,
)

FOLDER = Path(__file__).resolve().parent

MODEL = "churn_tour"  # the registered model
# The gate judges on other rows of the same customers' table, which no model may have been fitted on.
TRAINING = "../registry_deploy/data/churn_training.csv"  # as the example classification sees it


class StepFailedError(Exception):
    """A step ended badly; what it printed says why."""


class LeftOutError(Exception):
    """A step cannot be shown here, and that is no failure."""


class Tour:
    """What the steps share: how to run an example, and the run that trained the models.

    manager: the environment manager of all runs.
    """

    def __init__(self, parent: Run, manager: str) -> None:
        self.parent = parent
        self.manager = manager
        self.trained: Run | None = None

    def command(self, example: str, entry_point: str = "main", /, **parameters: object) -> str:
        """What one would type for it, from where the tour was started."""
        source = self.parent.data.tags.get(MLFLOW_SOURCE_NAME, "")
        remote = re.match(r"(https?|ssh|git)://|git@", source)
        words = ["mlflow", "run", f"{source}#{example}" if remote else example]
        words += ["-e", entry_point] if entry_point != "main" else []
        words += [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
        words += ["--env-manager", self.manager] if self.manager != "conda" else []
        return shlex.join(words)

    def run(
        self, run_name: str, example: str, entry_point: str = "main", /, apart: bool = False, **parameters: object
    ) -> Run:
        """Run an example's entry point as a child run called `run_name`, and show the command and what it prints.

        apart: in a group of processes of its own, which Ctrl-C does not reach.

        Raises StepFailedError where it fails.
        """
        click.echo(f"\n    $ {self.command(example, entry_point, **parameters)}")
        with indented():
            try:
                submitted = mlflow.projects.run(
                    str(FOLDER / example),
                    entry_point,
                    parameters={key: str(value) for key, value in parameters.items()},
                    experiment_id=self.parent.info.experiment_id,
                    env_manager=self.manager,
                    run_name=run_name,
                    synchronous=not apart,
                )
                succeeded = submitted.wait()
            except MlflowException as error:  # ExecutionException too
                raise StepFailedError(f"{run_name}: {str(error).splitlines()[0]}") from None
        if not succeeded:
            raise StepFailedError(f"{run_name}: Run (ID '{submitted.run_id}') failed")
        return MlflowClient().get_run(submitted.run_id)


def classification(tour: Tour) -> None:
    models = "decision_tree,gaussian_nb,logistic_regression"
    tour.trained = tour.run("classification", "classification", data=TRAINING, models=models)


def clustering(tour: Tour) -> None:
    tour.run("clustering", "clustering", k_max=8)


def register(tour: Tour) -> None:
    assert tour.trained
    uri = tour.trained.data.tags["best_model_uri"]
    tour.run("register", "registry_deploy", "register", model_uri=uri, name=MODEL)
    tour.run("first gate", "registry_deploy", "promote", model_uri=f"models:/{MODEL}@challenger", max_slowdown=10)


def gate(tour: Tour) -> None:
    challenger = tour.run("challenger", "classification", "random_forest", data=TRAINING)
    uri = f"runs:/{challenger.info.run_id}/model"
    tour.run("register again", "registry_deploy", "register", model_uri=uri, name=MODEL)
    tour.run("gate", "registry_deploy", "promote", model_uri=f"models:/{MODEL}@challenger", max_slowdown=10)


def deploy(tour: Tour) -> None:
    endpoint = f"tour-{tour.parent.info.run_id[:8]}"  # two tours at a time do not meet
    try:
        uri = f"models:/{MODEL}@champion"
        tour.run("deploy", "registry_deploy", "deploy", endpoint=endpoint, model_uri=uri, port=free_port())
        tour.run("score", "registry_deploy", "score", endpoint=endpoint)
    finally:
        with undisturbed():
            tour.run("undeploy", "registry_deploy", "undeploy", endpoint=endpoint, apart=True)


def reproduce(tour: Tour) -> None:
    assert tour.trained
    if reason := why_not_reproducible(tour.trained, tour.parent):
        raise LeftOutError(f"{reason}. The address of a repository does it all: mlflow run https://...")
    tour.run("reproduce", "git_project", "reproduce", run_id=tour.trained.info.run_id, env_manager=tour.manager)


@dataclass(frozen=True)
class Step:
    """A step of the tour. needs: the steps whose results it takes. introduction: what it is about, in two lines."""

    play: Callable[[Tour], None]
    needs: tuple[str, ...]
    title: str
    introduction: str


STEPS = {
    "classification": Step(
        classification,
        (),
        "Which customers will leave?",
        "Three classifiers learn it from one table; MLflow tracks parameters, metrics, pictures and models.\n"
        "The best stands first. A roc_auc of 1 ranks every customer who left before all who stayed; 0.5 is guessing.",
    ),
    "clustering": Step(
        clustering,
        (),
        "What kinds of customers are there?",
        "Nobody knows the right answer here, so K-Means tries 2 to 8 segments, and four criteria judge.\n"
        "Each number of segments is a run, so that you can compare them as you compare classifiers.",
    ),
    "register": Step(
        register,
        ("classification",),
        "The best classifier gets a name.",
        f"Whoever uses the model asks for {MODEL}@champion and needs to know no run. Version 1, 2, ... keep the past.\n"
        "It becomes champion only through a gate: it is judged on 1,761 customers that it has never seen.",
    ),
    "gate": Step(
        gate,
        ("classification", "register"),
        "A challenger comes along.",
        "A random forest is trained, registered, and compared with the champion on the same customers.\n"
        "If it is not surely worse and answers fast enough, the name moves to it; else all stays as it is.",
    ),
    "deploy": Step(
        deploy,
        ("classification", "register"),
        "The champion answers requests.",
        "It is served over HTTP on this machine, four new customers are sent to it, and it is taken down again.\n"
        "The same commands deploy a new version without losing a request, roll it back, and use Azure.",
    ),
    "reproduce": Step(
        reproduce,
        ("classification",),
        "The same again, a year later?",
        "The first step is run once more, from the commit that it recorded, and all its results are compared.\n"
        "It succeeds only if the metrics and predictions are the same to the last digit.",
    ),
}


def chosen(only: str) -> list[str]:
    """The steps asked for, in the order of the tour; empty means all.

    Raises click.BadParameter for a name that is no step, and for a step without one that it needs.
    """
    asked = [name.strip() for name in only.split(",") if name.strip()] or list(STEPS)
    for name in asked:
        if name not in STEPS:
            right = f"{name!r} is no step; choose from: {', '.join(STEPS)}."
            raise click.BadParameter(right, param_hint="'--only'")
    for name in asked:
        if not set(STEPS[name].needs) <= set(asked):
            needed = ",".join([*STEPS[name].needs, name])
            right = f"{name!r} needs what an earlier step makes: say only={needed}."
            raise click.BadParameter(right, param_hint="'--only'")
    return [name for name in STEPS if name in asked]


def why_not_reproducible(run: Run, tour: Run) -> str:
    """Why nobody could fetch the files of a run from a repository again; empty where one can."""
    commit, repo = (run.data.tags.get(tag, "") for tag in (MLFLOW_GIT_COMMIT, MLFLOW_GIT_REPO_URL))
    if not commit:
        return "this folder is not in a Git repository, so the run recorded no commit"
    if run.data.tags.get("mlflow.source.git.dirty") == "true":
        return "this folder has uncommitted changes, which no commit holds"
    if not repo or repo.startswith("file:") or Path(repo).exists():
        return "this repository has no address to fetch the commit from"
    if tour.data.tags.get(MLFLOW_SOURCE_NAME, "file:").startswith("file:"):
        git = ["git", "-C", str(FOLDER), "branch", "--remotes", "--contains", commit]
        if not subprocess.run(git, capture_output=True, text=True).stdout.strip():
            return f"the commit {commit[:7]} has not been pushed"
    return ""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def indented() -> Iterator[None]:
    """Indent what is printed in the block, by other processes too, and leave out what only fits a run by itself."""
    reading, writing = os.pipe()
    before = {number: os.dup(number) for number in (1, 2)}

    def show() -> None:
        with open(reading, errors="replace") as lines, open(before[1], "w", closefd=False) as terminal:
            for line in lines:
                # How to open the one run; how far a sweep is, numbered as the steps of the tour are.
                if not re.match(r"See the run:|\s+then http|\[\d+/\d+\] ", line):
                    print(f"    {line}".rstrip(), file=terminal, flush=True)

    showing = threading.Thread(target=show, daemon=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in before:
        os.dup2(writing, number)
    os.close(writing)
    showing.start()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, kept in before.items():
            os.dup2(kept, number)
        showing.join(10)  # a process that outlives the block may hold the pipe
        for kept in before.values():
            os.close(kept)


def tell(tour: Tour, asked: list[str]) -> list[str]:
    """Play the steps one after the other; one that fails stops only those that need it. Returns those that failed."""
    failed: list[str] = []
    for number, name in enumerate(asked, start=1):
        step = STEPS[name]
        click.echo(f"\n[{number}/{len(asked)}] {name}: {step.title}\n{step.introduction}")
        lacking = [other for other in step.needs if other in failed]
        if lacking:
            click.echo(f"\n    Left out: it needs {lacking[0]}, which failed.")
            failed.append(name)
            continue
        try:
            step.play(tour)
        except LeftOutError as reason:
            click.echo(f"\n    Left out: {reason}")
        except StepFailedError as reason:
            click.echo(f"\n    Failed: {reason}")
            failed.append(name)
    return failed


def end_below(parent: Run) -> None:
    """End the child runs that a Ctrl-C left RUNNING: MLflow forgets one whose process it was just starting."""
    client = MlflowClient()
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([parent.info.experiment_id], below):
        client.set_terminated(run.info.run_id, "KILLED")


def say_what_next(tour: Tour, asked: list[str], seconds: float) -> None:
    """The end: what there is to open, and what to try."""
    uri, run = mlflow.get_tracking_uri(), tour.parent.info
    page = f"/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    click.echo(f"\nThe tour took {seconds:.0f} s. All that it did lies below one run. Open it:")
    if uri.startswith(("http://", "https://")):
        click.echo(f"    {uri.rstrip('/')}{page}")
    else:
        click.echo(f"    mlflow ui --workers 1 --backend-store-uri {uri}")
        click.echo(f"    http://127.0.0.1:5000{page}")
    click.echo("There, Model metrics draws the curves, Artifacts has the pictures, and Models the registered model.")
    click.echo("\nThen try your own table, see who was champion when, or repeat a step:")
    mine = tour.command("classification").replace(" --env", ' -P data="$PWD/my.csv" -P target=my_column --env')
    click.echo(f"    {mine}")
    if "register" in asked:
        click.echo(f"    {tour.command('registry_deploy', 'history', name=MODEL)}")
    click.echo(f"    {tour.command('.', only='classification,register').replace('#.', '')}")


@click.command()
@click.option("--only", default="", help="Steps, comma-separated; default: all.")
@click.option("--env_manager", type=click.Choice(["", "conda", "uv", "virtualenv", "local"]), default="")
def main(only: str, env_manager: str) -> None:
    """Walk through the life of a model."""
    asked = chosen(only)
    started = time.monotonic()
    with mlflow.start_run() as parent:
        # MLflow does not hand the environment manager on to child runs.
        tour = Tour(parent, env_manager or parent.data.tags.get(MLFLOW_PROJECT_ENV, "local"))
        try:
            failed = tell(tour, asked)
        except KeyboardInterrupt:
            end_below(parent)
            raise
        if failed:
            raise click.ClickException(f"{len(failed)} of {len(asked)} steps failed: {', '.join(failed)}.")
        say_what_next(tour, asked, time.monotonic() - started)


STOPS = (signal.SIGINT, signal.SIGTERM)  # after a Ctrl-C, `mlflow run` sends a SIGTERM on top


def interrupt(number: int, frame: FrameType | None) -> None:
    """End on the first Ctrl-C, and let no other cut the clean-up short."""
    for each in STOPS:
        signal.signal(each, ignore)
    raise KeyboardInterrupt


def ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN, the processes that are started do not inherit it."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no Ctrl-C cut the block short."""
    before = {each: signal.signal(each, ignore) for each in STOPS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


if __name__ == "__main__":
    for each in STOPS:
        signal.signal(each, interrupt)
    try:
        main.main(standalone_mode=False)
    except click.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.UsageError as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(1)
