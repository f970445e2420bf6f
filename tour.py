"""A tour of the collection: its examples, each run as the MLflow Project that it is, as child runs of one parent."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click
import mlflow
from mlflow.exceptions import ExecutionException
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV

FOLDER = Path(__file__).resolve().parent

# What each step runs, in settings that take seconds. The name of a step is the name of its folder.
STEPS = {
    "classification": {"models": "decision_tree,gaussian_nb,logistic_regression"},
    "clustering": {"k_max": "8"},
}


def steps(only: str) -> list[str]:
    """The steps that are here and asked for, in the order of the tour.

    Raises click.BadParameter for a name that is no step.
    """
    here = [name for name in STEPS if (FOLDER / name / "MLproject").exists()]
    asked = [name.strip() for name in only.split(",") if name.strip()] or here
    for name in asked:
        if name not in here:
            right = f"{name!r} is no step; choose from: {', '.join(here)}."
            raise click.BadParameter(right, param_hint="'--only'")
    return [name for name in here if name in asked]


@click.command()
@click.option("--only", default="", help="Steps, comma-separated; default: all.")
@click.option("--env_manager", type=click.Choice(["", "conda", "uv", "virtualenv", "local"]), default="")
def tour(only: str, env_manager: str) -> None:
    """Run the examples one after the other; one that fails does not stop the others."""
    asked = steps(only)
    failed = []
    with mlflow.start_run() as parent:
        # MLflow does not hand the environment manager on to child runs.
        manager = env_manager or parent.data.tags.get(MLFLOW_PROJECT_ENV, "local")
        for number, name in enumerate(asked, start=1):
            click.echo(f"\n[{number}/{len(asked)}] {name}")
            try:
                mlflow.projects.run(str(FOLDER / name), parameters=STEPS[name], env_manager=manager, run_name=name)
            except ExecutionException as error:
                failed.append(name)
                click.echo(f"{name}: {error}", err=True)
        if failed:
            raise click.ClickException(f"{len(failed)} of {len(asked)} steps failed: {', '.join(failed)}.")
        click.echo("\nThe tour is over. Its runs lie below one parent: mlflow ui --workers 1")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End on the first Ctrl-C, and let nothing cut that short: `mlflow run` sends a SIGTERM on top."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, frame: None)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    try:
        tour.main(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.UsageError as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(1)
