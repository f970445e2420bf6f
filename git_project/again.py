"""Run the entry point of a past run again, with its parameters, where it can do no harm; or find out why that fails."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from beside import MARK, marked
from children import Child, Start, children_of, environment, run_children
from past import Past, unquoted
from repository import FOLDER, Project, load
from sameness import IGNORE, Own, Sameness

LOG = re.compile(
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) |\s*hint:|🏃|🧪|"
    r"See the run: |Voir l’exécution|\s+(then|puis) http"
)
ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")


class NotTried(Exception):  # noqa: N818 - no error: the third answer
    """A past run could not be run again: the last line of the cause, and a way on."""

    def __init__(self, cause: str, way_on: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.way_on = way_on


@dataclass(frozen=True)
class Settings:
    """What the user asked for: see the options of `reproduce`."""

    env_manager: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    registry: str = "scratch"
    experiment: str = ""


@dataclass
class Attempt:
    """A run that was made for a past one.

    replaced: parameters that were given another value than the recorded one, on purpose.
    located: parameters of type path whose file was found where the user stands, and given in full.
    notes: what a reader should know of how it was made.
    begun: whether the entry point itself was started, once its environment was there.
    mark: with what the runs that its script begins are tagged.
    """

    project: Project
    child: Child
    env_manager: str
    replaced: set[str] = field(default_factory=set)
    located: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    begun: bool = False
    mark: str = ""

    @property
    def run(self) -> Run:
        """Its run. Raises NotTried where none was made."""
        if self.child.run is None:
            raise NotTried(self.child.error, "")
        return self.child.run


def rules_for(past: Past, again: Run, rtol: float = 0.0, atol: float = 0.0, ignore: str = IGNORE) -> Sameness:
    """What counts as the same for a past run and the run that was made for it."""
    windows = [(run.info.start_time / 1000, run.info.end_time / 1000) for run in (past.project_run, again)]
    patterns = tuple(name.strip() for name in ignore.split(",") if name.strip())
    return Sameness(Own(*windows[0], folder=past.checkout), Own(*windows[1]), rtol, atol, patterns)


def prepare(past: Past, settings: Settings, folder: Path) -> Attempt:
    """What will be run for a past run: its project at its commit, with its parameters, and what makes its environment.

    Raises NotTried where the repository or the commit is not there.
    """
    try:
        project = load(past.repo, past.commit, past.folder)
    except click.ClickException as error:
        moved = f"If it has moved: git config --global url.<new address>.insteadOf {past.repo}"
        way_on = f"Make the repository and its commit available, then try again. {moved}"
        raise NotTried(error.format_message(), way_on) from None
    manager = settings.env_manager or past.env_manager or ("uv" if project.environment else "local")
    if manager not in ("local", "docker"):
        os.environ["MLFLOW_ENV_ROOT"] = str(folder / "environments")  # of uv and virtualenv: so they are fresh
        os.environ["UV_COMPILE_BYTECODE"] = "0"  # it takes longer than it saves in an environment used once
    declared = project.declared(past.entry_point)
    given = {name: value for name, value in past.parameters.items() if name in declared}
    paths = {name: user_folder() / value for name, value in given.items() if declared[name].get("type") == "path"}
    located = {name: str(path) for name, path in paths.items() if path.exists()}
    given |= located | past.resolved | settings.parameters
    replaced = {*past.resolved, *settings.parameters}
    attempt = Attempt(project, Child(past.entry_point, given), manager, replaced, {*located} - replaced)
    for name, value in past.resolved.items():
        attempt.notes.append(f"{name} was {value[:40]} when the original was run: this was given in its place.")
    return attempt


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


def run_again(past: Past, attempt: Attempt, reproduction: Run, folder: Path, settings: Settings) -> None:
    """Run the entry point of a past run with its parameters, as a child of the reproduction.

    A run holds its parameters and what its script logged beside them, and nothing tells the ones that MLproject does
    not declare apart. It is run without them first. Where one of them comes out otherwise and the programs have an
    option of its name, it was given on the command line, and the run is made once more, with it.

    Raises NotTried where the environment or something else that it needs is not there.
    """
    manager, given = attempt.env_manager, attempt.child.parameters
    click.echo(f"{attempt.project.uri} at {past.commit}: {past.entry_point} again, with {manager}")
    experiment = _experiment(past, attempt, reproduction, settings)
    how = Start(reproduction, env_manager=None if manager == "docker" else manager, experiment_id=experiment)
    _run(attempt, given, how, folder, settings, f"{reproduction.info.run_id} 1")
    if beside := _given_beside(past, attempt):
        first = attempt.child, attempt.mark
        shown = ", ".join(f"{name}={value}" for name, value in beside.items())
        click.echo(f"Once more, with {shown}, which MLproject does not declare.")
        _run(attempt, given | beside, how, folder, settings, f"{reproduction.info.run_id} 2")
        if attempt.child.status != "FINISHED" and first[0].status == "FINISHED":
            attempt.child, attempt.mark = first
        else:
            attempt.notes.append(f"MLproject does not declare {shown}: given on the command line, as it seems.")
    if attempt.child.status != "FINISHED":
        raise NotTried(attempt.child.error, _way_on(attempt, settings))


def _experiment(past: Past, attempt: Attempt, reproduction: Run, settings: Settings) -> str:
    """In which experiment the run is made: that of the original, whose name the script may set; or a new one.

    A workflow that looks for finished steps would find those of the original there and train nothing.
    """
    client, original, source = MlflowClient(), past.project_run.info.experiment_id, attempt.project.source
    steps = any(MLFLOW_PROJECT_ENTRY_POINT in run.data.tags for run in children_of(past.project_run))
    searches = "search_runs" in source and "set_experiment" not in source
    if settings.experiment != "new" and (settings.experiment or not steps or not searches):
        return str(original)
    name = f"{client.get_experiment(original).name} again {reproduction.info.run_id[:8]}"
    attempt.notes.append(f"It was run in an experiment of its own, {name}, where no steps of earlier runs are.")
    return str(client.create_experiment(name))


def _run(attempt: Attempt, given: dict[str, str], how: Start, folder: Path, settings: Settings, mark: str) -> None:
    """Run the child, hear what it prints, and leave on it the last line of the cause where it fails."""
    child = Child(attempt.child.entry_point, given)
    attempt.child, attempt.mark = child, mark
    scratch = {"MLFLOW_REGISTRY_URI": f"sqlite:///{folder / 'registry.db'}"} if settings.registry == "scratch" else {}
    with environment(**scratch, **marked(mark)), heard() as lines:
        run_children(attempt.project, [child], how)
    if child.run:
        MlflowClient().set_tag(child.run.info.run_id, MARK, mark)
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
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(1), os.dup(2)]
    reading, writing = os.pipe()

    def listen() -> None:
        with open(reading, encoding="utf-8", errors="replace", newline="") as stream:
            for line in stream:
                lines.append(ANSI.sub("", line).rstrip())
                os.write(kept[1], line.encode())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    for number in (1, 2):
        os.dup2(writing, number)
    os.close(writing)
    try:
        yield lines
    finally:
        for stream, descriptor in ((sys.stdout, kept[0]), (sys.stderr, kept[1])):
            stream.flush()
            os.dup2(descriptor, 1 if stream is sys.stdout else 2)
        thread.join(timeout=5)  # a process that outlives its run may still hold the other end
        for descriptor in kept if not thread.is_alive() else []:
            os.close(descriptor)


def last_cause(lines: list[str]) -> str:
    """The last line that says why something failed, without what MLflow and uv print behind it."""
    told = [line for line in lines if line.strip() and not LOG.match(line)]
    if not told:
        return ""
    folded = [number for number, line in enumerate(told) if re.match(r"\s*(╰─▶|cause:|Caused by:)", line)]  # by uv
    last = folded[-1] if folded else len(told) - 1
    said = re.sub(r"^(╰─▶|cause:|Caused by:) ", "", " ".join(" ".join(told[last:]).split()))
    return said if len(said) <= 300 else f"{said[:297]}..."


def _way_on(attempt: Attempt, settings: Settings) -> str:
    """What the user can do about a cause."""
    cause, project = attempt.child.error, attempt.project
    if project.pointers:
        return f"Install git-lfs: without it {project.pointers[0]} is a pointer of Git LFS and not the file."
    if attempt.env_manager == "docker" or "docker" in cause.lower():
        return "Start Docker: MLflow runs this project nowhere else, whichever env_manager is given."
    if not attempt.begun and attempt.env_manager != "local":
        return "Try another environment: -P env_manager=local uses what is installed here."
    if re.search(r"No such file|FileNotFound|no such file|does not exist|not found", cause) and "odule" not in cause:
        if settings.registry == "scratch" and re.search("[Rr]egistered|[Mm]odel", cause):
            return "If it needs a registered model, -P registry=same lets it read, and write, your registry."
        return "Put the file where it lay, or say where it is now: -P 'parameters={data: /full/path}'."
    if "ModuleNotFoundError" in cause or "ImportError" in cause:
        return "Try another environment: -P env_manager=uv makes the one that the project asks for."
    return "What it printed above says more."
