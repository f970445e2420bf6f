"""Join true answers that arrived later to the recorded rows, and say week by week how good the answers were."""

from __future__ import annotations

from typing import Any

import click
import mlflow
import pandas as pd
from matplotlib.figure import Figure

from records import pick_version, read_records, window_of
from reference import Served, find_served, log_metrics
from support.entry_point import describe_run, run_command, say_where_to_look
from support.style import COLORS
from truth import FROM_ANSWERS, LABEL_OPTIONS, answered, target_of, with_truth


def by_week(served: Served, rows: pd.DataFrame, every: str = "W") -> pd.DataFrame:
    """For each week: the rows, how many are labelled, and each metric with its 95 % interval (`_low`, `_high`).

    rows: of `with_truth`, answered by this version. every: W, weeks that begin on Monday in UTC, or M, months.
    Where labels are too few, a week has no metrics; `lacking` says what of.
    """
    weeks = rows["time"].dt.tz_localize(None).dt.to_period(every).dt.start_time
    told = []
    for week, part in rows.groupby(weeks):
        known = part[part["truth"].notna()].reset_index(drop=True)
        line: dict[str, Any] = {"period": f"{week:%Y-%m-%d}", "rows": len(part), "labelled": len(known) / len(part)}
        given = answered(served, known) if len(known) else None
        line["lacking"] = given.lacking if given else "no labels"
        if given and not given.lacking:
            for name, (value, low, high) in given.metrics().items():
                line |= {name: value, f"{name}_low": low, f"{name}_high": high}
        told.append(line)
    return pd.DataFrame(told)


def main_metric(table: pd.DataFrame) -> str:
    """The metric that is printed and drawn: roc_auc, or accuracy where there are no probabilities; else empty."""
    return next((name for name in ("roc_auc", FROM_ANSWERS[0]) if name in table), "")


def shown(table: pd.DataFrame) -> str:
    """The table as it is printed."""
    metric, lines = main_metric(table), table[["period", "rows"]].copy()
    lines["labelled"] = table["labelled"].map("{:.0%}".format)
    lines[metric or "metrics"] = [
        line["lacking"] or f"{line[metric]:.3f} [{line[metric + '_low']:.3f}, {line[metric + '_high']:.3f}]"
        for line in table.to_dict("records")
    ]
    return lines.to_string(index=False)


def log_labels(served: Served, table: pd.DataFrame) -> None:
    """Log the weeks to the active run: as a table, a picture, and metrics with the week as step, tied to the model."""
    mlflow.log_text(table.to_csv(index=False), "labels.csv")
    for step, line in enumerate(table.drop(columns=["period", "lacking"]).to_dict("records")):
        log_metrics(served, {str(key): value for key, value in line.items() if pd.notna(value)}, step)
    mlflow.set_tags({"registered_model": served.version.name, "version": str(served.version.version)})
    metric = main_metric(table)
    if not metric:
        return
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    spread = [table[metric] - table[f"{metric}_low"], table[f"{metric}_high"] - table[metric]]
    axes.errorbar(table["period"], table[metric], yerr=spread, fmt="o-", capsize=4, color=COLORS[0])
    title = f"{served.version.name}, version {served.version.version}: with 95 % intervals"
    axes.set(title=title.replace("$", r"\$"), ylabel=metric, xlabel="from")
    axes.tick_params(axis="x", rotation=45)
    mlflow.log_figure(figure, "labels.png")


@click.command(params=[*LABEL_OPTIONS])
@click.option("--version", default="", help="Whose rows are judged; default: the one with the most in the window.")
def labels(record: str, endpoint: str, labels: str, name: str, version: str, target: str, **options: Any) -> None:
    """Judge the answers of a window by true answers that arrived later."""
    rows = pick_version(read_records(record, endpoint, name, *window_of(options["window"], options["until"])), version)
    served = find_served(name, rows["version"][0])
    with mlflow.start_run() as run:
        describe_run(run, "labels")
        rows = with_truth(rows, labels, target_of(served, target, rows))
        table = by_week(served, rows)
        log_labels(served, table)
        click.echo(shown(table))
        click.echo(f"{rows['truth'].notna().sum():,} of {len(rows):,} rows are labelled.")
        say_where_to_look()


if __name__ == "__main__":
    run_command(labels)
