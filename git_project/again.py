"""Run the entry point of a past run again, with its parameters, where it can do no harm; or find out why that fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from mlflow import MlflowClient
from mlflow.entities import Run

from children import Child, children_of, environment, run_children
from recorded import Past, unquoted
from repository import FOLDER, load
from sameness import IGNORE, Own, Sameness

MARK = "made_again_in"  # a tag of the runs that a script begins while it is run again
LOG = re.compile(
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) |\s*hint:|🏃|🧪|"
    r"See the run: |Voir l’exécution|\s+(then|puis) http"
)
ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
CAUSE = re.compile(r"\s*(╰─▶|cause:|Caused by:) ")  # as uv begins it


@dataclass
class NotTried(Exception):  # noqa: N818 - no error: the third answer
    """A past run could not be run again: the last line of the cause, and a way on."""

    cause: str
    way_on: str = ""


class Attempt:
    """A run that is made for a past one: its project at its commit, with its parameters; see `reproduce.py --help`.

    Raises NotTried where the repository or the commit is not there.
    """

    def __init__(self, past: Past, manager: str, parameters: dict[str, str], registry: str, experiment: str) -> None:
        try:
            self.project = load(past.repo, past.commit, past.folder)
        except click.ClickException as error:
            moved = f"If it has moved: git config --global url.<new address>.insteadOf {past.repo}"
            way_on = f"Make the repository and its commit available, then try again. {moved}"
            raise NotTried(error.format_message(), way_on) from None
        self.env_manager = manager or past.env_manager or ("uv" if self.project.environment else "local")
        self.registry, self.experiment = registry, experiment
        declared = self.project.declared(past.entry_point)
        given = {name: value for name, value in past.parameters.items() if name in declared}
        paths = {name: user_folder() / given[name] for name in given if declared[name].get("type") == "path"}
        located = {name: str(path) for name, path in paths.items() if path.exists()}
        replaced = past.resolved | parameters
        self.child = Child(past.entry_point, given | located | replaced)
        self.replaced = {*replaced}  # parameters that were given another value than the recorded one, on purpose
        self.located = {*located} - {*replaced}  # those of type path whose file was found where the user stands
        # What a reader should know of how it was made.
        self.notes = [
            f"{name} was {was[:40]} at that time, which was given again."
            for name, was in past.resolved.items()
            if name not in parameters
        ]
        self.begun = False  # whether the entry point itself was started, once its environment was there
        self.mark = ""  # with what the runs that its script begins are tagged

    @property
    def run(self) -> Run:
        """Its run. Raises NotTried where none was made."""
        if self.child.run is None:
            raise NotTried(self.child.error)
        return self.child.run


def rules_for(past: Past, again: Run, rtol: float = 0.0, atol: float = 0.0, ignore: str = IGNORE) -> Sameness:
    """What counts as the same for a past run and the run that was made for it."""
    one, other = ((run.info.start_time / 1000, run.info.end_time / 1000) for run in (past.project_run, again))
    patterns = tuple(name.strip() for name in ignore.split(",") if name.strip())
    return Sameness(Own(*one, folder=past.checkout), Own(*other), rtol, atol, patterns)


def user_folder() -> Path:
    """The folder from which the user gave the command: `mlflow run` starts this process in the project's."""
    here, process = Path.cwd(), os.getppid()
    for _ in range(2 if here == FOLDER else 0):  # a shell may stand between
        try:
            there = Path(os.readlink(f"/proc/{process}/cwd"))
            parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # no Linux, or a process of somebody else
            break
        if there != here:
            return there
        process = int(parent)
    return here


def run_again(past: Past, attempt: Attempt, reproduction: Run, folder: Path) -> None:
    """Run the entry point of a past run with its parameters, as a child of the reproduction.

    A run holds its parameters and what its script logged beside them, and nothing tells the ones that MLproject does
    not declare apart. It is run without them first. Where one of them comes out otherwise and the programs have an
    option of its name, it was given on the command line, and the run is made once more, with it.

    folder: for what is thrown away afterwards.

    Raises NotTried where the environment or something else that it needs is not there.
    """
    click.echo(f"{attempt.project.uri} at {past.commit}: {past.entry_point} again, with {attempt.env_manager}")
    if attempt.env_manager not in ("local", "docker"):
        os.environ["MLFLOW_ENV_ROOT"] = str(folder / "environments")  # of uv and virtualenv: so they are fresh
        os.environ["UV_COMPILE_BYTECODE"] = "0"  # it takes longer than it saves in an environment used once
    experiment = _experiment(past, attempt, reproduction)
    _run(attempt, experiment, reproduction, folder)
    if beside := _given_beside(past, attempt):
        first, first_mark = attempt.child, attempt.mark
        shown = ", ".join(f"{name}={value}" for name, value in beside.items())
        click.echo(f"Once more, with {shown}, which MLproject does not declare.")
        attempt.child = Child(past.entry_point, first.parameters | beside)
        _run(attempt, experiment, reproduction, folder)
        if attempt.child.status != "FINISHED" and first.status == "FINISHED":
            attempt.child, attempt.mark = first, first_mark
        else:
            attempt.notes.append(f"MLproject does not declare {shown}: given on the command line, as it seems.")
    if attempt.child.status != "FINISHED":
        raise NotTried(attempt.child.error, _way_on(attempt))


