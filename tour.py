"""The tour: a model's whole life, told by the examples, each run as the MLflow Project that it is, below one parent."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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

from support.entry_point import describe_run, run_command, say_where_to_look

FOLDER = Path(__file__).resolve().parent

# The examples inherit it: their own words, as they come, without MLflow's account of each run.
QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PYTHONUNBUFFERED": "1",
}
MODEL = "churn_tour"  # the registered model
# The gate judges by other rows of the same table, which no model may have been fitted on.
TRAINING = "../registry_deploy/data/churn_training.csv"  # as classification sees it
CUSTOMERS = "data/churn_validation.csv"  # who ask the endpoint, as registry_deploy sees it


class StepFailedError(Exception):
    """A step failed; what it printed says why."""


class LeftOutError(Exception):
    """A step cannot be shown here, which is no failure."""


class Tour:
    """What the steps share: how to run an example, and the runs so far by name.

    parent: the run of the tour. manager: the environment manager of all runs.
    """

    def __init__(self, parent: Run, manager: str) -> None:
        self.parent = parent
        self.manager = manager
        self.runs: dict[str, Run] = {}

    def command(self, example: str, entry_point: str = "main", /, **parameters: object) -> str:
        """The command that runs an example as the tour does, from the folder where the tour was started."""
        source = self.parent.data.tags.get(MLFLOW_SOURCE_NAME, "")
        remote = re.match(r"(https?|ssh|git)://|git@", source)
        words = ["mlflow", "run", f"{source}#{example}" if remote else example]
        words += ["-e", entry_point] if entry_point != "main" else []
        words += [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
        words += ["--env-manager", self.manager] if self.manager != "conda" else []
        return shlex.join(words)

    def run(
        self, run_name: str, example: str, entry_point: str = "main", /, apart: bool = False, **parameters: object
    ) -> None:
        """Run an example's entry point as a child run called `run_name`; show the command and what it prints.

        apart: in a process group of its own, which Ctrl-C does not reach.

        Raises StepFailedError if it fails.
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
        self.runs[run_name] = MlflowClient().get_run(submitted.run_id)


def classification(tour: Tour) -> None:
    models = "decision_tree,gaussian_nb,logistic_regression"
    tour.run("classification", "classification", data=TRAINING, models=models)


def clustering(tour: Tour) -> None:
    tour.run("clustering", "clustering", k_max=8)


def register(tour: Tour) -> None:
    uri = tour.runs["classification"].data.tags["best_model_uri"]
    tour.run("register", "registry_deploy", "register", model_uri=uri, name=MODEL)
    tour.run("first gate", "registry_deploy", "promote", model_uri=f"models:/{MODEL}@challenger", max_slowdown=10)


def gate(tour: Tour) -> None:
    tour.run("challenger", "classification", "random_forest", data=TRAINING)
    uri = f"runs:/{tour.runs['challenger'].info.run_id}/model"
    tour.run("register again", "registry_deploy", "register", model_uri=uri, name=MODEL)
    tour.run("gate", "registry_deploy", "promote", model_uri=f"models:/{MODEL}@challenger", max_slowdown=10)


def deploy(tour: Tour) -> None:
    endpoint = f"tour-{tour.parent.info.run_id[:8]}"  # two tours at a time do not meet
    try:
        uri = f"models:/{MODEL}@champion"
        tour.run(
            "deploy", "registry_deploy", "deploy", endpoint=endpoint, model_uri=uri, port=-1, record=recorded(tour)
        )
        tour.run("score", "registry_deploy", "score", endpoint=endpoint, data=CUSTOMERS)
    finally:
        with interrupts_held():  # the score that a Ctrl-C has ended may fail before the Ctrl-C is heeded here
            tour.run("undeploy", "registry_deploy", "undeploy", endpoint=endpoint, apart=True)


def reproduce(tour: Tour) -> None:
    trained = tour.runs["classification"]
    if reason := why_not_reproducible(trained, tour.parent):
        raise LeftOutError(f"{reason}. From the address of a repository it works: mlflow run https://...")
    tour.run("reproduce", "git_project", "reproduce", run_id=trained.info.run_id, env_manager=tour.manager)


def watch(tour: Tour) -> None:
    endpoint = f"tour-{tour.parent.info.run_id[:8]}"
    tour.run("watch", "watch", "drift", record=recorded(tour), endpoint=endpoint, name=MODEL)


def recorded(tour: Tour) -> str:
    """The folder of what the endpoint was asked and has answered: named alike on all machines, for `reproduce`."""
    return f"~/.cache/tour-{tour.parent.info.run_id[:8]}"


