"""What a reproduction found: the verdict, what differs, why it may; as text, as a page, as a table and as JSON."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from children import Child
from comparison import ENVIRONMENT, EVIDENCE, Row
from past import DIRTY, Past
from pinned import Project

SHOWN = 20  # differences that are printed; the report has all


@dataclass(frozen=True)
class Report:
    """What became of running a past run again.

    child: the project's run that was made.
    again: the run that stands for the past one: that of the child, or one below it; None where there is none.
    env_manager: what made the environment.
    kept: whether a branch or tag leads to the commit.
    ignored: patterns of the names of metrics that were not compared.
    """

    past: Past
    project: Project
    child: Child
    again: Run | None
    rows: list[Row]
    env_manager: str
    kept: bool
    ignored: list[str]

    @property
    def differences(self) -> list[Row]:
        """What keeps the run from being reproduced."""
        return [row for row in self.rows if not row.same and row.kind not in ENVIRONMENT]

    @property
    def other_versions(self) -> list[Row]:
        """What differs in the environments of the models."""
        return [row for row in self.rows if not row.same and row.kind in ENVIRONMENT]

    @property
    def reproduced(self) -> bool:
        """Whether there was something to compare, and all of it is the same."""
        return not self.differences and any(row.kind in EVIDENCE for row in self.rows)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        counts = Counter(row.kind for row in self.rows if row.kind not in ENVIRONMENT)
        compared = ", ".join(f"{number} {kind}{'s' * (number > 1)}" for kind, number in counts.items())
        if self.child.status != "FINISHED":
            return f"NOT reproduced: the run failed this time: {self.child.error}"
        if self.differences:
            return f"NOT reproduced: {len(self.differences)} of {counts.total()} differ ({compared})."
        if not self.reproduced:
            return "NOT reproduced: the run recorded no dataset, metric or model, by which one could tell."
        return f"Reproduced: all is the same ({compared})."

    @property
    def reasons(self) -> list[str]:
        """Why the runs may differ, as far as what they recorded tells."""
        if self.child.status != "FINISHED":
            return []  # what it printed says why
        found = []
        if self.past.dirty:
            found.append("The original was run with uncommitted changes: its artifact git.diff, which no commit holds.")
        elif self.past.from_a_folder and not self.past.tag(DIRTY):
            found.append("The original was run from a folder, and did not record whether that was as in the commit.")
        if data := [f"{row.name} {row.original}, now {row.again}" for row in self.differences if row.kind == "dataset"]:
            found.append(f"The data are not the same: {'; '.join(dict.fromkeys(data))}.")
        elif not any(row.kind == "dataset" for row in self.rows):
            found.append("The run recorded no dataset: whether the data are the same is unknown.")
        if versions := [f"{row.name} {row.original}, now {row.again}" for row in self.other_versions]:
            found.append(f"The versions are not the same: {'; '.join(dict.fromkeys(versions))}.")
        elif not any(row.kind == "requirement" for row in self.rows):
            found.append("The run recorded no requirements: whether the versions are the same is unknown.")
        if self.env_manager == "local":
            found.append("This time the packages installed here were used, not those that the project asks for.")
        elif not self.past.env_manager:
            found.append("The original used the packages of its machine, not those that the project asks for.")
        found.append(
            "What no commit fixes: a seed that is not set, the time, the number of threads, the hardware (this time "
            f"{self.machine}; MLflow does not record that of the original)."
        )
        return found

    @property
    def notes(self) -> list[str]:
        """What a reader of the verdict should know besides."""
        found = []
        if self.ignored:
            found.append(f"Metrics that were not compared: {', '.join(self.ignored)}.")
        if self.reproduced and self.other_versions:
            versions = [f"{row.name} {row.original}, now {row.again}" for row in self.other_versions]
            found.append(f"Reproduced with other versions: {'; '.join(dict.fromkeys(versions))}.")
        if not self.kept:
            found.append(
                "No branch or tag leads to the commit any more: history was rewritten, and it may soon be gone."
            )
        if self.env_manager == "conda":
            found.append("MLflow uses a conda environment again that it made earlier from the same conda.yaml.")
        if self.past.run is not self.past.project_run:
            found.append(f"It lies below the run {self.past.project_run.info.run_id}, all of which was run again.")
        return found

    @property
    def machine(self) -> str:
        """The machine that the run was made on again."""
        return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"

    def facts(self) -> dict[str, Any]:
        """The heading of the report."""
        fresh = {"local": "local: what is installed here", "conda": "conda", "docker": "docker"}
        return {
            "original": self.past.run.info.run_id,
            "again": self.again.info.run_id if self.again else "",
            "repository": self.project.repo,
            "commit": self.project.commit,
            "project": self.project.folder,
            "entry_point": self.child.entry_point,
            "parameters": self.child.parameters,
            "environment": fresh.get(self.env_manager, f"{self.env_manager}, made for this run"),
            "original_environment": self.past.env_manager or "local, or not recorded",
            "machine": self.machine,
        }

    def markdown(self) -> str:
        """The report as a page."""
        lines = [f"# {self.verdict.partition(':')[0]}: {self.past.run.info.run_name}", "", self.verdict, ""]
        lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in self.facts().items()), ""]
        lines += _table("What differs", self.differences)
        if not self.reproduced and self.reasons:
            lines += ["## Why it may", "", *(f"- {reason}" for reason in self.reasons), ""]
        lines += _table("Other versions", self.other_versions)
        if self.notes:
            lines += ["## To be known", "", *(f"- {note}" for note in self.notes), ""]
        lines += _table("What is the same", [row for row in self.rows if row.same])
        return "\n".join(lines)

    def as_csv(self) -> str:
        """All that was compared, one line each."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(asdict(self.rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue()

    def log(self) -> None:
        """Log the report to the active run, and tag it, the past run and the new one with each other."""
        active = mlflow.active_run()
        assert active is not None
        mlflow.log_text(self.markdown(), "report.md")
        mlflow.log_text(self.as_csv(), "report.csv")
        found = {"reproduced": self.reproduced, "verdict": self.verdict, "reasons": self.reasons, "notes": self.notes}
        if self.reproduced:
            del found["reasons"]
        different = [asdict(row) for row in self.rows if not row.same]
        mlflow.log_dict(found | self.facts() | {"differences": different}, "report.json")
        mlflow.log_metrics({"compared": len(self.rows), "different": len(self.differences)})
        word = str(self.reproduced).lower()
        past = self.past.run.info
        note = f"{self.verdict} [The original](#/experiments/{past.experiment_id}/runs/{past.run_id})"
        mlflow.set_tags({"reproduced": word, "reproduces": past.run_id, "mlflow.note.content": note})
        client = MlflowClient()
        client.set_tag(past.run_id, "reproduced", word)
        client.set_tag(past.run_id, "reproduced_by", active.info.run_id)
        if self.again:
            mlflow.set_tag("again", self.again.info.run_id)
            client.set_tag(self.again.info.run_id, "reproduces", past.run_id)

    def show(self) -> None:
        """Print the verdict and what differs."""
        click.echo(f"\n{self.verdict}")
        for row in self.differences[:SHOWN]:
            where = f"{row.run}: " if row.run else ""
            click.echo(f"  {where}{row.kind} {row.name}: {_cell(row.original)}, now {_cell(row.again)}")
        if len(self.differences) > SHOWN:
            click.echo(f"  and {len(self.differences) - SHOWN} more: see the report")
        for line in [*([] if self.reproduced else self.reasons), *self.notes]:
            click.echo(f"- {line}")


def _table(title: str, rows: list[Row]) -> list[str]:
    if not rows:
        return []
    cells = [(row.run, row.kind, row.name, row.original, row.again) for row in rows]
    head = [f"## {title}", "", "| run | what | name | original | again |", "|---|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(map(_cell, row))} |" for row in cells), ""]


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 100 else f"{text[:97]}..."
