"""Run the benchmarks and write the report and its picture: `python benchmarks/report.py [--rounds 5] [PIECE ...]`.

Without a piece, all run. What a piece found is kept in results/<piece>.json, so that a piece can be run again by
itself. REPORT.md and REPORT.fr.md are the templates beside this file, written by hand, with the figures filled in.
Every piece asserts that what it compares gives equal answers.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import click
import floors
import reading
import scaling
import serving
import team_load
import watching
from matplotlib.figure import Figure
from measuring import commit, machine, spread

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SIZES = (100_000, 1_000_000, 10_000_000)
SPARK_SIZES = (100_000, 1_000_000)
SERVED = ("logistic_regression", "random_forest")

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


def times_dataframe(rounds: list[dict[str, dict[str, float]]], form: str) -> list[float]:
    """How many times the requests a processor second of the DataFrame a form of a model answers, in each round."""
    return [each[form]["requests_per_cpu_second"] / each["DataFrame"]["requests_per_cpu_second"] for each in rounds]


# What each piece measures


def run_tracking(rounds: int) -> Any:
    return {
        "classification": in_folders(rounds, floors.classification),
        "clustering": in_folders(rounds, floors.clustering),
    }


def run_baselines(rounds: int) -> Any:
    return {
        "scripts": in_folders(rounds, floors.scripts),
        **{f"ann, {epochs} epochs": in_folders(rounds, floors.network, epochs) for epochs in floors.NETWORK},
    }


def run_starts(rounds: int) -> Any:
    return {name: in_folders(rounds, scaling.start, name) for name in ("local", "uv", "conda")}


def run_sizes(rounds: int) -> Any:
    return {
        str(rows): {
            "kmeans": scaling.kmeans(rows),
            "scoring": in_folders(1, scaling.score, rows, ("local",))[0],
        }
        for rows in SIZES
    }


def run_reading(rounds: int) -> Any:
    return in_folders(1, reading.measure, 1_000_000, rounds)[0]


def run_tuning(rounds: int) -> Any:
    return in_folders(rounds, scaling.tune_each_way)


def run_spark(rounds: int) -> Any:
    if not scaling.spark_is_there():
        return None
    return {str(rows): in_folders(rounds, scaling.score, rows, ("local", "spark")) for rows in SPARK_SIZES}


def run_serving(rounds: int) -> Any:
    return {name: in_folders(1, serving.measure, rounds, name)[0] for name in SERVED}


def run_team(_: int) -> Any:
    return in_folders(1, team_load.measure_all, 100_000)[0]


def run_watch(_: int) -> Any:
    return watching.measure()


def run_unforeseen(_: int) -> Any:
    return watching.measure_unforeseen()


# What the report says of it: each piece gives cells of its tables, by the name that the templates have for them


class Cells(dict[str, str]):
    """Cells by name; what was not measured is a dash."""

    def __missing__(self, name: str) -> str:
        return "–"


def row(*cells: str) -> str:
    """Neighbouring cells of a Markdown table."""
    return " | ".join(cells)


def fill_tracking(found: Any) -> dict[str, str]:
    cells = {}
    for example, rounds in found.items():
        shown = [spread(ratios(rounds, *pair)) for pair in (("apart", "main"), ("main", "floor"), ("script", "floor"))]
        middle = [statistics.median(each[way] for each in rounds) for way in ("main", "script", "floor")]
        cells[example] = row(*shown, *(f"{value:.1f}" for value in middle))
    return cells


def fill_baselines(found: Any) -> dict[str, str]:
    cells = {"scripts": spread(ratios(found["scripts"], "scripts", "main"))}
    for epochs in floors.NETWORK:
        rounds = found[f"ann, {epochs} epochs"]
        areas = [statistics.median(each[f"{way}_roc_auc"] for each in rounds) for way in ("naive", "ours")]
        cells[f"ann_{epochs}"] = row(
            spread(ratios(rounds, "naive_cpu", "ours_cpu")), *(f"{area:.4f}" for area in areas)
        )
    return cells


def fill_starts(found: Any) -> dict[str, str]:
    return {
        f"start_{name}": row(*(spread([each[start] for each in rounds], 0) for start in ("cold", "warm")))
        for name, rounds in found.items()
        if rounds[0] is not None  # the manager is not there
    }


def fill_sizes(found: Any) -> dict[str, str]:
    cells = {}
    for rows, each in found.items():
        power = len(rows) - 1
        least = each["kmeans"]["lloyd"]["inertia"]
        for algorithm, used in each["kmeans"].items():
            cells[f"{algorithm}_{power}"] = row(_used(used), f"{used['inertia'] / least:.4f}", "")
        used = each["scoring"]["local"]
        cells[f"scoring_{power}"] = row(_used(used), "", f"{used['rows'] / used['seconds']:,.0f}")
    return cells


def _used(used: dict[str, float]) -> str:
    return row(f"{used['seconds']:.0f}", f"{used['cpu']:.0f}", f"{used['peak']:,.0f}")


def fill_reading(found: Any) -> dict[str, str]:
    cells = {}
    for name, rounds in found.items():
        middle = [statistics.median(each[whose] for each in rounds) for whose in ("ours", "theirs")]
        cells[name] = row(spread(ratios(rounds, "ours", "theirs")), *(f"{value:.2f}" for value in middle))
    return cells


def fill_tuning(found: Any) -> dict[str, str]:
    cells = {}
    for way in found[0]:
        seconds, cpu = (spread([each[way][key] for each in found], 0) for key in ("seconds", "cpu"))
        faster = spread([each["1"]["seconds"] / each[way]["seconds"] for each in found])
        # The processor time of Spark's JVM is not counted.
        cells[f"tuned_{way.lower()}"] = row(seconds, "" if way == "Spark" else cpu, faster)
    return cells


def fill_spark(found: Any) -> dict[str, str]:
    cells, middle = {}, {}
    for rows, rounds in found.items():
        seconds = {name: [each[name]["seconds"] for each in rounds] for name in ("local", "spark")}
        slower = spread([spark / local for local, spark in zip(seconds["local"], seconds["spark"], strict=True)])
        cells[f"spark_{len(rows) - 1}"] = row(*(spread(values, 0) for values in seconds.values()), slower)
        middle[int(rows)] = {name: statistics.median(values) for name, values in seconds.items()}
    few, many = min(middle), max(middle)
    slopes = {name: (middle[many][name] - middle[few][name]) / (many - few) for name in ("local", "spark")}
    ahead = middle[few]["spark"] - middle[few]["local"]
    if slopes["local"] > slopes["spark"]:
        cells["spark_pays"] = f"{(few + ahead / (slopes['local'] - slopes['spark'])) / 1e6:.0f}"
    return cells


def fill_serving(found: Any) -> dict[str, str]:
    cells = {}
    for classifier, rounds in found.items():
        for form in serving.FORMS:
            figures = {key: [each[form][key] for each in rounds] for key in rounds[0][form]}
            cells[f"{classifier}_{form.lower()}"] = row(
                spread(figures["requests_per_cpu_second"], 0),
                spread(times_dataframe(rounds, form), 1),
                spread(figures["p50"], 1),
                spread(figures["p99"], 1),
            )
    return cells


def fill_team(found: Any) -> dict[str, str]:
    """The 50th and 99th percentile of each kind of request on each database."""
    return {f"team_{kind}": row(*(_percentiles(found[name][kind]) for name in found)) for kind in found["postgresql"]}


def _percentiles(milliseconds: list[float]) -> str:
    if min(milliseconds) >= 1000 * team_load.LIMIT:
        return f"> {1000 * team_load.LIMIT:,}"
    return " / ".join(f"{value:,.0f}" for value in milliseconds)


def fill_watch(found: Any) -> dict[str, str]:
    """Rates with their intervals; of each kind of year, what became of its retrainings."""
    cells = {}
    for name, each in found.items():
        if "rate" in each:
            cells[name] = _rate(each)
        else:
            counts = [each[key]["count"] for key in ("called_broken", "passed_by_the_gate_alone")]
            champions = each["became_champion"]
            cells[f"year_{name}"] = row(str(champions["of"]), *map(str, counts), _rate(champions))
    return cells


def _rate(found: dict[str, float]) -> str:
    """A count, and the rate with its interval in percent."""
    low, high = 100 * found["low"], 100 * found["high"]
    return row(f"{found['count']:,} of {found['of']:,}", f"{100 * found['rate']:.1f} ({low:.1f} to {high:.1f})")


PIECES: dict[str, tuple[Callable[[int], Any], Callable[[Any], dict[str, str]]]] = {
    "tracking": (run_tracking, fill_tracking),
    "baselines": (run_baselines, fill_baselines),
    "starts": (run_starts, fill_starts),
    "sizes": (run_sizes, fill_sizes),
    "reading": (run_reading, fill_reading),
    "tuning": (run_tuning, fill_tuning),
    "spark": (run_spark, fill_spark),
    "serving": (run_serving, fill_serving),
    "team": (run_team, fill_team),
    "watch": (run_watch, fill_watch),
    "unforeseen": (run_unforeseen, fill_watch),
}

# By the ending of the page.
MADE = {
    "": "Commit: {commit}. Rounds: {rounds}. Day: {day}. Load average at the start: {load}. {machine}.",
    ".fr": "Commit : {commit}. Tours : {rounds}. Jour : {day}. Charge moyenne au début : {load}. {machine}.",
}
BARS = {
    "": {
        "apart": "{}: one run per model / all in one run",
        "script": "{}: all in one run / no MLflow",
        "scripts": "one script per model / all in one run",
        "ann": "naive Keras loop / ours, {} epochs",
        "served": "{} served as DataFrame / {}",
        "axis": "ratio of processor seconds (median, smallest and largest round)",
    },
    ".fr": {
        "apart": "{} : une exécution par modèle / une seule",
        "script": "{} : une seule exécution / sans MLflow",
        "scripts": "un script par modèle / une seule exécution",
        "ann": "boucle Keras naïve / la nôtre, {} époques",
        "served": "{} servi comme DataFrame / {}",
        "axis": "rapport des temps processeur (médiane, plus petit et plus grand tour)",
    },
}


def compared(results: dict[str, Any], words: dict[str, str]) -> dict[str, list[float]]:
    """The ratios that the picture shows, each by round."""
    bars: dict[str, list[float]] = {}
    if tracked := results.get("tracking"):
        for example, rounds in tracked["found"].items():
            bars[words["apart"].format(example)] = ratios(rounds, "apart", "main")
            bars[words["script"].format(example)] = ratios(rounds, "script", "floor")
    if others := results.get("baselines"):
        bars[words["scripts"]] = ratios(others["found"]["scripts"], "scripts", "main")
        for epochs in floors.NETWORK:
            rounds = others["found"][f"ann, {epochs} epochs"]
            bars[words["ann"].format(epochs)] = ratios(rounds, "naive_cpu", "ours_cpu")
    if served := results.get("serving"):
        for classifier, rounds in served["found"].items():
            for form in serving.FORMS[1:]:
                bars[words["served"].format(classifier, form)] = times_dataframe(rounds, form)
    return bars


def picture(bars: dict[str, list[float]], axis: str, language: Callable[[str], str]) -> Figure:
    """Median ratios of processor seconds with the range of the rounds; `language` writes the figures."""
    figure = Figure(figsize=(9, 0.6 + 0.45 * len(bars)), layout="constrained")
    axes = figure.subplots()
    middles = [statistics.median(values) for values in bars.values()]
    low = [middle - min(values) for middle, values in zip(middles, bars.values(), strict=True)]
    high = [max(values) - middle for middle, values in zip(middles, bars.values(), strict=True)]
    drawn = axes.barh(list(bars), middles, xerr=[low, high], color="#0b7285", ecolor="#343a40", capsize=3)
    axes.bar_label(drawn, [language(f"{middle:.1f}") for middle in middles], padding=6)
    axes.axvline(1, color="#343a40", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def french(cell: str) -> str:
    """A cell with its numbers and its words as French has them."""
    cell = re.sub(r"(?<=\d),(?=\d{3})", "\N{NO-BREAK SPACE}", cell)
    return re.sub(r"(?<=\d)\.(?=\d)", ",", cell).replace(" to ", " à ").replace(" of ", " sur ")


def write_report() -> None:
    """The report and its picture, in both languages, from all results that are there."""
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in PIECES if _kept(name)}
    for ending, words in BARS.items():
        cells = Cells()
        for name, result in results.items():
            if result["found"] is not None:  # no Spark here
                cells.update(PIECES[name][1](result["found"]))
        if ending:
            cells = Cells({name: french(cell) for name, cell in cells.items()})
        cells.update({f"{name}_made": _made(result, ending) for name, result in results.items()})
        page = Template((HERE / f"template{ending}.md").read_text(encoding="utf-8"))
        (HERE / f"REPORT{ending}.md").write_text(page.substitute(cells), encoding="utf-8")
        figure = picture(compared(results, words), words["axis"], french if ending else str)
        figure.savefig(HERE / f"report{ending}.png", dpi=120)


def _made(result: dict[str, Any], ending: str) -> str:
    """When and where a piece was measured."""
    about = {key: value for key, value in result["machine"].items() if value != "not installed"}
    load, system = about.pop("load average at the start"), about.pop("system")
    if ending:
        load, system = french(load), system.replace("cores", "cœurs").replace(" GB", "\N{NO-BREAK SPACE}Go")
    machine = ", ".join([system, *(f"{name} {version}" for name, version in about.items())])
    return MADE[ending].format(**{key: result[key] for key in ("commit", "rounds", "day")}, load=load, machine=machine)


def _kept(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


@click.command()
@click.argument("pieces", nargs=-1, type=click.Choice(list(PIECES)))
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of each comparison.")
@click.option("--only_write", is_flag=True, help="Measure nothing: write the report of what is kept.")
def report(pieces: tuple[str, ...], rounds: int, only_write: bool) -> None:
    """Run the benchmarks, or some, and write the report."""
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        click.echo("Warning: PYTHONDONTWRITEBYTECODE is set: every start compiles anew, and no figure is typical.")
    RESULTS.mkdir(exist_ok=True)
    for name in () if only_write else pieces or PIECES:
        click.echo(name)
        about = machine()
        measured = 1 if name in ("sizes", "watch", "unforeseen") else rounds
        found = PIECES[name][0](measured)
        kept = {
            "found": found,
            "rounds": measured,
            "day": time.strftime("%Y-%m-%d"),
            "commit": commit(),
            "machine": about,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    write_report()


if __name__ == "__main__":
    report()
