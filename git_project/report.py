"""What a reproduction found: the verdict, what was compared and what was not; as text, as a page to file, as JSON."""

from __future__ import annotations

import getpass
import json
import os
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_USER

from again import Attempt, NotTried
from comparison import ENVIRONMENT, Row
from past import Past
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
    """What became of running a past run again.

    reproduction: the active run.
    foreseen: what the past run did outside of itself.
    registry: where models were registered this time, `scratch` or `same`.
    attempt: the run that was made, and how; None where there is none.
    again: the run that stands for the past one: that of the attempt, or one below it.
    """

    past: Past
    reproduction: Run
    foreseen: list[str]
    registry: str
    attempt: Attempt | None = None
    again: Run | None = None
    rules: Sameness | None = None
    rows: list[Row] = field(default_factory=list)
    not_tried: NotTried | None = None

    def rows_of(self, same: bool | None, *kinds: str) -> list[Row]:
        """The rows that came out so, of some kinds or of all; environments, which decide nothing, only when asked."""
        kinds = kinds or tuple({row.kind for row in self.rows} - {*ENVIRONMENT})
        return [row for row in self.rows if row.same is same and row.kind in kinds]

    @property
    def compared(self) -> list[Row]:
        """What was compared and decides."""
        return [row for row in self.rows if row.same is not None and row.kind not in ENVIRONMENT]

    @property
    def differences(self) -> list[Row]:
        """What keeps the run from being reproduced."""
        return self.rows_of(False)

    @property
    def reproduced(self) -> str:
        """The verdict as the tag has it: true, false or not tried."""
        if self.not_tried or not any(row.kind in EVIDENCE for row in self.compared):
            return "not tried"
        return "false" if self.differences else "true"

    @property
    def verdict(self) -> str:
        """The result in one sentence, with the number of all that was compared and of what was not."""
        word, compared, left_out = WORDS[self.reproduced], self.compared, self.rows_of(None)
        if self.not_tried:
            return f"{word}: {self.not_tried.cause}"
        if self.reproduced == "not tried":
            if seen := counted([row for row in left_out if row.kind in EVIDENCE]):
                return f"{word}: nothing was left by which one could tell; not compared: {seen}."
            return f"{word}: the run recorded no dataset, metric, model or artifact, by which one could tell."
        if self.differences:
            return f"{word}: {len(self.differences)} of {len(compared)} differ ({counted(compared)})."
        partly = sum(1 for row in compared if row.why)
        if rest := ", ".join(filter(None, [counted(left_out), f"parts of {partly}" if partly else ""])):
            return f"{word}: what was compared is the same ({counted(compared)}); not compared: {rest}."
        return f"{word}: all is the same ({counted(compared)})."

    def reasons(self) -> list[str]:
        """Why the runs may differ, as far as what they recorded tells."""
        found = []
        if self.past.dirty:
            found.append("The original was run with uncommitted changes: its artifact git.diff, which no commit holds.")
        elif self.past.checkout and self.past.dirty is None:
            found.append("The original was run from a folder, and did not record whether that was as in the commit.")
        if data := changed(self.rows_of(False, "dataset")):
            found.append(f"The data are not the same: {data}.")
        if self.rows_of(False, "commit"):
            found.append("A step was run at another commit: the project follows a branch that has moved on.")
        if not any(row.kind == "requirement" for row in self.rows):
            found.append("The run recorded no requirements: whether the versions are the same is unknown.")
        if self.attempt and self.attempt.env_manager == "local":
            found.append("This time the packages installed here were used, not those that the project asks for.")
        elif not self.past.env_manager:
            found.append(
                "The original used the packages of its machine, not those that the project asks for; "
                "-P env_manager=local uses what is installed here."
            )
        if self.registry == "scratch" and any("registered version" in line for line in self.foreseen):
            found.append("The registry was empty this time: what the project found in yours was not there.")
        found.append(
            "What no commit fixes: a seed that is not set, the time, the number of threads, the hardware (this time "
            f"{machine()}; MLflow does not record that of the original)."
        )
        named = [name for row in self.differences for name in (row.name, row.place)]
        durations = [name for name in named if looks_like_a_duration(name)]
        if durations and self.rules:
            ignore = ",".join(dict.fromkeys([*self.rules.ignore, *durations]))
            found.append(f"These look like durations: -P ignore='{ignore}' leaves them out.")
        return found

    def notes(self) -> list[str]:
        """What a reader of the verdict should know besides."""
        found = list(self.attempt.notes) if self.attempt else []
        for word, rows in (("Not compared, ", self.rows_of(None)), ("Compared ", self.compared)):
            for why in dict.fromkeys(row.why for row in rows if row.why):
                these = [row for row in rows if row.why == why]
                named = ", ".join(dict.fromkeys(row.name for row in these[:SHOWN]))
                found.append(f"{word}{why}: {counted(these)}: {named}{' ...' if len(these) > SHOWN else ''}.")
        lacking = [name for name, kinds in STRONG.items() if not any(row.kind in kinds for row in self.compared)]
        if self.reproduced == "true" and lacking:
            found.append(f"The evidence is weak: no {', no '.join(lacking)} to compare.")
        if self.rules and self.rules.rules and self.reproduced != "not tried":
            found.append(f"Taken as the same by rule: {', '.join(sorted(self.rules.rules))}.")
        if versions := changed(self.rows_of(False, *ENVIRONMENT)):
            found.append(f"The versions are not the same: {versions}.")
        if self.attempt and self.attempt.env_manager == "conda":
            found.append("MLflow uses a conda environment again that it made earlier from the same conda.yaml.")
        if self.past.run is not self.past.project_run:
            found.append(f"It lies below the run {self.past.project_run.info.run_id}, all of which was run again.")
        return found

    def facts(self) -> dict[str, Any]:
        """Who, when, which commit, which environment."""
        info, tags, attempt = self.past.project_run.info, self.past.project_run.data.tags, self.attempt
        return {
            "original": self.past.run.info.run_id,
            "original_user": tags.get(MLFLOW_USER, ""),
            "original_time": f"{moment(info.start_time)} to {moment(info.end_time)}",
            "original_environment": self.past.env_manager or "local, or not recorded",
            "reproduction": self.reproduction.info.run_id,
            "again": self.again.info.run_id if self.again else "",
            "user": self.reproduction.data.tags.get(MLFLOW_USER) or getpass.getuser(),
            "time": f"{moment(self.reproduction.info.start_time)} to {moment(datetime.now(UTC).timestamp() * 1000)}",
            "environment": MADE.get(attempt.env_manager, f"{attempt.env_manager}, made for this run")
            if attempt
            else "",
            "machine": machine(),
            "repository": self.past.repo,
            "commit": self.past.commit,
            "project": self.past.folder or ".",
            "entry_point": self.past.entry_point,
            "parameters": attempt.child.parameters if attempt else {},
            "git_lfs_pointers": list(attempt.project.pointers) if attempt else [],
            "tolerance": f"rtol={self.rules.rtol:g}, atol={self.rules.atol:g}" if self.rules else "",
            "ignore": ",".join(self.rules.ignore) if self.rules else "",
            "registry": f"{self.registry}: thrown away afterwards" if self.registry == "scratch" else self.registry,
        }

    def markdown(self) -> str:
        """The report as a page to file."""
        lines = [f"# {WORDS[self.reproduced]}: {self.past.run.info.run_name}", "", self.verdict, ""]
        if self.not_tried:
            lines += [self.not_tried.way_on, ""]
        lines += ["## Who, when, from what", "", "| | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {cell(value)} |" for name, value in self.facts().items() if value]
        lines += ["", *table("Versions that differ", self.rows_of(False, *ENVIRONMENT)), *self._counts()]
        lines += table("What differs", self.differences)
        lines += listed("Possible reasons", self.reasons() if self.differences else [])
        lines += listed("Notes", self.notes())
        lines += listed("Outside the run", [f"The past run {line}." for line in self.foreseen])
        lines += table("What was not compared", self.rows_of(None))
        return "\n".join(lines + table("What is the same", [row for row in self.rows if row.same]))

    def _counts(self) -> list[str]:
        """A table of how many of each kind were compared, and what never is."""
        if not self.rows:
            return []
        lines = ["## What was compared", "", "| what | same | differ | not compared |", "|---|--:|--:|--:|"]
        for kind in dict.fromkeys(row.kind for row in self.rows):
            same, differ, left_out = (len(self.rows_of(each, kind)) for each in (True, False, None))
            lines.append(f"| {kind}s | {same} | {differ} | {left_out} |")
        return [*lines, "", f"Never compared: {NEVER}.", ""]

    def log(self, output: Path | None) -> None:
        """Log the report to the active run, write it to a folder, and tag the runs with each other.

        The original gets no tag where nothing was tried.
        """
        page = self.markdown()
        mlflow.log_text(page, "report.md")
        if output:
            (output / f"reproduction_{self.past.run.info.run_id}.md").write_text(page, encoding="utf-8")
        found = {"reproduced": self.reproduced, "verdict": self.verdict, "notes": self.notes()}
        if self.differences:
            found["reasons"] = self.reasons()
        if self.not_tried:
            found |= {"cause": self.not_tried.cause, "way_on": self.not_tried.way_on}
        mlflow.log_dict(found | self.facts() | {"rows": [asdict(row) for row in self.rows]}, "report.json")
        mlflow.log_metrics({"compared": len(self.compared), "different": len(self.differences)})
        past, client = self.past.run.info, MlflowClient()
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
        ways = [self.not_tried.way_on] if self.not_tried and self.not_tried.way_on else []
        for line in [*ways, *(self.reasons() if self.differences else []), *self.notes()]:
            click.echo(f"- {line}")
        click.echo(f"Report: runs:/{self.reproduction.info.run_id}/report.md")


def counted(rows: list[Row]) -> str:
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


def listed(title: str, lines: list[str]) -> list[str]:
    """Lines as a list of Markdown under a heading; nothing where there are none."""
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def table(title: str, rows: list[Row]) -> list[str]:
    """Rows as a table of Markdown under a heading; nothing where there are none."""
    if not rows:
        return []
    cells = [(row.run, row.kind, row.name, row.original, row.again) for row in rows]
    head = [f"## {title}", "", "| run | what | name | original | again |", "|---|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(map(cell, row))} |" for row in cells), ""]


def cell(value: object) -> str:
    """A value in a cell of a table."""
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    text = text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")
    return text if len(text) <= 100 else f"{text[:97]}..."
