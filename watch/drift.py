"""Compare what an endpoint was asked with what the version behind it learnt from: has the world changed?"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from measures import DRIFT, NONE, UNDECIDED, Compared, compare, judge, verdict_of
from records import RECORD_OPTIONS, pick_version, read_records, window_of
from reference import Reference, Served, answers_of, find_served, log_metrics, read_reference, say_doubt
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.names import free_names
from support.style import COLORS

CODES = {NONE: 0, DRIFT: 1, UNDECIDED: 3}  # of the script


@dataclass(frozen=True)
class Drift:
    """What a window of recorded rows came to.

    judged: every test, the surest difference first. left_out: what could not be compared at all, and why.
    """

    served: Served
    judged: list[Compared]
    rows: int
    left_out: dict[str, str]

    @property
    def verdict(self) -> str:
        """DRIFT, NONE or UNDECIDED."""
        return verdict_of(self.judged)

    def named(self, verdict: str) -> list[str]:
        """The columns of a verdict, with missing or unseen behind their name."""
        return [each.column for each in self.judged if each.verdict == verdict]

    @property
    def line(self) -> str:
        """The verdict in one line, which names what it does not speak of."""
        few, not_compared = self.named(UNDECIDED), list(self.left_out)
        rest = f"; too few values: {', '.join(few)}" if few else ""
        rest += f"; not compared: {', '.join(not_compared)}" if not_compared else ""
        tests = f"({len(self.judged) - len(few)} tests on {self.rows:,} rows{rest})"
        if self.verdict == DRIFT:
            return f"Drift: {', '.join(self.named(DRIFT))} {tests}."
        if self.verdict == UNDECIDED:
            return f"Undecided {tests}: nothing was found, and a difference would not show. Take a longer window."
        return f"No drift found {tests}."


def find_drift(
    served: Served, reference: Reference, rows: pd.DataFrame, alpha: float = 0.05, min_rows: int = 200
) -> Drift:
    """Compare recorded rows of a version with its training rows, column by column, and the answers.

    rows: of `read_records`, answered by this version.
    alpha: the share of unchanged windows in which a difference may be found.
    min_rows: a column with fewer values is never called unchanged.
    """
    X = served.inputs(rows["inputs"])
    left_out = {name: "it was not recorded" for name in served.columns if name not in X}
    left_out |= {name: "its cells are dates, lists or objects" for name in map(str, X) if not served.kind(name)}
    compared = [name for name in served.columns if name not in left_out]
    found = [each for name in compared for each in compare(name, served.kind(name), reference.X[name], X[name])]
    [answer] = free_names(["prediction"], served.columns).values()
    try:
        found += compare(answer, *_answers(served, reference, rows["output"]))
    except Exception as error:  # whatever a foreign model, or a package that is not here, raises
        left_out[answer] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return Drift(served, judge(found, alpha, min_rows), len(rows), left_out)


def _answers(served: Served, reference: Reference, outputs: pd.Series) -> tuple[str, pd.Series, pd.Series]:
    """The kind of the answers, those to the held-out rows or, where there are none, to the training rows, and these."""
    if outputs.map(lambda each: isinstance(each, list | dict)).any():
        raise ValueError("each answer is several values")
    expected = answers_of(served, reference.held_out if len(reference.held_out) else reference.X)
    numbers = [pd.to_numeric(side.dropna(), errors="coerce") for side in (expected, outputs)]
    if all(side.notna().all() for side in numbers):
        return "number", expected.map(float, na_action="ignore"), outputs.map(float, na_action="ignore")
    return "category", expected, outputs


def log_drift(found: Drift, start: datetime, end: datetime) -> None:
    """Log a comparison to the active run, its metrics tied to the model as well."""
    table = pd.DataFrame(asdict(each) for each in found.judged)
    mlflow.log_text(table.to_csv(index=False), "drift.csv")
    mlflow.log_figure(drift_figure(found), "drift.png")
    sized = [each for each in found.judged if np.isfinite(each.psi)]
    plain = [re.sub(r"[^\w\-. /]", "_", f"psi/{each.column}")[:200] for each in sized]  # as MLflow wants names
    values = dict(zip(free_names_of(plain), (each.psi for each in sized), strict=True))
    smallest = min((each.adjusted for each in found.judged if np.isfinite(each.adjusted)), default=1.0)
    values |= {"rows": found.rows, "drifted": len(found.named(DRIFT)), "smallest_adjusted_p": smallest}
    log_metrics(found.served, values)
    version = found.served.version
    tags = {"verdict": found.verdict, "window": f"{start.isoformat()}/{end.isoformat()}"}
    mlflow.set_tags({**tags, "registered_model": version.name, "version": str(version.version)})


def free_names_of(names: list[str]) -> list[str]:
    """Names of which no two are the same: a number behind those that would be."""
    found: list[str] = []
    for name in names:
        found += free_names([name], found).values()
    return found


def shown(found: Drift, most: int = 12) -> str:
    """The table as it is printed: what has changed first, at most so many tests."""
    lines = [
        {"column": each.column, "test": each.test, "learnt from": each.reference, "window": each.window}
        | {"adjusted p": "" if np.isnan(each.adjusted) else f"{each.adjusted:.2g}"}
        | {"PSI": "" if np.isnan(each.psi) else f"{each.psi:.3f}", "verdict": each.verdict}
        for each in found.judged[:most]
    ]
    more = f"\n... and {len(found.judged) - most} more in drift.csv" if len(found.judged) > most else ""
    return pd.DataFrame(lines).to_string(index=False) + more if lines else "Nothing could be compared."


def drift_figure(found: Drift) -> Figure:
    """How large the difference of each column is (PSI), the drifted ones in another colour and hatched."""
    sized = sorted((each for each in found.judged if np.isfinite(each.psi)), key=lambda each: each.psi)[-20:]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(sized)), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(sized):
        changed = each.verdict == DRIFT
        axes.barh(place, each.psi, edgecolor="white", color=COLORS[changed], hatch="//" if changed else "")
        axes.annotate(f" p = {each.adjusted:.2g}", (each.psi, place), va="center", fontsize="small")
    axes.set_yticks(range(len(sized)), [each.column[:60].replace("$", r"\$") for each in sized])
    handles = [axes.barh(0, 0, color=COLORS[1], hatch="//", edgecolor="white"), axes.barh(0, 0, color=COLORS[0])]
    axes.legend(handles, ["drift", "no drift found"], loc="lower right", fontsize="small")
    title = f"{found.served.version.name}, version {found.served.version.version}: {found.rows:,} rows, {found.verdict}"
    axes.set(title=title.replace("$", r"\$"), xlabel="population stability index (size); p after correction")
    axes.margins(x=0.18)
    return figure


@click.command(params=[*RECORD_OPTIONS])
@click.option("--version", default="", help="Whose rows are compared; default: the one with the most in the window.")
@click.option("--window", type=FiniteRange(0, min_open=True), default=7.0, help="Days.")
@click.option("--reference", default="", help="Where the training data are now; default: as the run recorded.")
@click.option("--alpha", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.05)
@click.option("--min_rows", type=click.IntRange(2), default=200, help="Values that it takes to say: no drift.")
def drift(record: str, endpoint: str, name: str, version: str, reference: str, alpha: float, **options: Any) -> None:
    """Compare a window of recorded rows with the training data of the version that answered them."""
    start, end = window_of(options["window"], options["until"])
    rows = pick_version(read_records(record, endpoint, name, start, end), version)
    served = find_served(name, rows["version"][0])
    known = read_reference(served, reference)
    with mlflow.start_run() as run:
        describe_run(run, "drift")
        say_doubt(known, served)
        found = find_drift(served, known, rows, alpha, options["min_rows"])
        log_drift(found, start, end)
        click.echo(shown(found))
        for column, why in found.left_out.items():
            click.echo(f"Column {column!r} is not compared: {why}.")
        click.echo(found.line)
        say_where_to_look()
    if CODES[found.verdict]:
        raise click.exceptions.Exit(CODES[found.verdict])


if __name__ == "__main__":
    run_command(drift)
