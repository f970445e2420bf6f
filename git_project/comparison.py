"""Compare what two runs recorded, and the runs below them, one by one: pure, from plain data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from content import Picture, content, digest
from recorded import Answers, Recorded, RecordedModel
from sameness import Own, Sameness

ABSENT = "(absent)"
RUN_ID = re.compile(r"[0-9a-f]{32}")  # of whichever run: which ones stand for each other is not known yet
# In the name of a file: a UUID, as `log_image` gives it; machine and process, as TensorBoard does.
CHANCE = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])|(?<=\.tfevents\.).*")
# These may explain a difference; a run is reproduced without them being the same.
ENVIRONMENT = ("requirement", "python")
Item = TypeVar("Item")
Key = Callable[[Item], Hashable]
Pairs = list[tuple[Item | None, Item | None]]
Ask = Callable[[RecordedModel, RecordedModel], Answers]


@dataclass(frozen=True)
class Row:
    """One thing that was compared, or could not be."""

    kind: str
    name: str
    original: str
    again: str
    same: bool | None  # None where it was not compared
    why: str = ""  # ... or only in part
    place: str = ""  # the key or column within it where it differs first
    run: str = ""  # the path of run names below the run in question, which is the empty one


def compare(
    original: Recorded, again: Recorded, rules: Sameness, ask: Ask, replaced: Collection[str] = ()
) -> list[Row]:
    """All that is compared of two runs and of the runs below them.

    rules: what counts as the same; what was taken as the same by rule is found there afterwards.
    ask: what two models predict and hold.
    replaced: parameters of the upper run that were given another value on purpose.
    """
    rows: list[Row] = []
    for path, one, other in _couples(original, again, rules, ""):
        status, now = (run.status if run else ABSENT for run in (one, other))
        rows.append(Row("run", "status", status, now, status == now, run=path))
        if one and other:
            rows += [replace(row, run=path) for row in _of_two(one, other, rules, ask, () if path else replaced)]
    return rows


def know_ids(original: Recorded, again: Recorded, rules: Sameness) -> None:
    """Let the ids of two runs, of the runs below them and of their models be the same where they stand for each other.

    Of a run that lies below another, these are the upper ones: it may name its parent, or a step before it.
    """
    ids: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for number, (_, one, other) in enumerate(_couples(original, again, rules, "")):
        if one and other:
            ids[0][one.run_id] = ids[1][other.run_id] = f"<run {number}>"
            for count, pair in enumerate(_models(one, other)):
                for known, model in zip(ids, pair, strict=True):
                    if model:
                        known[model.uri.rpartition("/")[2]] = f"<model {number}.{count}>"
    rules.original, rules.again = replace(rules.original, ids=ids[0]), replace(rules.again, ids=ids[1])


def _couples(
    one: Recorded, other: Recorded, rules: Sameness, path: str
) -> Iterator[tuple[str, Recorded | None, Recorded | None]]:
    yield path, one, other
    for first, second in pair_runs(one.below, other.below, rules):
        below = f"{path}/{(first or second or one).name}".strip("/")
        if first and second:
            yield from _couples(first, second, rules, below)
        else:
            yield below, first, second


def parameters_of(run: Recorded, own: Own, rules: Sameness) -> Hashable:
    """By what a run was made: its entry point and parameters, without what is its own or ignored."""
    own = replace(own, ids={})
    given = {name: RUN_ID.sub("<run>", value) for name, value in run.parameters.items() if not rules.is_ignored(name)}
    return (run.entry_point, *sorted((name, own.general(value, set())) for name, value in given.items()))


def pair_runs(ones: Sequence[Recorded], others: Sequence[Recorded], rules: Sameness) -> Pairs[Recorded]:
    """Which run stands for which: by equal parameters first, then by name, then by time.

    Where the parameters do not tell them apart, the name does, and where names are made by chance, the results.
    """
    parameters = {id(run): parameters_of(run, rules.original, rules) for run in ones}
    parameters |= {id(run): parameters_of(run, rules.again, rules) for run in others}
    metrics = {
        id(run): tuple(sorted((name, repr(seen)) for name, seen in run.metrics.items() if not rules.is_ignored(name)))
        for run in (*ones, *others)
    }
    keys: list[Key[Recorded]] = [
        lambda run: (parameters[id(run)], run.name, metrics[id(run)]),
        lambda run: (parameters[id(run)], run.name),
        lambda run: (parameters[id(run)], metrics[id(run)]),
        lambda run: parameters[id(run)] if run.parameters else id(run),
        lambda run: run.name,
        lambda run: "whatever is left",
    ]
    ones, others = (sorted(runs, key=lambda run: run.start) for runs in (ones, others))
    return pair_up(ones, others, keys)


def pair_up(ones: Sequence[Item], others: Sequence[Item], keys: Sequence[Key[Item]]) -> Pairs[Item]:
    """Pair what has an equal key, by the first key first, in the order in which they stand; the rest stays alone."""
    left, found = dict(enumerate(others)), dict[int, Item]()
    for key in keys:
        free: dict[Hashable, list[int]] = defaultdict(list)
        for at, other in left.items():
            free[key(other)].append(at)
        for at, one in enumerate(ones):
            if at not in found and (equal := free[key(one)]):
                found[at] = left.pop(equal.pop(0))
    return [*((one, found.get(at)) for at, one in enumerate(ones)), *((None, other) for other in left.values())]


def _models(one: Recorded, other: Recorded) -> Pairs[RecordedModel]:
    keys: list[Key[RecordedModel]] = [lambda each: (each.name, *sorted(each.inside.items())), lambda each: each.name]
    return pair_up(one.models, other.models, keys)


def _of_two(one: Recorded, other: Recorded, rules: Sameness, ask: Ask, replaced: Collection[str]) -> Iterator[Row]:
    if one.commit or other.commit:
        yield Row("commit", "commit", one.commit or ABSENT, other.commit or ABSENT, one.commit == other.commit)
    for name in dict.fromkeys([*one.parameters, *other.parameters]):
        row = _row("parameter", name, [run.parameters.get(name) for run in (one, other)], rules)
        given = name in replaced
        yield replace(row, same=None, why="another value was given on purpose") if given else row
    keys: list[Key[tuple[str, str, str]]] = [lambda each: each, lambda each: each[:2], lambda each: each[0]]
    for first, second in pair_up(one.datasets, other.datasets, keys):
        name = " ".join((first or second or ("",))[:2]).strip()
        digests = [each[2] if each else ABSENT for each in (first, second)]
        yield Row("dataset", name, digests[0], digests[1], first == second)
    for name in sorted({*one.metrics, *other.metrics}):
        yield _row("metric", name, [_history(run.metrics.get(name, [])) for run in (one, other)], rules)
    for model, again in _models(one, other):
        if model and again and not rules.is_ignored(model.name):
            yield from _model(model, again, rules, ask)
        else:
            yield _row("model", (model or again).name, _there(model, again), rules)  # type: ignore[union-attr]
    yield from _artifacts(one, other, rules)


def _row(kind: str, name: str, both: Sequence[Any], rules: Sameness) -> Row:
    """Two values of one name, None for one that is absent, as texts that are read by people."""
    if rules.is_ignored(name):  # nor shown, so that a report holds nothing that the next one cannot have
        return Row(kind, name, "", "", None, "ignored")
    if rules.alike(both[0], both[1], name):
        unseen, without = "; ".join(sorted(rules.unseen)), ", ".join(sorted(rules.ignored))
        why = unseen or (f"without {without}" if without else "")
        first, second = ("", "") if why else map(_short, both)
        return Row(kind, name, first, second, None if unseen else True, why)
    place = f"{' '.join(rules.where[-3:])}: " if rules.where else ""
    absent = ABSENT if not place else None
    first, second = (_short(f"{place}{absent if each is None else each}") for each in rules.what or both)
    keys = [key for key in rules.where if not key.startswith("[")]
    return Row(kind, name, first, second, False, place=keys[-1] if keys else "")


def _there(*both: Any) -> list[str]:
    return ["there" if each else ABSENT for each in both]


def _history(seen: Sequence[tuple[int, float]]) -> Any:
    """The values of a metric by step; the value alone where it has one, at step 0; None where there is none."""
    if len(seen) < 2 and all(step == 0 for step, _ in seen):
        return seen[0][1] if seen else None
    found: dict[str, list[float]] = defaultdict(list)
    for step, value in sorted(seen, key=lambda each: (each[0], repr(each[1]))):
        # Values of one step have no order that two runs of threads would share.
        found[f"step {step}"].append(value)
    return dict(found)


def _model(one: RecordedModel, other: RecordedModel, rules: Sameness, ask: Ask) -> Iterator[Row]:
    name = one.name
    if (one.folder is None) != (other.folder is None):  # begun, and never finished
        yield _row("model", name, _there(one.folder, other.folder), rules)
        return
    for kind, value, now in (("signature", one.signature, other.signature), ("setting", one.config, other.config)):
        if value or now:
            yield _row(kind, name, (value, now), rules)
    identical = bool(one.inside) and one.inside == other.inside
    answers = ask(one, other) if one.has_example or not identical else Answers()
    if answers.predictions:
        yield _row("prediction", name, answers.predictions, rules)
    elif one.has_example:
        yield Row("prediction", name, "", "", None, answers.why or "it could not predict")
    if identical:
        yield Row("model", name, "its files", "the same files", True)
    elif answers.fitted:
        yield _row("model", name, answers.fitted, rules)
    else:
        why = f"its files differ, and {answers.why or 'what it holds is unknown'}"
        yield Row("model", name, "", "", None, why)
    for package in sorted({*one.requirements, *other.requirements}):
        version, now = (model.requirements.get(package, ABSENT) for model in (one, other))
        yield Row("python" if package == "python" else "requirement", package, version, now, version == now)


def _artifacts(one: Recorded, other: Recorded, rules: Sameness) -> Iterator[Row]:
    ones, others = (
        [(own.general(name, set()), file, digest(file)) for name, file in run.artifacts.items()]
        for own, run in ((rules.original, one), (rules.again, other))
    )
    keys: list[Key[tuple[str, Path, str]]] = [lambda each: (each[0], each[2]), lambda each: each[0]]
    keys += [lambda each: (CHANCE.sub("<any>", each[0]), each[2]), lambda each: CHANCE.sub("<any>", each[0])]
    for first, second in pair_up(ones, others, keys):
        name = (first or second or ("",))[0]
        if first and second and name != second[0]:
            name = CHANCE.sub("<any>", name)
            rules.rules.add("the names that MLflow and TensorBoard give to files by chance")
        if first is None or second is None or rules.is_ignored(name):
            yield _row("artifact", name, _there(first, second), rules)
        elif first[2] == second[2]:
            yield Row("artifact", name, "the file", "the same file", True)
        else:
            contents = [content(each[1]) for each in (first, second)]
            row = _row("artifact", name, contents, rules)
            yield replace(row, kind="picture") if isinstance(contents[0], Picture) else row


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
