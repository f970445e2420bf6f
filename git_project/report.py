"""What a reproduction found: the verdict, what was compared and what was not; as text, as a page to file, as JSON."""

from __future__ import annotations

import getpass
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from again import Attempt, NotTried
from comparison import ENVIRONMENT, Row
from recorded import Past
from sameness import Sameness, looks_like_a_duration

SHOWN = 20  # differences that are printed; the report has all
WORDS = {"true": "Reproduced", "false": "NOT reproduced", "not tried": "Not tried"}
# One of these must be there, or nothing shows that a run was reproduced.
EVIDENCE = ("dataset", "metric", "signature", "prediction", "model", "artifact", "picture")
# What strong evidence has, and what to call it where it is lacking.
STRONG = {"dataset": ("dataset",), "metric": ("metric",), "model's answers": ("prediction", "model")}
MADE = {"local": "local: what is installed here", "conda": "conda", "docker": "docker"}
NEVER = (
    "tags, traces, registered models, runs that a script makes without `start_run`, what was written outside the runs"
)


@dataclass
class Report:
    """What became of running a past run again."""

    past: Past
    reproduction: Run  # the active run
    foreseen: list[str]  # what the past run did outside of itself
    registry: str  # where models were registered this time: scratch or same
    attempt: Attempt | None = None  # the run that was made, and how
    again: Run | None = None  # the run that stands for the past one: that of the attempt, or one below it
    rules: Sameness | None = None
    rows: list[Row] = field(default_factory=list)
    not_tried: NotTried | None = None

    def __post_init__(self) -> None:
        self.compared = [row for row in self.rows if row.same is not None and row.kind not in ENVIRONMENT]
        self.differences = self.rows_of(False)  # what keeps the run from being reproduced
        told = not self.not_tried and any(row.kind in EVIDENCE for row in self.compared)
        self.reproduced = ("false" if self.differences else "true") if told else "not tried"  # as the tag has it
        self.way_on = self.not_tried.way_on if self.not_tried else ""

    def rows_of(self, same: bool | None, *kinds: str) -> list[Row]:
        """The rows that came out so, of some kinds or of all; environments, which decide nothing, only when asked."""
        wanted = kinds or {row.kind for row in self.rows} - {*ENVIRONMENT}
        return [row for row in self.rows if row.same is same and row.kind in wanted]

    @property
    def verdict(self) -> str:
        """The result in one sentence, with the number of all that was compared and of what was not."""
        compared, left_out = self.compared, self.rows_of(None)
        partly = sum(1 for row in compared if row.why)
        unseen = counted(row for row in left_out if row.kind in EVIDENCE)
        rest = ", ".join(filter(None, [counted(left_out), f"parts of {partly}" if partly else ""]))
        if self.not_tried:
            said = self.not_tried.cause
        elif self.reproduced == "not tried" and unseen:
            said = f"nothing was left by which one could tell; not compared: {unseen}."
        elif self.reproduced == "not tried":
            said = "the run recorded no dataset, metric, model or artifact, by which one could tell."
        elif self.differences:
            said = f"{len(self.differences)} of {len(compared)} differ ({counted(compared)})."
        elif rest:
            said = f"what was compared is the same ({counted(compared)}); not compared: {rest}."
        else:
            said = f"all is the same ({counted(compared)})."
        return f"{WORDS[self.reproduced]}: {said}"

    def reasons(self) -> list[str]:
        """Why the runs may differ, as far as what they recorded tells."""
        past, data, moved = self.past, changed(self.rows_of(False, "dataset")), self.rows_of(False, "commit")
        dirty, unknown = past.dirty, past.checkout and past.dirty is None
        unpinned = not any(row.kind == "requirement" for row in self.rows)
        local = self.attempt is not None and self.attempt.env_manager == "local"
        emptied = self.registry == "scratch" and any("registered version" in line for line in self.foreseen)
        named = [name for row in self.differences for name in (row.name, row.place)]
        slow = [name for name in named if looks_like_a_duration(name)]
        ignore = ",".join(dict.fromkeys([*(self.rules.ignore if self.rules else ()), *slow]))
        chance = f"a seed that is not set, the time, the number of threads, the hardware (this time {machine()})"
        said: list[tuple[object, str]] = [
            (dirty, "The original was run with uncommitted changes (its artifact git.diff), which no commit holds."),
            (unknown, "The original was run from a folder, and did not record whether that was as in the commit."),
            (data, f"The data are not the same: {data}."),
            (moved, "A step was run at another commit: the project follows a branch that has moved on."),
            (unpinned, "The run recorded no requirements: whether the versions are the same is unknown."),
            (local, "This time the packages installed here were used, not those that the project asks for."),
            (not local and not past.env_manager, "The original used what was installed: -P env_manager=local does so."),
            (emptied, "The registry was empty this time: what the project found in yours was not there."),
            (True, f"What no commit fixes: {chance}."),
            (slow, f"These look like durations: -P ignore='{ignore}' leaves them out."),
        ]
        return [text for holds, text in said if holds and self.differences]

    def notes(self) -> list[str]:
        """What a reader of the verdict should know besides."""
        found = list(self.attempt.notes) if self.attempt else []
        for word, rows in (("Not compared, ", self.rows_of(None)), ("Compared ", self.compared)):
            for why in dict.fromkeys(row.why for row in rows if row.why):
                these = [row for row in rows if row.why == why]
                named = ", ".join(dict.fromkeys(row.name for row in these[:SHOWN]))
                found.append(f"{word}{why}: {counted(these)}: {named}{' ...' if len(these) > SHOWN else ''}.")
        lacking = [name for name, kinds in STRONG.items() if not any(row.kind in kinds for row in self.compared)]
        by_rule = self.rules.rules if self.rules and self.reproduced != "not tried" else ()
        versions = changed(self.rows_of(False, *ENVIRONMENT))
        conda = self.attempt is not None and self.attempt.env_manager == "conda"
        upper = self.past.project_run
        said: list[tuple[object, str]] = [
            (self.reproduced == "true" and lacking, f"The evidence is weak: no {', no '.join(lacking)} to compare."),
            (by_rule, f"Taken as the same by rule: {', '.join(sorted(by_rule))}."),
            (versions, f"The versions are not the same: {versions}."),
            (conda, "MLflow uses a conda environment again that it made earlier from the same conda.yaml."),
            (self.past.run is not upper, f"It lies below the run {upper.info.run_id}, all of which was run again."),
        ]
        return found + [text for holds, text in said if holds]

    def facts(self) -> dict[str, Any]:
        """Who, when, which commit, which environment."""
        past, info, attempt = self.past, self.past.project_run.info, self.attempt
        made = attempt.env_manager if attempt else ""
        return {
            "original": past.run.info.run_id,
            "original_user": past.project_run.data.tags.get("mlflow.user", ""),
            "original_time": f"{moment(info.start_time)} to {moment(info.end_time)}",
            "original_environment": past.env_manager or "local, or not recorded",
            "reproduction": self.reproduction.info.run_id,
            "again": self.again.info.run_id if self.again else "",
            "user": self.reproduction.data.tags.get("mlflow.user") or getpass.getuser(),
            "time": f"{moment(self.reproduction.info.start_time)} to {moment(datetime.now(UTC).timestamp() * 1000)}",
            "environment": made and MADE.get(made, f"{made}, made for this run"),
            "machine": machine(),
            "repository": past.repo,
            "commit": past.commit,
            "project": past.folder or ".",
            "entry_point": past.entry_point,
            "parameters": attempt.child.parameters if attempt else {},
            "git_lfs_pointers": list(attempt.project.pointers) if attempt else [],
            "tolerance": f"rtol={self.rules.rtol:g}, atol={self.rules.atol:g}" if self.rules else "",
            "ignore": ",".join(self.rules.ignore) if self.rules else "",
            "registry": f"{self.registry}: thrown away afterwards" if self.registry == "scratch" else self.registry,
        }

    def page(self) -> str:
        """The report as a page to file."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        counts = [[f"{kind}s", *(len(self.rows_of(same, kind)) for same in (True, False, None))] for kind in kinds]
        facts = [(name.replace("_", " "), value) for name, value in self.facts().items() if value]
        parts = [
            f"# {WORDS[self.reproduced]}: {self.past.run.info.run_name}\n\n{self.verdict}\n",
            f"{self.way_on}\n" if self.way_on else "",
            table("Who, when, from what", ["", ""], facts),
            of_rows("Versions that differ", self.rows_of(False, *ENVIRONMENT)),
            table("What was compared", ["what", "same", "differ", "not compared"], counts),
            f"Never compared: {NEVER}.\n" if self.rows else "",
            of_rows("What differs", self.differences),
            listed("Possible reasons", self.reasons()),
            listed("Notes", self.notes()),
            listed("Outside the run", [f"The past run {line}." for line in self.foreseen]),
            of_rows("What was not compared", self.rows_of(None)),
            of_rows("What is the same", [row for row in self.rows if row.same]),
        ]
        return "\n".join(filter(None, parts))

    def log(self, output: Path | None) -> None:
        """Log the report to the active run, write it to a folder, and tag the runs with each other.

        The original gets no tag where nothing was tried.
        """
        page, past, client = self.page(), self.past.run.info, MlflowClient()
        mlflow.log_text(page, "report.md")
        if output:
            (output / f"reproduction_{past.run_id}.md").write_text(page, encoding="utf-8")
        found = {"reproduced": self.reproduced, "verdict": self.verdict, "notes": self.notes()}
        found |= {"reasons": self.reasons()} if self.differences else {}
        found |= asdict(self.not_tried) if self.not_tried else {}
        mlflow.log_dict(found | self.facts() | {"rows": [asdict(row) for row in self.rows]}, "report.json")
        mlflow.log_metrics({"compared": len(self.compared), "different": len(self.differences)})
        note = f"{self.verdict} [The original](#/experiments/{past.experiment_id}/runs/{past.run_id})"
        mlflow.set_tags({"reproduced": self.reproduced, "reproduces": past.run_id, "mlflow.note.content": note})
        if self.again:
            mlflow.set_tag("again", self.again.info.run_id)
            client.set_tag(self.again.info.run_id, "reproduces", past.run_id)
        if self.reproduced != "not tried":
            client.set_tag(past.run_id, "reproduced", self.reproduced)
            client.set_tag(past.run_id, "reproduced_by", self.reproduction.info.run_id)

    def show(self) -> None:
        """Print the verdict, what differs, and what a reader should know besides."""
        click.echo(f"\n{self.verdict}")
        for row in self.differences[:SHOWN]:
            where = f"{row.run}: " if row.run else ""
            click.echo(f"  {where}{row.kind} {row.name}: {cell(row.original)}, now {cell(row.again)}")
        if len(self.differences) > SHOWN:
            click.echo(f"  and {len(self.differences) - SHOWN} more: see the report")
        for line in filter(None, [self.way_on, *self.reasons(), *self.notes()]):
            click.echo(f"- {line}")
        click.echo(f"Report: runs:/{self.reproduction.info.run_id}/report.md")


def counted(rows: Iterable[Row]) -> str:
    """How many rows there are of each kind: 2 metrics, 1 model."""
    counts = Counter(row.kind for row in rows)
    return ", ".join(f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in counts.items())


def changed(rows: list[Row]) -> str:
    """What differs, from what to what: numpy 2.3.1, now 2.3.2."""
    return "; ".join(dict.fromkeys(f"{row.name} {row.original}, now {row.again}" for row in rows))


def machine() -> str:
    """The machine that the run was made on again."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"


def moment(milliseconds: float | None) -> str:
    """A time in UTC, as people write it."""
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listed(title: str, lines: list[str]) -> str:
    """Lines as a list of Markdown under a heading; nothing where there are none."""
    return f"## {title}\n\n" + "".join(f"- {line}\n" for line in lines) if lines else ""


def table(title: str, head: list[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a table of Markdown under a heading; nothing where there are none."""
    lines = [head, ["---"] * len(head), *rows]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines) if rows else ""


def of_rows(title: str, rows: list[Row]) -> str:
    """Rows as such a table."""
    head = ["run", "what", "name", "original", "again"]
    return table(title, head, [(row.run, row.kind, row.name, row.original, row.again) for row in rows])


def cell(value: object) -> str:
    """A value in a cell of a table."""
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    text = text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")
    return text if len(text) <= 100 else f"{text[:97]}..."
