"""Run a past run of any MLflow Project again, from its commit in a fresh environment, and compare the two."""

from __future__ import annotations

import os
import sys

import click
import mlflow

from children import Child, run_children, temporary_folder
from comparison import ABSENT, Comparison, Row
from past import Past, counterpart, find, unquoted
from pinned import Project, load
from report import Report
from repository import history
from support.entry_point import FiniteRange, log_working_tree, run_command, say_where_to_look


def run_again(past: Past, project: Project, env_manager: str | None) -> Child:
    """Run the entry point of a past run with its parameters, as a child of the active run.

    A run holds its parameters and what its script logged beside them, and nothing tells the ones that the entry point
    does not declare apart. They are left out; if the new run lacks any of them, it was given on the command line, and
    the run is made once more, with it.
    """
    entry_point = past.entry_point
    recorded = {name: unquoted(value) for name, value in past.project_run.data.params.items()}
    declared = project.entry_points.get(entry_point, {})
    child = Child(entry_point, {name: value for name, value in recorded.items() if name in declared})
    run_children(project, [child], env_manager=env_manager)
    there = child.run.data.params if child.run else {}
    given = {name: value for name, value in recorded.items() if name not in declared and name not in there}
    if given:
        child = Child(entry_point, child.parameters | given)
        run_children(project, [child], env_manager=env_manager)
    return child


@click.command()
@click.option("--run_id", required=True, help="Any run of an MLflow Project that came from Git.")
@click.option(
    "--env_manager",
    type=click.Choice(["", "conda", "uv", "virtualenv", "local"]),
    default="",
    help="Default: the one that the run recorded, or uv.",
)
@click.option("--rtol", type=FiniteRange(min=0), default=0.0, help="Relative tolerance for metrics and predictions.")
@click.option("--atol", type=FiniteRange(min=0), default=0.0, help="Absolute tolerance for metrics and predictions.")
@click.option("--ignore", default="*_seconds,system/*", help="Metrics not to compare, comma-separated patterns.")
@click.option("--allow_dirty", type=click.BOOL, default=False, help="Also a run whose files were not of its commit.")
def reproduce(run_id: str, env_manager: str, rtol: float, atol: float, ignore: str, allow_dirty: bool) -> None:
    """Run a past run again and compare what it recorded. The exit code is 0 only where it is reproduced, else 1."""
    past = find(run_id, allow_dirty)
    patterns = [name.strip() for name in ignore.split(",") if name.strip()]
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with temporary_folder() as folder:
        project = load(past.repo, past.commit, past.folder)
        kept = past.commit in history(past.repo)
        manager = env_manager or past.env_manager or ("uv" if project.has_environment else "local")
        if manager != "local":
            os.environ["MLFLOW_ENV_ROOT"] = str(folder / "environments")  # of uv and virtualenv: so they are fresh
            os.environ["UV_COMPILE_BYTECODE"] = "0"  # it takes longer than it saves in an environment used once
        click.echo(f"{project.uri} at {past.commit}: {past.entry_point} again, with {manager}")

        with mlflow.start_run() as reproduction:
            if not reproduction.data.params:  # `mlflow run` has logged them
                mlflow.log_params(click.get_current_context().params)
            log_working_tree()
            child = run_again(past, project, None if manager == "docker" else manager)
            comparison = Comparison(rtol, atol, patterns, manager, folder)
            again = counterpart(past, child.run) if child.run else None
            status = again.info.status if again else ABSENT
            rows = [Row("", "run", "status", past.run.info.status, status, status == past.run.info.status)]
            if again and child.status == "FINISHED":
                rows += comparison.rows(past.run, again)
            report = Report(past, project, child, again, rows, manager, kept, patterns)
            report.log()
            report.show()
            click.echo(f"Report: runs:/{reproduction.info.run_id}/report.md")
            say_where_to_look()
            if not report.reproduced:
                sys.exit(1)


if __name__ == "__main__":
    run_command(reproduce)