class Step(NamedTuple):
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
        "The best comes first. A roc_auc of 1 ranks every customer who left above all who stayed; 0.5 is guessing.",
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
        f"Programs that use the model ask for {MODEL}@champion, not for a run. Versions 1, 2, ... keep the past.\n"
        "It becomes champion only through a gate, which tests it on 1,761 customers that it has never seen.",
    ),
    "gate": Step(
        gate,
        ("classification", "register"),
        "A challenger comes along.",
        "A random forest is trained, registered, and compared with the champion on the same customers.\n"
        "If it is as good within a margin and answers fast enough, it becomes champion; else nothing changes.",
    ),
    "deploy": Step(
        deploy,
        ("classification", "register"),
        "The champion answers requests.",
        "It is served over HTTP on this machine, scores 1,761 customers, which is recorded, and is taken down again.\n"
        "The same commands deploy a new version without losing a request, roll it back, and use Azure.",
    ),
    "reproduce": Step(
        reproduce,
        ("classification",),
        "Can the first result be reproduced?",
        "The first step is run again, from the commit that it recorded, and all its results are compared.\n"
        "It succeeds only if metrics and predictions are the same to the last digit.",
    ),
    "watch": Step(
        watch,
        ("classification", "register", "deploy"),
        "Are the customers still like those that it learned from?",
        "What the endpoint was asked and has answered is compared with the training data, column by column.\n"
        "When it drifts, the same example trains the champion again and lets the gate judge: mlflow run watch.",
    ),
}


def chosen(only: str) -> list[str]:
    """The steps asked for, in the order of the tour; empty means all.

    Raises click.BadParameter for a name that is not a step, and for a step without one that it needs.
    """
    asked = [name.strip() for name in only.split(",") if name.strip()] or list(STEPS)
    for name in asked:
        if name not in STEPS:
            right = f"{name!r} is not a step: choose from {', '.join(STEPS)}."
            raise click.BadParameter(right, param_hint="'--only'")
    for name in asked:
        if not set(STEPS[name].needs) <= set(asked):
            needed = ",".join([*STEPS[name].needs, name])
            right = f"{name!r} needs the results of earlier steps: give only={needed}."
            raise click.BadParameter(right, param_hint="'--only'")
    return [name for name in STEPS if name in asked]


def why_not_reproducible(run: Run, tour: Run) -> str:
    """Why the files of a run could not be fetched from a repository again; empty if they could."""
    commit, repo = (run.data.tags.get(tag, "") for tag in (MLFLOW_GIT_COMMIT, MLFLOW_GIT_REPO_URL))
    if not commit:
        return "this folder is not in a Git repository, so the run recorded no commit"
    if run.data.tags.get("mlflow.source.git.dirty") == "true":
        return "this folder has uncommitted changes, which are in no commit"
    if not repo or repo.startswith("file:") or Path(repo).exists():
        return "this repository has no address to fetch the commit from"
    if tour.data.tags.get(MLFLOW_SOURCE_NAME, "file:").startswith("file:"):
        git = ["git", "-C", str(FOLDER), "branch", "--remotes", "--contains", commit]
        if not subprocess.run(git, capture_output=True, text=True).stdout.strip():
            return f"the commit {commit[:7]} has not been pushed"
    return ""


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM, also one that waits for MLflow (support/interrupts.py), for the end of the block."""
    seen: list[int] = []
    names = [name for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda number, _: seen.append(number)) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
        if seen:
            raise KeyboardInterrupt


@contextmanager
def indented() -> Iterator[None]:
    """Indent what is printed in the block, by other processes too."""
    reading, writing = os.pipe()
    kept = [os.dup(1), os.dup(2)]
    showing = threading.Thread(target=show_indented, args=(reading, kept[0]), daemon=True)
    showing.start()
    replace_output(writing, writing)
    os.close(writing)
    try:
        yield
    finally:
        replace_output(*kept)
        showing.join(10)  # a process that outlives the block may still hold the pipe
        for each in kept:
            os.close(each)


def replace_output(stdout: int, stderr: int) -> None:
    """Let what this process and its children print go to other file descriptors."""
    for stream, target in ((sys.stdout, stdout), (sys.stderr, stderr)):
        stream.flush()
        os.dup2(target, stream.fileno())


def show_indented(reading: int, terminal: int) -> None:
    """Copy the lines of a pipe, without those on how to open one run and how far a sweep is."""
    with open(reading, errors="replace") as lines, open(terminal, "w", closefd=False) as shown:
        for line in lines:
            if not re.match(r"See the run:|\s+then http|\[\d+/\d+\] ", line):
                print(f"    {line}".rstrip(), file=shown, flush=True)


def play(tour: Tour, asked: list[str]) -> list[str]:
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
    """End the child runs that Ctrl-C left RUNNING: MLflow forgets one whose process it was just starting."""
    client = MlflowClient()
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([parent.info.experiment_id], below):
        client.set_terminated(run.info.run_id, "KILLED")


def say_what_next(tour: Tour, asked: list[str], seconds: float) -> None:
    """Say where to look, and what to try."""
    click.echo(f"\nThe tour took {seconds:.0f} s. All its runs are below one.")
    say_where_to_look()
    click.echo("\nThen use your own table, see the history of champions, or repeat some steps:")
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
    os.environ.update(QUIET)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    started = time.monotonic()
    with mlflow.start_run() as parent:
        describe_run(parent, "tour")
        # MLflow does not hand the environment manager on to child runs.
        tour = Tour(parent, env_manager or parent.data.tags.get(MLFLOW_PROJECT_ENV, "local"))
        try:
            failed = play(tour, asked)
        except KeyboardInterrupt:
            end_below(parent)
            raise
        finally:
            shutil.rmtree(Path(recorded(tour)).expanduser(), ignore_errors=True)
        if failed:
            raise click.ClickException(f"{len(failed)} of {len(asked)} steps failed: {', '.join(failed)}.")
        say_what_next(tour, asked, time.monotonic() - started)


if __name__ == "__main__":
    run_command(main)
