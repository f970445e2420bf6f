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
from past import DIRTY, Past
from sameness import Sameness, looks_like_a_duration

SHOWN = 20  # differences that are printed; the report has all
WORDS = {"true": "Reproduced", "false": "NOT reproduced", "not tried": "Not tried"}
# One of these must be there, or nothing shows that a run was reproduced.
EVIDENCE = ("dataset", "metric", "signature", "prediction", "model", "artifact", "picture")
# What strong evidence has, and what to call it where it is lacking.
STRONG = {"dataset": ("dataset",), "metric": ("metric",), "model's answers": ("prediction", "model")}
NEVER = "tags, traces, system metrics, registered models, what was written outside the runs"


@dataclass
class Report:
    """What became of running a past run again.

    reproduction: the active run.
    foreseen: what the past run did outside of itself.
    registry: where models were registered this time, `scratch` or `same`.
    attempt: the run that was made, and how; None where there is none.
    again: the run that stands for the past one: that of the attempt, or one below it.
    kept: whether a branch or tag leads to the commit; None where unknown.
    """

    past: Past
    reproduction: Run
    foreseen: list[str]
    registry: str
    attempt: Attempt | None = None
    again: Run | None = None
    rules: Sameness | None = None
    rows: list[Row] = field(default_factory=list)
    kept: bool | None = None
    not_tried: NotTried | None = None

    @property
    def compared(self) -> list[Row]:
        """What was compared and decides."""
        return [row for row in self.rows if row.same is not None and row.kind not in ENVIRONMENT]

    @property
    def left_out(self) -> list[Row]:
        """What was there and could not be compared, or was not to be."""
        return [row for row in self.rows if row.same is None]

    @property
    def differences(self) -> list[Row]:
        """What keeps the run from being reproduced."""
        return [row for row in self.compared if not row.same]

    @property
    def versions(self) -> list[Row]:
        """What differs in the environments of the models."""
        return [row for row in self.rows if row.same is False and row.kind in ENVIRONMENT]

    @property
    def reproduced(self) -> str:
        """The verdict as the tag has it: true, false or not tried."""
        if self.not_tried or not any(row.kind in EVIDENCE for row in self.compared):
            return "not tried"
        return "false" if self.differences else "true"

    @property
    def verdict(self) -> str:
        """The result in one sentence, with the number of all that was compared and of what was not."""
        word = WORDS[self.reproduced]
        counts = counted(self.compared)
        if self.not_tried:
            return f"{word}: {self.not_tried.cause}"
        if self.reproduced == "not tried":
            return f"{word}: the run recorded no dataset, metric, model or artifact, by which one could tell."
        if self.differences:
            return f"{word}: {len(self.differences)} of {len(self.compared)} differ ({counts})."
        if self.left_out or any(row.why for row in self.compared):
            partly = sum(1 for row in self.compared if row.why)
            rest = ", ".join(filter(None, [counted(self.left_out), f"parts of {partly}" if partly else ""]))
            return f"{word}: what was compared is the same ({counts}); not compared: {rest}."
        return f"{word}: all is the same ({counts})."

    @property
    def reasons(self) -> list[str]:
        """Why the runs may differ, as far as what they recorded tells."""
        found = []
        if self.past.dirty:
            found.append("The original was run with uncommitted changes: its artifact git.diff, which no commit holds.")
        elif self.past.from_a_folder and not self.past.tag(DIRTY):
            found.append("The original was run from a folder, and did not record whether that was as in the commit.")
        if data := [f"{row.name} {row.original}, now {row.again}" for row in self.differences if row.kind == "dataset"]:
            found.append(f"The data are not the same: {'; '.join(dict.fromkeys(data))}.")
        if any(row.kind == "commit" for row in self.differences):
            found.append("A step was run at another commit: the project follows a branch that has moved on.")
        if not any(row.kind == "requirement" for row in self.rows):
            found.append("The run recorded no requirements: whether the versions are the same is unknown.")
        if self.attempt and self.attempt.env_manager == "local":
            found.append("This time the packages installed here were used, not those that the project asks for.")
        elif not self.past.env_manager:
            found.append("The original used the packages of its machine, not those that the project asks for.")
        found.append(
            "What no commit fixes: a seed that is not set, the time, the number of threads, the hardware (this time "
            f"{machine()}; MLflow does not record that of the original)."
        )
        named = [row.name for row in self.differences if row.kind in ("metric", "parameter", "artifact")]
        durations = [name for name in named if looks_like_a_duration(name)]
        if durations and self.rules:
            ignore = ",".join(dict.fromkeys([*self.rules.ignore, *durations]))
            found.append(f"These look like durations: -P ignore='{ignore}' leaves them out.")
        return found

    @property
    def notes(self) -> list[str]:
        """What a reader of the verdict should know besides."""
        found = list(self.attempt.notes) if self.attempt else []
        for why, rows in by_reason(self.left_out).items():
            named = ", ".join(dict.fromkeys(row.name for row in rows[:SHOWN]))
            found.append(f"Not compared, {why}: {counted(rows)}: {named}{' ...' if len(rows) > SHOWN else ''}.")
        for why, rows in by_reason([row for row in self.compared if row.why]).items():
            found.append(
                f"Compared {why}: {counted(rows)}: {', '.join(dict.fromkeys(row.name for row in rows[:SHOWN]))}."
            )
        lacking = [name for name, kinds in STRONG.items() if not any(row.kind in kinds for row in self.compared)]
        if self.reproduced == "true" and lacking:
            found.append(f"The evidence is weak: no {', no '.join(lacking)} to compare.")
        if self.rules and self.rules.rules and self.reproduced != "not tried":
            found.append(f"Taken as the same by rule: {', '.join(sorted(self.rules.rules))}.")
        if self.versions:
            versions = [f"{row.name} {row.original}, now {row.again}" for row in self.versions]
            found.append(f"The versions are not the same: {'; '.join(dict.fromkeys(versions))}.")
        if self.kept is False:
            found.append("No branch or tag leads to the commit any more: it may soon be gone.")
        if self.attempt and self.attempt.env_manager == "conda":
            found.append("MLflow uses a conda environment again that it made earlier from the same conda.yaml.")
        if self.past.run is not self.past.project_run:
            found.append(f"It lies below the run {self.past.project_run.info.run_id}, all of which was run again.")
        return found

    def facts(self) -> dict[str, Any]:
        """Who, when, which commit, which environment."""
        info, attempt = self.past.project_run.info, self.attempt
        project = attempt.project if attempt else None
        return {
            "original": self.past.run.info.run_id,
            "original_user": self.past.tag(MLFLOW_USER),
            "original_time": f"{moment(info.start_time)} to {moment(info.end_time)}",
            "original_environment": self.past.env_manager or "local, or not recorded",
            "reproduction": self.reproduction.info.run_id,
            "again": self.again.info.run_id if self.again else "",
            "user": self.reproduction.data.tags.get(MLFLOW_USER) or getpass.getuser(),
            "time": f"{moment(self.reproduction.info.start_time)} to {moment(datetime.now(UTC).timestamp() * 1000)}",
            "environment": environment(attempt.env_manager) if attempt else "",
            "machine": machine(),
            "repository": self.past.repo,
            "commit": self.past.commit,
            "project": self.past.folder or ".",
            "entry_point": self.past.entry_point,
            "parameters": attempt.child.parameters if attempt else {},
            "git_lfs_pointers": list(project.pointers) if project else [],
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
        lines += ["", *table("Versions that differ", self.versions), *self._counts()]
        lines += table("What differs", self.differences)
        if self.differences:
            lines += ["## Possible reasons", "", *(f"- {reason}" for reason in self.reasons), ""]
        if self.notes:
            lines += ["## Notes", "", *(f"- {note}" for note in self.notes), ""]
        if self.foreseen:
            lines += ["## Outside the run", "", *(f"- The past run {line}." for line in self.foreseen), ""]
        lines += table("What was not compared", self.left_out)
        return "\n".join(lines + table("What is the same", [row for row in self.rows if row.same]))

    def _counts(self) -> list[str]:
        """A table of how many of each kind were compared, and what never is."""
        if not self.rows:
            return []
        lines = ["## What was compared", "", "| what | same | differ | not compared |", "|---|--:|--:|--:|"]
        for kind in dict.fromkeys(row.kind for row in self.rows):
            told = Counter(row.same for row in self.rows if row.kind == kind)
            lines.append(f"| {plural(kind, 2)} | {told[True]} | {told[False]} | {told[None]} |")
        return [*lines, "", f"Never compared: {NEVER}.", ""]

    def log(self, output: Path | None) -> None:
        """Log the report to the active run, write it to a folder, and tag the runs with each other.

        The original gets no tag where nothing was tried.
        """
        page = self.markdown()
        mlflow.log_text(page, "report.md")
        if output:
            (output / f"reproduction_{self.past.run.info.run_id}.md").write_text(page, encoding="utf-8")
        found = {"reproduced": self.reproduced, "verdict": self.verdict, "notes": self.notes}
        if self.differences:
            found["reasons"] = self.reasons
        if self.not_tried:
            found |= {"cause": self.not_tried.cause, "way_on": self.not_tried.way_on}
        mlflow.log_dict(found | self.facts() | {"rows": [asdict(row) for row in self.rows]}, "report.json")
        mlflow.log_metrics({"compared": len(self.compared), "different": len(self.differences)})
        past, client = self.past.run.info, MlflowClient()
        note = f"{self.verdict} [The original](#/experiments/{past.experiment_id}/runs/{past.run_id})"
        tags = {"reproduced": self.reproduced, "reproduces": past.run_id, "mlflow.note.content": note}
        mlflow.set_tags(tags | ({"again": self.again.info.run_id} if self.again else {}))
        if self.reproduced != "not tried":
            client.set_tag(past.run_id, "reproduced", self.reproduced)
            client.set_tag(past.run_id, "reproduced_by", self.reproduction.info.run_id)
        if self.again:
            client.set_tag(self.again.info.run_id, "reproduces", past.run_id)

    def show(self) -> None:
        """Print the verdict, what differs, and what a reader should know besides."""
        click.echo(f"\n{self.verdict}")
        for row in self.differences[:SHOWN]:
            where = f"{row.run}: " if row.run else ""
            click.echo(f"  {where}{row.kind} {row.name}: {cell(row.original)}, now {cell(row.again)}")
        if len(self.differences) > SHOWN:
            click.echo(f"  and {len(self.differences) - SHOWN} more: see the report")
        ways = [self.not_tried.way_on] if self.not_tried and self.not_tried.way_on else []
        for line in [*ways, *(self.reasons if self.differences else []), *self.notes]:
            click.echo(f"- {line}")
        click.echo(f"Report: runs:/{self.reproduction.info.run_id}/report.md")


def counted(rows: list[Row]) -> str:
    """How many rows there are of each kind: 2 metrics, 1 model."""
    counts = Counter(row.kind for row in rows)
    return ", ".join(f"{number} {plural(kind, number)}" for kind, number in counts.items())


def plural(kind: str, number: int) -> str:
    """The name of a kind, for one or several."""
    return kind if number == 1 else f"{kind}s"


def by_reason(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows by why they were not compared, or not wholly."""
    return {why: [row for row in rows if row.why == why] for why in dict.fromkeys(row.why for row in rows)}


def environment(manager: str) -> str:
    """What made the environment."""
    known = {"local": "local: what is installed here", "conda": "conda", "docker": "docker"}
    return known.get(manager, f"{manager}, made for this run")


def machine() -> str:
    """The machine that the run was made on again."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"


def moment(milliseconds: float | None) -> str:
    """A time in UTC, as people write it."""
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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
