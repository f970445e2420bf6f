"""Runs that a script begins beside its own and that lie below none: a loop of `start_run`, steps run by threads."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_REPO_URL,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)

from children import Child, find_runs
from sameness import TEMPORARY

MARK = "made_again_in"  # a tag of the runs that a script begins while it is run again
PAUSE = 1000.0  # ms in which nobody starts a second program by hand that loads MLflow


@dataclass(frozen=True)
class Beside:
    """The runs that may have been begun beside a past run.

    its: by its own script. Nothing records that: a program that it starts began them while it was at work.
    perhaps: by its script, or by hand at about that time.
    others: while or after another run of the project was at work, by whichever of the two.
    """

    its: list[Run]
    perhaps: list[Run]
    others: list[Run]


def marked(value: str) -> dict[str, str]:
    """The variable by which MLflow tags every run that a script begins."""
    return {"MLFLOW_RUN_CONTEXT": json.dumps(json.loads(os.environ.get("MLFLOW_RUN_CONTEXT", "{}")) | {MARK: value})}


def begun(child: Child, value: str, folder: Path) -> list[Run]:
    """The runs that the script of a child began beside its own: those marked, and those of projects in its clone.

    value: with which they were marked.
    folder: in which the clone lay.
    """
    if child.run is None:
        return []
    start = child.run.info.start_time
    ended = start + int(child.seconds * 1000)
    steps = f"attributes.start_time >= {start} and attributes.start_time <= {ended}"
    found = find_runs(f"tags.`{MARK}` = '{value}'", deleted=True)
    found += find_runs(f"{steps} and tags.`{MLFLOW_SOURCE_NAME}` LIKE '%/{folder.name}/%'", deleted=True)
    alone = {each.info.run_id: each for each in found if MLFLOW_PARENT_RUN_ID not in each.data.tags}
    alone.pop(child.run.info.run_id, None)
    return sorted(alone.values(), key=lambda each: each.info.start_time)


def beside(run: Run, again: Run, began: list[Run], starts: set[str], seconds: float, before: int) -> Beside:
    """The runs that the script of a past run may have begun beside its own, by when they were begun.

    again, began: its counterpart and the runs that were begun beside that.
    starts: the programs that its entry point starts.
    seconds: how long the counterpart took. The past run may have taken three times as long.
    before: ms since 1970 at which the reproduction was begun.
    """
    start, end, programs = run.info.start_time, run.info.end_time, {*starts, *map(_program, began)}
    last = min(end + 3000 * seconds + 60_000, before)
    commit = f"tags.`{MLFLOW_GIT_COMMIT}` = '{run.data.tags.get(MLFLOW_GIT_COMMIT, '')}'"
    times = f"attributes.start_time > {int(2 * start - last)} and attributes.start_time < {int(last)}"
    found = find_runs(f"{commit} and {times}", deleted=True)
    kin = _kin(run, found)
    found = [each for each in found if each.info.run_id not in kin]
    of_projects = [each for each in found if not _is_of_a_script(each)]
    of_scripts = [each for each in found if _is_of_a_script(each) and _may_be_of(each, run)]
    at_work = [each for each in found if each in of_projects or _program(each) in programs]
    already = any(each.info.start_time < start < (each.info.end_time or last) for each in at_work)
    cut = min([start if already else last, *(x.info.start_time for x in of_projects if x.info.start_time >= start)])
    since = [each for each in of_scripts if each.info.start_time >= start]
    users = {each.data.tags.get(MLFLOW_USER) for each in (run, *began)}
    its, pause = [], PAUSE + 2 * _longest_pause(again, began)
    for each in since:
        if each.info.start_time >= min(cut, end + pause + 1):
            break
        if each.data.tags.get(MLFLOW_USER) in users and (_program(each) in programs or not _is_plain(each)):
            its.append(each)
            end = max(end, each.info.end_time or end)
    left = [each for each in since if each not in its and (not began or _program(each) in programs)]
    first = [each for each in left if each.info.start_time < cut]
    needed = max(0, len(began) - len(its))
    its += first[:needed]
    shared = already or cut < end or len(its) < len(began)
    return Beside(its, first[needed:], [each for each in left if each not in first] if shared else [])


def _kin(run: Run, found: list[Run]) -> set[str]:
    """The ids of a run, of those above it and of those below it, as far as they are among what was found."""
    parents = {each.info.run_id: each.data.tags.get(MLFLOW_PARENT_RUN_ID, "") for each in [*found, run]}
    above, below = [run.info.run_id], {run.info.run_id}
    while parent := parents.get(above[-1]):
        above.append(parent)
    while more := {run_id for run_id, parent in parents.items() if parent in below} - below:
        below |= more
    return {*above, *below}


def _longest_pause(run: Run, began: list[Run]) -> float:
    """The longest time, in ms, in which none of the runs of a script was at work."""
    end, longest = run.info.end_time, 0.0
    for each in began:
        longest, end = max(longest, each.info.start_time - end), max(end, each.info.end_time or end)
    return longest


def _is_of_a_script(run: Run) -> bool:
    """Whether a script began a run: not `mlflow run`, unless the script called it, on its own clone."""
    return _is_plain(run) or bool(TEMPORARY.match(run.data.tags.get(MLFLOW_SOURCE_NAME, "")))


def _is_plain(run: Run) -> bool:
    """Whether a run is that of no entry point: begun by `start_run` alone."""
    return MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags


def _may_be_of(each: Run, run: Run) -> bool:
    """Whether a run that lies below none has what all those have that a script of `run` began."""
    tags, its = each.data.tags, run.data.tags
    if MLFLOW_PARENT_RUN_ID in tags or not _is_plain(each):
        return MLFLOW_PARENT_RUN_ID not in tags
    repository = tags.get(MLFLOW_GIT_REPO_URL, its.get(MLFLOW_GIT_REPO_URL))  # clients of MLflow 2 do not record it
    return tags.get(MARK) == its.get(MARK) and repository == its.get(MLFLOW_GIT_REPO_URL)


def _program(run: Run) -> str:
    tags = run.data.tags
    return tags.get(MLFLOW_PROJECT_ENTRY_POINT) or TEMPORARY.sub("", tags.get(MLFLOW_SOURCE_NAME, ""))
