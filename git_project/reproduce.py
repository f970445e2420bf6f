"""Run a past run of any MLflow Project again, from its commit, and compare what the two recorded."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from again import Attempt, NotTried, Settings, prepare, rules_for, run_again
from beside import begun, beside
from children import temporary_folder
from comparison import Row, compare, know_ids, pair_runs, parameters_of
from past import Past, find, foreseen
from recorded import Recorded, ask_both, read
from report import Report
from repository import forget_surroundings
from run import read_parameters
from sameness import IGNORE, Sameness
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.table import bad

EXIT = {"false": 1, "not tried": 3}


def read_original(past: Past) -> Recorded:
    """What the past run recorded, read before anything is run. Raises NotTried where its artifacts are not there."""
    try:
        return read(past.project_run)
    except Exception as error:  # whatever the client of an artifact store raises
        why = " ".join(str(error).split())[:300]
        raise NotTried(f"what the past run recorded cannot be read: {why}", "Make its artifacts available.") from None


def add_runs_beside(
    past: Past, attempt: Attempt, rules: Sameness, both: tuple[Recorded, Recorded], folder: Path, reproduction: Run
) -> list[Row]:
    """Put below a past run and its counterpart what their scripts began beside them; rows of what they may have."""
    began, before = begun(attempt.child, attempt.mark, folder), reproduction.info.start_time
    starts = attempt.project.starts(past.entry_point)
    found = beside(past.project_run, attempt.run, began, starts, attempt.child.seconds, before)
    its, others, now = ([read(run) for run in runs] for runs in (found.its, found.others, began))
    known = {parameters_of(run, rules.original, rules) for run in others}
    lacking = [run for first, run in pair_runs(its, now, rules) if run and not first]
    unclear = [run for run in lacking if parameters_of(run, rules.again, rules) in known]
    both[0].below.extend(its)
    both[1].below.extend(run for run in now if run not in unclear)
    if now or its:
        attempt.notes.append(f"Beside its own run the script began {len(now)}; beside the original were {len(its)}.")
    if len(its) > len(now):
        attempt.notes.append("Nothing records whether a run beside the original was begun by its script or by hand.")
    why = "another run of the project was made at the same time, and nothing records which began it"
    rows = [Row("", "run", run.name, "", "", None, why) for run in (unclear if lacking else others)]
    by_hand = "begun at the same commit shortly after it, by its script or by hand, which nothing records"
    return rows + [Row("", "run", str(run.info.run_name), "", "", None, by_hand) for run in found.perhaps]


def compare_runs(
    past: Past, original: Recorded, attempt: Attempt, rules: Sameness, folder: Path, reproduction: Run
) -> tuple[list[Row], Run | None]:
    """What the past run and its counterpart recorded, row by row, and the counterpart, where there is one.

    Raises NotTried where steps of a workflow were not run again, because it found those of an earlier run.
    """
    one, other = original, read(attempt.run)
    other.parameters.update({name: one.parameters[name] for name in attempt.located})
    unknown = add_runs_beside(past, attempt, rules, (one, other), folder, reproduction)
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
        return [Row("", "run", "status", past.run.info.status, "(absent)", False)], None
    ask = partial(ask_both, env_manager=attempt.env_manager, folder=folder)
    rows = compare(one, found, rules, ask, attempt.replaced)
    return [*rows, *(unknown if one is original else [])], MlflowClient().get_run(found.run_id)


@click.command()
@click.option("--run_id", required=True, help="Any run of an MLflow Project that came from Git.")
@click.option(
    "--env_manager",
    type=click.Choice(["", "conda", "uv", "virtualenv", "local"]),
    default="",
    help="Default: the one that the run recorded, or uv.",
)
@click.option("--parameters", default="", help="Values in place of recorded ones, as YAML: {data: /where/it/is.csv}.")
@click.option("--rtol", type=FiniteRange(min=0), default=0.0, help="Relative tolerance for numbers.")
@click.option("--atol", type=FiniteRange(min=0), default=0.0, help="Absolute tolerance for numbers.")
@click.option("--ignore", default=IGNORE, help="Metrics, parameters, artifacts not to compare; patterns.")
@click.option("--registry", type=click.Choice(["scratch", "same"]), default="scratch", help="Where models register.")
@click.option("--experiment", type=click.Choice(["", "same", "new"]), default="", help="In which it runs again.")
@click.option("--output", default="", help="A folder to write the report to, besides the run.")
@click.option("--allow_dirty", type=click.BOOL, default=False, help="Also a run whose files were not of its commit.")
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
    past, settings = find(run_id, allow_dirty), Settings(env_manager, read_parameters(parameters), registry, experiment)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with temporary_folder() as folder, mlflow.start_run() as reproduction:
        describe_run(reproduction, "reproduce")
        report = Report(past, reproduction, foreseen(past), registry)
        for line in report.foreseen:
            click.echo(f"The past run {line}.")
        try:
            original = read_original(past)
            report.attempt = prepare(past, settings, folder)
            run_again(past, report.attempt, reproduction, folder, settings)
            report.rules = rules_for(past, report.attempt.run, rtol, atol, ignore)
            found = compare_runs(past, original, report.attempt, report.rules, folder, reproduction)
            report.rows, report.again = found
        except NotTried as error:
            report.not_tried = error
        report.log(Path(output).expanduser() if output else None)
        report.show()
        say_where_to_look()
        if report.reproduced != "true":  # within the block, so that MLflow marks this run as FAILED
            raise click.exceptions.Exit(EXIT[report.reproduced])


if __name__ == "__main__":
    run_command(reproduce)
