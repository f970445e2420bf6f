"""Run a past run of any MLflow Project again, from its commit, and compare what the two recorded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from again import Attempt, NotTried, rules_for, run_again
from beside import add_runs_beside
from children import temporary_folder
from comparison import Row, compare, know_ids, pair_runs
from recorded import Past, Recorded, ask_both, find, foreseen, read
from report import Report
from repository import forget_surroundings
from run import MANAGERS, read_parameters
from sameness import IGNORE, Sameness
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.table import bad

EXIT = {"true": 0, "false": 1, "not tried": 3}


def read_whole(run: Run, which: str) -> Recorded:
    """What the past or the new run recorded. Raises NotTried where its artifacts are not there."""
    try:
        return read(run)
    except Exception as error:  # whatever the client of an artifact store raises
        why = " ".join(str(error).split())[:300]
        raise NotTried(
            f"what the {which} run recorded cannot be read: {why}", "Make its artifacts available."
        ) from None


def compare_runs(
    past: Past, original: Recorded, attempt: Attempt, rules: Sameness, folder: Path, before: int
) -> tuple[list[Row], Run | None]:
    """What the past run and its counterpart recorded, row by row, and the counterpart, where there is one.

    before: ms since 1970 at which the reproduction was begun.

    Raises NotTried where steps of a workflow were not run again, because it found those of an earlier run.
    """
    one, other = original, read_whole(attempt.run, "new")
    other.parameters.update({name: one.parameters[name] for name in attempt.located})
    unknown = add_runs_beside(past, attempt, rules, one, other, folder, before)
    steps, now = (sum(1 for run in each.tree() if run.entry_point) for each in (one, other))
    if now < steps:
        raise NotTried(
            f"{steps - now} of {steps} steps were not run again: the project found those of an earlier run.",
            "-P experiment=new runs it where there are none.",
        )
    know_ids(one, other, rules)
    found: Recorded | None = other
    for below in past.line[1:]:
        pairs = pair_runs(one.below, found.below if found else [], rules)
        one, found = next((first, second) for first, second in pairs if first and first.run_id == below.info.run_id)
    if found is None:
        return [Row("run", "status", past.run.info.status, "(absent)", False)], None
    ask = partial(ask_both, env_manager=attempt.env_manager, folder=folder)
    rows = compare(one, found, rules, ask, attempt.replaced)
    return [*rows, *(unknown if one is original else [])], MlflowClient().get_run(found.run_id)


@click.command()
@click.option("--run_id", required=True, help="Any run of an MLflow Project that came from Git.")
@click.option("--env_manager", type=MANAGERS, default="", help="Default: the one that the run recorded, or uv.")
@click.option("--parameters", default="", help="Values in place of recorded ones, as YAML: {data: /where/it/is.csv}.")
@click.option("--rtol", type=FiniteRange(min=0), default=0.0, help="Relative tolerance for numbers.")
@click.option("--atol", type=FiniteRange(min=0), default=0.0, help="Absolute tolerance for numbers.")
@click.option("--ignore", default=IGNORE, help="Metrics, parameters, artifacts not to compare; patterns.")
@click.option("--registry", type=click.Choice(["scratch", "same"]), default="scratch", help="Where models register.")
@click.option("--experiment", type=click.Choice(["", "same", "new"]), default="", help="Of the new runs.")
@click.option("--output", default="", help="A folder to write the report to, besides the run.")
@click.option("--allow_dirty", type=click.BOOL, default=False, help="Try a run with uncommitted changes, too.")
def reproduce(
    run_id: str,
    env_manager: str,
    parameters: str,
    rtol: float,
    atol: float,
    ignore: str,
    registry: str,
    experiment: str,
    output: str,
    allow_dirty: bool,
) -> None:
    """Run a past run again and compare. Exit code 0: reproduced; 1: not reproduced; 3: could not be tried."""
    forget_surroundings()
    if output and not Path(output).expanduser().is_dir():
        raise bad("output", output, "is no folder.")
    past, given = find(run_id, allow_dirty), read_parameters(parameters)
    with temporary_folder() as folder, mlflow.start_run() as reproduction:
        describe_run(reproduction, "reproduce")
        outside = foreseen(past)
        for line in outside:
            click.echo(f"The past run {line}.")
        found: dict[str, Any] = {}
        try:
            original = read_whole(past.project_run, "past")
            attempt = found["attempt"] = Attempt(past, env_manager, given, registry, experiment)
            run_again(past, attempt, reproduction, folder)
            rules = found["rules"] = rules_for(past, attempt.run, rtol, atol, ignore)
            before = reproduction.info.start_time
            found["rows"], found["again"] = compare_runs(past, original, attempt, rules, folder, before)
        except NotTried as error:
            found["not_tried"] = error
        report = Report(past, reproduction, outside, registry, **found)
        report.log(Path(output).expanduser() if output else None)
        report.show()
        say_where_to_look()
        if report.reproduced != "true":  # within the block, so that MLflow marks this run as FAILED
            raise click.exceptions.Exit(EXIT[report.reproduced])


if __name__ == "__main__":
    run_command(reproduce)
