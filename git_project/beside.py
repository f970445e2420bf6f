"""Runs that a script begins beside its own and that lie below none: a loop of `start_run`, steps run by threads."""

from __future__ import annotations

from pathlib import Path

from mlflow.entities import Run

from again import MARK, Attempt
from children import find_runs
from comparison import Row, pair_runs, parameters_of
from recorded import Past, Recorded, read
from sameness import TEMPORARY, Sameness

PAUSE = 1000.0  # ms in which nobody starts a second program by hand that loads MLflow


def add_runs_beside(
    past: Past, attempt: Attempt, rules: Sameness, one: Recorded, other: Recorded, folder: Path, before: int
) -> list[Row]:
    """Put below a past run and its counterpart what their scripts began beside them; rows of what they may have.

    folder: in which the clone of the counterpart lay.
    before: ms since 1970 at which the reproduction was begun.
    """
    began = _begun(attempt, folder)
    found = _beside(past.project_run, attempt, began, before)
    its, others, now = ([read(run) for run in runs] for runs in (*found[:2], began))
    known = {parameters_of(run, rules.original, rules) for run in others}
    lacking = [run for first, run in pair_runs(its, now, rules) if run and not first]
    unclear = [run for run in lacking if parameters_of(run, rules.again, rules) in known]
    one.below.extend(its)
    other.below.extend(run for run in now if run not in unclear)
    if now or its:
        attempt.notes.append(f"Beside its own run the script began {len(now)}; beside the original were {len(its)}.")
    if len(its) > len(now):
        attempt.notes.append("Nothing records whether a run beside the original was begun by its script or by hand.")
    why = "another run of the project was made at the same time, and nothing records which began it"
    by_hand = "begun at the same commit shortly after it, by its script or by hand, which nothing records"
    names = [(run.name, why) for run in (unclear if lacking else others)]
    names += [(str(run.info.run_name), by_hand) for run in found[2]]
    return [Row("run", name, "", "", None, reason) for name, reason in names]


def _begun(attempt: Attempt, folder: Path) -> list[Run]:
    """The runs that a script began beside its own: those marked, and those of projects in its clone."""
    start = attempt.run.info.start_time
    times = f"attributes.start_time >= {start} and attributes.start_time <= {start + int(attempt.child.seconds * 1000)}"
    found = find_runs(f"tags.`{MARK}` = '{attempt.mark}'", deleted=True)
    found += find_runs(f"{times} and tags.`mlflow.source.name` LIKE '%/{folder.name}/%'", deleted=True)
    alone = {each.info.run_id: each for each in found if "mlflow.parentRunId" not in each.data.tags}
    alone.pop(attempt.run.info.run_id, None)
    return sorted(alone.values(), key=lambda each: each.info.start_time)


def _beside(run: Run, attempt: Attempt, began: list[Run], before: int) -> tuple[list[Run], list[Run], list[Run]]:
    """The runs that may have been begun beside a past run, by when they were; nothing records by which program.

    Those of its own script: a program that it starts began them while it was at work. Those that were begun while or
    after another run of the project was at work, by whichever of the two. Those that it, or a person, began later.
    """
    start, end = run.info.start_time, run.info.end_time
    programs = {*attempt.project.starts(attempt.child.entry_point), *map(_program, began)}
    users = {each.data.tags.get("mlflow.user") for each in (run, *began)}
    last = min(end + 3000 * attempt.child.seconds + 60_000, before)  # it may have taken three times as long
    times = f"attributes.start_time > {int(2 * start - last)} and attributes.start_time < {int(last)}"
    commit = f"tags.`mlflow.source.git.commit` = '{run.data.tags.get('mlflow.source.git.commit', '')}'"
    found = find_runs(f"{commit} and {times}", deleted=True)
    kin = _kin(run, found)
    found = [each for each in found if each.info.run_id not in kin]
    of_projects = [each for each in found if _is_of_mlflow_run(each)]
    at_work = [each for each in found if each in of_projects or _program(each) in programs]
    already = any(each.info.start_time < start < (each.info.end_time or last) for each in at_work)
    cut = min([start if already else last, *(at for each in of_projects if (at := each.info.start_time) >= start)])
    since = [each for each in found if each.info.start_time >= start and _may_be_of(each, run)]
    its, pause = [], PAUSE + 2 * _longest_pause(attempt.run, began)
    for each in since:
        if each.info.start_time >= min(cut, end + pause + 1):
            break
        by_project = "mlflow.project.entryPoint" in each.data.tags
        if each.data.tags.get("mlflow.user") in users and (by_project or _program(each) in programs):
            its.append(each)
            end = max(end, each.info.end_time or end)
    left = [each for each in since if each not in its and (not began or _program(each) in programs)]
    first = [each for each in left if each.info.start_time < cut]
    needed = max(0, len(began) - len(its))
    shared = already or cut < end or len(its) + len(first[:needed]) < len(began)
    return its + first[:needed], [each for each in left if each not in first] if shared else [], first[needed:]


def _kin(run: Run, found: list[Run]) -> set[str]:
    """The ids of a run, of those above it and of those below it, as far as they are among what was found."""
    parents = {each.info.run_id: each.data.tags.get("mlflow.parentRunId", "") for each in [*found, run]}
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


def _is_of_mlflow_run(run: Run) -> bool:
    """Whether `mlflow run` began a run; one that a script called on its own clone counts as begun by the script."""
    tags = run.data.tags
    return "mlflow.project.entryPoint" in tags and not TEMPORARY.match(tags.get("mlflow.source.name", ""))


def _may_be_of(each: Run, run: Run) -> bool:
    """Whether a run has what all those have that a script of `run` began and that lie below none."""
    tags, its, repository = each.data.tags, run.data.tags, "mlflow.source.git.repoURL"
    if "mlflow.parentRunId" in tags or _is_of_mlflow_run(each):
        return False
    same = tags.get(repository, its.get(repository)) == its.get(repository)  # clients of MLflow 2 do not record it
    return "mlflow.project.entryPoint" in tags or (same and tags.get(MARK) == its.get(MARK))


def _program(run: Run) -> str:
    tags = run.data.tags
    return tags.get("mlflow.project.entryPoint") or TEMPORARY.sub("", tags.get("mlflow.source.name", ""))
