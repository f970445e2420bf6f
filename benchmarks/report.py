"""Run the benchmarks and write REPORT.md and report.png: `python benchmarks/report.py [--rounds 5] [PIECE ...]`.

Without a piece, all run. What a piece found is kept in results/<piece>.json, and the report is made of what is there:
a piece can be run again by itself. It ends with found.md, which is written by hand. Every piece asserts that what it
compares gives equal answers.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import baselines
import click
import scaling
import serving
from matplotlib.figure import Figure
from measuring import machine, spread

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SIZES = (100_000, 1_000_000, 10_000_000)
SPARK_SIZES = (100_000, 1_000_000)
SERVED = ("logistic_regression", "random_forest")

# By name: mypy, which runs in the folder above, takes these two for the examples themselves.
classification, clustering = import_module("classification"), import_module("clustering")

Rounds = list[dict[str, float]]


def in_folders(rounds: int, measure: Callable[..., Any], *arguments: object) -> list[Any]:
    """What a function finds in so many rounds, each in a folder of its own, which is its first argument."""
    found = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder), *arguments))
        click.echo(f"  round {number}: {found[-1]}")
    return found


def ratios(rounds: Rounds, above: str, below: str) -> list[float]:
    """The ratio of two figures in each round."""
    return [each[above] / each[below] for each in rounds]


# What each piece measures


def run_tracking(rounds: int) -> Any:
    return {
        "classification": in_folders(rounds, classification.measure),
        "clustering": in_folders(rounds, clustering.measure),
    }


def run_baselines(rounds: int) -> Any:
    return {
        "scripts": in_folders(rounds, baselines.measure_scripts),
        **{f"ann, {epochs} epochs": in_folders(rounds, baselines.measure_ann, epochs) for epochs in baselines.EPOCHS},
    }


def run_starts(rounds: int) -> Any:
    return {name: in_folders(rounds, scaling.start, name) for name in ("local", "uv", "conda")}


def run_sizes(rounds: int) -> Any:
    return {
        str(rows): {
            "kmeans": clustering.measure_size(rows),
            "scoring": in_folders(1, scaling.score, rows, ("local",))[0],
        }
        for rows in SIZES
    }


def run_tuning(rounds: int) -> Any:
    return in_folders(rounds, scaling.tune_each_way)


def run_spark(rounds: int) -> Any:
    if not scaling.spark_is_there():
        return None
    return {str(rows): in_folders(rounds, scaling.score, rows, ("local", "spark")) for rows in SPARK_SIZES}


def run_serving(rounds: int) -> Any:
    return {name: in_folders(1, serving.measure, rounds, name)[0] for name in SERVED}


# What the report says of it


def tell_tracking(found: Any) -> list[str]:
    lines = [
        "Processor seconds. Apart: a `mlflow run` a model. Main: all in one `mlflow run`. Script: main without the",
        "client of `mlflow run`, which costs the same whatever it starts. Floor: the same fits with no MLflow and no",
        "picture.",
        "",
        "| example | apart / main | main / floor | script / floor | main, s | script, s | floor, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for example, rounds in found.items():
        cells = [spread(ratios(rounds, *pair)) for pair in (("apart", "main"), ("main", "floor"), ("script", "floor"))]
        middle = [statistics.median(each[way] for each in rounds) for way in ("main", "script", "floor")]
        lines.append(f"| {' | '.join([example, *cells, *(f'{value:.1f}' for value in middle)])} |")
    return lines


def tell_baselines(found: Any) -> list[str]:
    lines = [
        "| as others do it | as it is done here | times the processor seconds | ROC AUC |",
        "|---|---|---|---|",
        "| six scripts, inferred requirements, metric by metric | one `mlflow run` of `main` with the six "
        f"| {spread(ratios(found['scripts'], 'scripts', 'main'))} | equal to nine digits |",
    ]
    for name, rounds in found.items():
        if name != "scripts":
            areas = [statistics.median(each[f"{way}_roc_auc"] for each in rounds) for way in ("naive", "ours")]
            lines.append(
                f"| {name}: Keras `fit`, a callback that logs each epoch | many steps a call, one call to the store "
                f"| {spread(ratios(rounds, 'naive_cpu', 'ours_cpu'))} | {areas[0]:.4f}, {areas[1]:.4f} |"
            )
    return lines


def tell_starts(found: Any) -> list[str]:
    lines = [
        "One classifier by `mlflow run`, seconds.",
        "",
        "| `--env-manager` | first | second |",
        "|---|---|---|",
    ]
    for name, rounds in found.items():
        if rounds[0] is None:
            lines.append(f"| {name} | not here | |")
        else:
            first, second = (spread([each[start] for each in rounds], 0) for start in ("cold", "warm"))
            lines.append(f"| {name} | {first} | {second} |")
    return lines


def tell_sizes(found: Any) -> list[str]:
    lines = [
        "K-Means with 8 clusters on 10 columns, and the scoring of customers with 19 columns by a logistic regression;",
        "one `mlflow run` each, from Parquet. Peak: memory of the largest process.",
        "",
        "| rows | what | seconds | processor seconds | peak, MB | quality |",
        "|---|---|---|---|---|---|",
    ]
    for rows, each in found.items():
        least = each["kmeans"]["lloyd"]["inertia"]
        for algorithm, used in each["kmeans"].items():
            cells = f"{used['seconds']:.0f} | {used['cpu']:.0f} | {used['peak']:.0f}"
            lines.append(
                f"| {int(rows):,} | K-Means, {algorithm} | {cells} | inertia x {used['inertia'] / least:.4f} |"
            )
        used = each["scoring"]["local"]
        cells = f"{used['seconds']:.0f} | {used['cpu']:.0f} | {used['peak']:.0f}"
        lines.append(f"| {int(rows):,} | scoring | {cells} | {used['rows'] / used['seconds']:,.0f} rows a second |")
    return lines


def tell_tuning(found: Any) -> list[str]:
    lines = [
        "20 trials of a random forest.",
        "",
        "| workers | seconds | processor seconds | times as fast as one |",
        "|---|---|---|---|",
    ]
    names = {"Spark": "2, on Spark"}
    for way in found[0]:
        seconds, cpu = (spread([each[way][key] for each in found], 0) for key in ("seconds", "cpu"))
        faster = spread([each["1"]["seconds"] / each[way]["seconds"] for each in found])
        # The processor time of Spark's JVM is not counted.
        lines.append(f"| {names.get(way, way)} | {seconds} | {'' if way == 'Spark' else cpu} | {faster} |")
    return lines


def tell_spark(found: Any) -> list[str]:
    lines = ["| rows | local, s | Spark, s | Spark / local |", "|---|---|---|---|"]
    middle = {}
    for rows, rounds in found.items():
        seconds = {name: [each[name]["seconds"] for each in rounds] for name in ("local", "spark")}
        slower = spread([spark / local for local, spark in zip(seconds["local"], seconds["spark"], strict=True)])
        local, spark = (spread(values, 0) for values in seconds.values())
        lines.append(f"| {int(rows):,} | {local} | {spark} | {slower} |")
        middle[int(rows)] = {name: statistics.median(values) for name, values in seconds.items()}
    few, many = min(middle), max(middle)
    slopes = {name: (middle[many][name] - middle[few][name]) / (many - few) for name in ("local", "spark")}
    ahead = middle[few]["spark"] - middle[few]["local"]
    if slopes["local"] > slopes["spark"]:
        rows = few + ahead / (slopes["local"] - slopes["spark"])
        return [*lines, "", f"Extrapolated, Spark begins to pay at some {rows:,.1e} rows on this machine."]
    return [*lines, "", f"Spark does not pay up to {many:,} rows on this machine, nor do the lines meet beyond."]


def tell_serving(found: Any) -> list[str]:
    lines = [
        "One-row requests, one after the other, to MLflow's scoring server; each answer must be the Pipeline's label.",
        "The tensor is what the classifier takes after the preprocessing, which is then the client's work.",
        "",
        "| classifier | form | requests a processor second | times DataFrame | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|",
    ]
    for classifier, rounds in found.items():
        for form in serving.FORMS:
            figures = {key: [each[form][key] for each in rounds] for key in rounds[0][form]}
            times = [
                each[form]["requests_per_cpu_second"] / each["DataFrame"]["requests_per_cpu_second"] for each in rounds
            ]
            cells = [spread(figures["requests_per_cpu_second"], 0), spread(times, 1)]
            cells += [spread(figures["p50"], 1), spread(figures["p99"], 1)]
            lines.append(f"| {classifier} | {form} | {' | '.join(cells)} |")
    return lines


PIECES: dict[str, tuple[str, Callable[[int], Any], Callable[[Any], list[str]]]] = {
    "tracking": ("Tracked against untracked", run_tracking, tell_tracking),
    "baselines": ("Against the ways that others do it", run_baselines, tell_baselines),
    "starts": ("Cold and warm start", run_starts, tell_starts),
    "sizes": ("More rows", run_sizes, tell_sizes),
    "tuning": ("Tuning with one worker and two", run_tuning, tell_tuning),
    "spark": ("Scoring: this machine against Spark on it", run_spark, tell_spark),
    "serving": ("Serving", run_serving, tell_serving),
}


def compared(results: dict[str, Any]) -> dict[str, list[float]]:
    """The ratios that the picture shows, each by round."""
    bars: dict[str, list[float]] = {}
    if tracking := results.get("tracking"):
        for example, rounds in tracking["found"].items():
            bars[f"{example}: a run a model / one process"] = ratios(rounds, "apart", "main")
            bars[f"{example}: one process / untracked"] = ratios(rounds, "script", "floor")
    if others := results.get("baselines"):
        bars["a script a model / one process"] = ratios(others["found"]["scripts"], "scripts", "main")
        for epochs in baselines.EPOCHS:
            rounds = others["found"][f"ann, {epochs} epochs"]
            bars[f"naive Keras loop / ours, {epochs} epochs"] = ratios(rounds, "naive_cpu", "ours_cpu")
    if served := results.get("serving"):
        for classifier, rounds in served["found"].items():
            for form in serving.FORMS[1:]:
                bars[f"{classifier} served as DataFrame / {form}"] = [
                    each["DataFrame"]["cpu_ms"] / each[form]["cpu_ms"] for each in rounds
                ]
    return bars


def picture(bars: dict[str, list[float]]) -> Figure:
    """Median ratios of processor seconds with the range of the rounds."""
    figure = Figure(figsize=(9, 0.6 + 0.45 * len(bars)), layout="constrained")
    axes = figure.subplots()
    middles = [statistics.median(values) for values in bars.values()]
    low = [middle - min(values) for middle, values in zip(middles, bars.values(), strict=True)]
    high = [max(values) - middle for middle, values in zip(middles, bars.values(), strict=True)]
    drawn = axes.barh(list(bars), middles, xerr=[low, high], color="#0b7285", ecolor="#343a40", capsize=3)
    axes.bar_label(drawn, [f"{middle:.1f}" for middle in middles], padding=6)
    axes.axvline(1, color="#343a40", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("times the processor seconds (median, with the least and the greatest round)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write_report() -> None:
    """REPORT.md and report.png from all results that are there."""
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in PIECES if _kept(name)}
    lines = [
        "# How fast",
        "",
        "Written by `make benchmark`. A ratio is taken within a round, back to back on one machine; shown are the",
        "median and, in parentheses, the least and the greatest round. Processor seconds include those of children.",
        "",
    ]
    bars = compared(results)
    if bars:
        picture(bars).savefig(HERE / "report.png", dpi=120)
        lines += ["![Ratios of processor seconds](report.png)", ""]
    for name, (title, _, tell) in PIECES.items():
        lines += [f"## {title}", ""]
        result = results.get(name)
        if result is None:
            lines += [f"Not run yet: `python benchmarks/report.py {name}`.", ""]
        elif result["found"] is None:
            lines += ["Not on this machine: it needs PySpark and Java.", ""]
        else:
            about = "; ".join(f"{key} {value}" for key, value in result["machine"].items() if value != "not installed")
            lines += [*tell(result["found"]), "", f"{_rounds(name, result['rounds'])}, {result['day']}. {about}.", ""]
    lines.append((HERE / "found.md").read_text())
    (HERE / "REPORT.md").write_text("\n".join(lines))


def _rounds(name: str, rounds: int) -> str:
    if name == "sizes":
        return "One run each"
    return f"{rounds} rounds" if rounds > 1 else "1 round"


def _kept(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


@click.command()
@click.argument("pieces", nargs=-1, type=click.Choice(list(PIECES)))
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of each comparison.")
def report(pieces: tuple[str, ...], rounds: int) -> None:
    """Run the benchmarks, or some, and write the report."""
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        click.echo("Warning: PYTHONDONTWRITEBYTECODE is set: every start compiles anew, and no figure is typical.")
    RESULTS.mkdir(exist_ok=True)
    for name in pieces or PIECES:
        click.echo(name)
        about = machine()
        found = PIECES[name][1](rounds)
        kept = {"found": found, "rounds": rounds, "day": time.strftime("%Y-%m-%d"), "machine": about}
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
        write_report()
    write_report()


if __name__ == "__main__":
    report()
