"""Compare what an endpoint was asked with what the version behind it learnt from: has the world changed?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from measures import DRIFT, NONE, UNDECIDED, Compared, compare, judge, verdict_of
from records import RECORD_OPTIONS, read_records, window_of
from reference import Reference, Served, answers_of, find_served, read_reference, say_doubt
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.style import COLORS
from support.table import bad

CODES = {NONE: 0, DRIFT: 1, UNDECIDED: 3}  # of the script
PREDICTION = "prediction"


@dataclass(frozen=True)
class Drift:
    """What a window of recorded rows came to.

    judged: every test, the surest difference first. left_out: columns of the model that were not recorded.
    """

    served: Served
    judged: list[Compared]
    rows: int
    verdict: str
    left_out: list[str]

    @property
    def drifted(self) -> list[str]:
        """The columns, with missing or unseen behind their name, that have changed."""
        return [each.column for each in self.judged if each.verdict == DRIFT]

    @property
    def line(self) -> str:
        """The verdict in one line."""
        tests = f"{len(self.judged)} tests on {self.rows:,} rows"
        if self.verdict == DRIFT:
            return f"Drift: {', '.join(self.drifted)} ({tests})."
        if self.verdict == UNDECIDED:
            return f"Undecided: {tests} found nothing, and so few rows would not show it. Take a longer window."
        few = [each.column for each in self.judged if each.verdict == UNDECIDED]
        return f"No drift found ({tests}){'; too few values to compare: ' + ', '.join(few) if few else ''}."


def find_drift(
    served: Served, reference: Reference, rows: pd.DataFrame, alpha: float = 0.05, min_rows: int = 200
) -> Drift:
    """Compare recorded rows of a version with its training rows, column by column, and the answers.

    rows: of `read_records`, answered by this version.
    alpha: the share of unchanged windows in which a difference may be found. min_rows: fewer are never "no drift".
    """
    X = served.inputs(rows["inputs"])
    recorded = set().union(*rows["inputs"])
    found = []
    for name in served.columns:
        if name in recorded:
            found += compare(name, served.kind(name), reference.X[name], X[name])
    found += _answers_compared(served, reference, rows["output"])
    judged = judge(found, alpha)
    left_out = [name for name in served.columns if name not in recorded]
    return Drift(served, judged, len(rows), verdict_of(judged, len(rows), min_rows), left_out)


def _answers_compared(served: Served, reference: Reference, outputs: pd.Series) -> list[Compared]:
    """Compare the recorded answers with those to the held-out rows or, where there are none, to the training rows."""
    if outputs.map(lambda each: isinstance(each, list | dict)).any():
        click.echo("The answers are not compared: each is several values.", err=True)
        return []
    X = reference.held_out if len(reference.held_out) else reference.X
    try:
        expected = answers_of(served, X)
    except Exception as error:  # whatever a foreign model, or a package that is not here, raises
        click.echo(f"The answers are not compared: {served.uri} does not work here: {str(error)[:200]}", err=True)
        return []
    kind = "number" if pd.to_numeric(expected, errors="coerce").notna().all() else "category"
    return compare(PREDICTION, kind, expected, outputs.reset_index(drop=True))


def log_drift(found: Drift, start: datetime, end: datetime) -> pd.DataFrame:
    """Log a comparison to the active run, its metrics tied to the model as well; returns its table."""
    table = pd.DataFrame(asdict(each) for each in found.judged)
    mlflow.log_text(table.to_csv(index=False), "drift.csv")
    mlflow.log_figure(drift_figure(found), "drift.png")
    psi = {f"psi/{each.column}": each.psi for each in found.judged if np.isfinite(each.psi)}
    smallest = min((each.adjusted for each in found.judged if np.isfinite(each.adjusted)), default=1.0)
    metrics = {"rows": found.rows, "drifted": len(found.drifted), "smallest_adjusted_p": smallest}
    names = {key: "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in key) for key in psi}
    values = metrics | {names[key]: value for key, value in psi.items()}
    mlflow.log_metrics(values, model_id=found.served.info.model_id)
    mlflow.set_tags({"verdict": found.verdict, "window": f"{start.isoformat()}/{end.isoformat()}"})
    mlflow.set_tags({"registered_model": found.served.version.name, "version": str(found.served.version.version)})
    return table


def shown(found: Drift, most: int = 12) -> str:
    """The table as it is printed: what has changed first, at most so many tests."""
    lines = [
        {"column": each.column, "test": each.test, "learnt from": each.reference, "window": each.window}
        | {"adjusted p": f"{each.adjusted:.2g}", "PSI": "" if np.isnan(each.psi) else f"{each.psi:.3f}"}
        | {"verdict": each.verdict}
        for each in found.judged[:most]
    ]
    more = f"\n... and {len(found.judged) - most} more in drift.csv" if len(found.judged) > most else ""
    return pd.DataFrame(lines).to_string(index=False) + more


def drift_figure(found: Drift) -> Figure:
    """How large the difference of each column is (PSI), the drifted ones in another colour and hatched."""
    sized = sorted((each for each in found.judged if np.isfinite(each.psi)), key=lambda each: each.psi)[-20:]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(sized)), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(sized):
        changed = each.verdict == DRIFT
        axes.barh(place, each.psi, edgecolor="white", color=COLORS[changed], hatch="//" if changed else "")
        axes.annotate(f" p = {each.adjusted:.2g}", (each.psi, place), va="center", fontsize="small")
    axes.set_yticks(range(len(sized)), [each.column.replace("$", r"\$") for each in sized])
    handles = [axes.barh(0, 0, color=COLORS[1], hatch="//", edgecolor="white"), axes.barh(0, 0, color=COLORS[0])]
    axes.legend(handles, ["drift", "no drift found"], loc="lower right", fontsize="small")
    title = f"{found.served.version.name}, version {found.served.version.version}: {found.rows:,} rows, {found.verdict}"
    axes.set(title=title.replace("$", r"\$"), xlabel="population stability index (size); p after correction")
    axes.margins(x=0.18)
    return figure


def pick_version(rows: pd.DataFrame, version: str) -> pd.DataFrame:
    """The rows that one version answered: the given one, or the one with the most; others are said to be left out.

    Raises click.BadParameter for a version that answered none, and where neither it nor the recording names one.
    """
    if rows["version"].eq("").all():
        if not version:
            raise bad("version", version, "is needed: the recording does not say which version answered.")
        return rows.assign(version=version)
    counts = rows.loc[rows["version"] != "", "version"].value_counts()
    chosen = version or str(counts.index[0])
    if chosen not in counts:
        raise bad("version", chosen, f"answered no row of the window; these did: {', '.join(counts.index)}.")
    others = ", ".join(f"{count:,} by version {each}" for each, count in counts.items() if each != chosen)
    if others:
        click.echo(f"Left out: {others}.", err=True)
    return rows[rows["version"] == chosen].reset_index(drop=True)


@click.command(params=[*RECORD_OPTIONS])
@click.option("--version", default="", help="Whose rows are compared; default: the one with the most in the window.")
@click.option("--window", type=FiniteRange(0, min_open=True), default=7.0, help="Days.")
@click.option("--reference", default="", help="Where the training data lie now; default: where the run found them.")
@click.option("--alpha", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.05)
@click.option("--min_rows", type=click.IntRange(2), default=200, help="Fewer rows are never called no drift.")
def drift(record: str, endpoint: str, name: str, version: str, reference: str, alpha: float, **options: Any) -> None:
    """Compare a window of recorded rows with the training data of the version that answered them."""
    start, end = window_of(options["window"], options["until"])
    rows = pick_version(read_records(record, endpoint, start, end), version)
    served = find_served(name, version or rows["version"][0])
    known = read_reference(served, reference)
    with mlflow.start_run() as run:
        describe_run(run, "drift")
        say_doubt(known, served)
        found = find_drift(served, known, rows, alpha, options["min_rows"])
        log_drift(found, start, end)
        click.echo(shown(found))
        for column in found.left_out:
            click.echo(f"Column {column!r} was not recorded: it is not compared.")
        click.echo(found.line)
        say_where_to_look()
    if CODES[found.verdict]:
        raise click.exceptions.Exit(CODES[found.verdict])


if __name__ == "__main__":
    run_command(drift)