def _experiment(past: Past, attempt: Attempt, reproduction: Run) -> str:
    """In which experiment the run is made: that of the original, whose name the script may set; or a new one.

    A workflow that looks for finished steps would find those of the original there and train nothing.
    """
    client, original, source = MlflowClient(), past.project_run.info.experiment_id, attempt.project.source
    steps = any("mlflow.project.entryPoint" in run.data.tags for run in children_of(past.project_run))
    searches = "search_runs" in source and "set_experiment" not in source
    if (attempt.experiment or ("new" if steps and searches else "same")) == "same":
        return str(original)
    name = f"{client.get_experiment(original).name} again {reproduction.info.run_id[:8]}"
    attempt.notes.append(f"It was run in an experiment of its own, {name}, where no steps of earlier runs are.")
    return str(client.create_experiment(name))


def _run(attempt: Attempt, experiment: str, reproduction: Run, folder: Path) -> None:
    """Run the child, hear what it prints, and leave on it the last line of the cause where it fails."""
    child, again = attempt.child, " again" if attempt.mark else ""
    attempt.mark = f"{reproduction.info.run_id}{again}"
    # By this variable MLflow tags every run that a script begins.
    context = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT", "{}")) | {MARK: attempt.mark}
    variables = {"MLFLOW_RUN_CONTEXT": json.dumps(context)}
    if attempt.registry == "scratch":
        variables["MLFLOW_REGISTRY_URI"] = f"sqlite:///{folder / 'registry.db'}"
    manager = None if attempt.env_manager == "docker" else attempt.env_manager
    with environment(**variables), heard() as lines:
        run_children(attempt.project, [child], reproduction, env_manager=manager, experiment_id=experiment)
    if child.run:
        MlflowClient().set_tag(child.run.info.run_id, MARK, attempt.mark)
    attempt.begun = any("=== Running command" in line for line in lines)
    if child.status != "FINISHED" and (child.error == "see what it printed" or "exit code" in child.error.lower()):
        child.error = last_cause(list(lines)) or child.error


def _given_beside(past: Past, attempt: Attempt) -> dict[str, str]:
    """Parameters that the past run was given although MLproject does not declare them, by their values."""
    if attempt.child.run is None:
        return {}
    rules, now = rules_for(past, attempt.run), attempt.run.data.params
    return {
        name: value
        for name, value in past.parameters.items()
        if name not in attempt.child.parameters
        and attempt.project.has_option(name)
        and not rules.is_ignored(name)
        and not rules.alike(value, unquoted(now.get(name, "")))
    }


@contextlib.contextmanager
def heard() -> Iterator[deque[str]]:
    """The last lines that this process and those that it starts print, while they are printed."""
    lines: deque[str] = deque(maxlen=300)
    kept = [os.dup(1), os.dup(2)]
    reading, writing = os.pipe()

    def listen() -> None:
        with open(reading, encoding="utf-8", errors="replace", newline="") as stream:
            for line in stream:
                lines.append(ANSI.sub("", line).rstrip())
                os.write(kept[1], line.encode())

    def redirect(*descriptors: int) -> None:
        for number, (stream, descriptor) in enumerate(zip((sys.stdout, sys.stderr), descriptors, strict=True), 1):
            stream.flush()
            os.dup2(descriptor, number)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    redirect(writing, writing)
    os.close(writing)
    try:
        yield lines
    finally:
        redirect(*kept)
        thread.join(timeout=5)  # a process that outlives its run may still hold the other end
        for descriptor in kept if not thread.is_alive() else []:
            os.close(descriptor)


def last_cause(lines: list[str]) -> str:
    """The last line that says why something failed, without what MLflow and uv print behind it."""
    told = [line for line in lines if line.strip() and not LOG.match(line)]
    last = max((at for at, line in enumerate(told) if CAUSE.match(line)), default=-1)  # it may be folded
    said = re.sub(f"^{CAUSE.pattern}", "", " ".join(" ".join(told[last:]).split()))
    return said if len(said) <= 300 else f"{said[:297]}..."


def _way_on(attempt: Attempt) -> str:
    """What the user can do about a cause."""
    cause, project = attempt.child.error, attempt.project
    missing = re.search(r"No such file|FileNotFound|no such file|does not exist|not found", cause)
    if project.pointers:
        return f"Install git-lfs: without it {project.pointers[0]} is a pointer of Git LFS and not the file."
    if attempt.env_manager == "docker" or "docker" in cause.lower():
        return "Start Docker: MLflow runs this project nowhere else, whichever env_manager is given."
    if not attempt.begun and attempt.env_manager != "local":
        return "Try another environment: -P env_manager=local uses what is installed here."
    if "ModuleNotFoundError" in cause or "ImportError" in cause:
        return "Try another environment: -P env_manager=uv makes the one that the project asks for."
    if missing and attempt.registry == "scratch" and re.search("[Rr]egistered|[Mm]odel", cause):
        return "If it needs a registered model, -P registry=same lets it read, and write, your registry."
    if missing:
        return "Put the file where it lay, or say where it is now: -P 'parameters={data: /full/path}'."
    return "What it printed above says more."
