"""Compare what two runs recorded, and the runs below them, one by one: pure, from plain data."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from content import Picture, content, digest
from sameness import Sameness

ABSENT = "(absent)"
# These may explain a difference; a run is reproduced without them being the same.
ENVIRONMENT = ("requirement", "python")
Item = TypeVar("Item")


@dataclass(frozen=True)
class RecordedModel:
    """A model that a run logged.

    inside: the digest of each file of the model that holds what was learned (not MLmodel and requirements).
    requirements: the version of each package that it is pinned to; `python` as well.
    folder: a local copy.
    """

    name: str
    uri: str
    signature: dict[str, Any] | None = None
    has_example: bool = False
    inside: dict[str, str] = field(default_factory=dict)
    requirements: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class Recorded:
    """What a run recorded.

    start, end: seconds since 1970.
    datasets: the name, context and digest of each; a run may have several of one name.
    metrics: for each the steps and values of its history, by step.
    artifacts: where each file of the run lies, by its path in the run.
    below: the runs below it, the first started first.
    """

    run_id: str
    name: str
    status: str = "FINISHED"
    commit: str = ""
    entry_point: str = ""
    start: float = 0.0
    end: float = 0.0
    parameters: dict[str, str] = field(default_factory=dict)
    datasets: list[tuple[str, str, str]] = field(default_factory=list)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    models: list[RecordedModel] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    below: list[Recorded] = field(default_factory=list)

    def tree(self) -> Iterator[Recorded]:
        """The run and all below it."""
        yield self
        for run in self.below:
            yield from run.tree()


@dataclass(frozen=True)
class Row:
    """One thing that was compared, or could not be.

    run: the path of run names below the run in question, which is the empty one.
    same: None where it was not compared, and `why` says why.
    """

    run: str
    kind: str
    name: str
    original: str
    again: str
    same: bool | None
    why: str = ""


@dataclass(frozen=True)
class Answers:
    """What two models predict on one example, and what they hold: a pair each; None and a reason where unknown."""

    predictions: tuple[Any, Any] | None = None
    fitted: tuple[Any, Any] | None = None
    why: str = ""


Ask = Callable[[RecordedModel, RecordedModel], Answers]


def compare(original: Recorded, again: Recorded, rules: Sameness, ask: Ask, replaced: Iterable[str] = ()) -> list[Row]:
    """All that is compared of two runs and of the runs below them.

    rules: what counts as the same; what was taken as the same by rule is found there afterwards.
    ask: what two models predict and hold.
    replaced: parameters of the upper run that were given another value on purpose.
    """
    couples = list(_couples(original, again, rules, ""))
    ids: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for number, (_, one, other) in enumerate(couples):
        if one and other:
            ids[0][one.run_id] = ids[1][other.run_id] = f"<run {number}>"
            for count, pair in enumerate(_models(one, other)):
                for known, model in zip(ids, pair, strict=True):
                    if model:
                        known[model.uri.rpartition("/")[2]] = f"<model {number}.{count}>"
    rules.original, rules.again = replace(rules.original, ids=ids[0]), replace(rules.again, ids=ids[1])
    rows: list[Row] = []
    for path, one, other in couples:
        rows.append(_whether_there(path, one, other))
        if one and other:
            rows += _of_two(path, one, other, rules, ask, set() if path else set(replaced))
    return rows


def _couples(
    one: Recorded, other: Recorded, rules: Sameness, path: str
) -> Iterator[tuple[str, Recorded | None, Recorded | None]]:
    yield path, one, other
    for first, second in pair_runs(one.below, other.below, rules):
        name = (first or second or one).name
        below = f"{path}/{name}".strip("/")
        if first and second:
            yield from _couples(first, second, rules, below)
        else:
            yield below, first, second


def pair_runs(
    ones: Sequence[Recorded], others: Sequence[Recorded], rules: Sameness
) -> list[tuple[Recorded | None, Recorded | None]]:
    """Which run stands for which: by equal parameters first, then by name, then by time.

    Where the parameters do not tell them apart, the name does, and where names are made by chance, the results.
    """
    last = {id(run): run.start for run in (*ones, *others)}
    mine = {id(run) for run in ones}

    def parameters(run: Recorded) -> Hashable:
        own = rules.original if id(run) in mine else rules.again
        own = replace(own, ids={run.run_id: "<run>"})
        known = {
            name: own.general(value, set()) for name, value in run.parameters.items() if not rules.is_ignored(name)
        }
        return (run.entry_point, *sorted(known.items()))

    def metrics(run: Recorded) -> Hashable:
        return tuple(
            sorted((name, *map(repr, seen)) for name, seen in run.metrics.items() if not rules.is_ignored(name))
        )

    keys: list[Callable[[Recorded], Hashable]] = [
        lambda run: (parameters(run), run.name, metrics(run)),
        lambda run: (parameters(run), run.name),
        lambda run: (parameters(run), metrics(run)),
        lambda run: parameters(run) if run.parameters else ("no parameters", id(run)),
        lambda run: run.name,
        lambda run: "whatever is left",
    ]
    return pair_up(sorted(ones, key=lambda run: last[id(run)]), sorted(others, key=lambda run: last[id(run)]), keys)


def pair_up(
    ones: Sequence[Item], others: Sequence[Item], keys: Sequence[Callable[[Item], Hashable]]
) -> list[tuple[Item | None, Item | None]]:
    """Pair what has an equal key, by the first key first, in the order in which they stand; the rest stays alone."""
    matched: dict[int, int] = {}
    for key in keys:
        free: dict[Hashable, list[int]] = {}
        for number, other in enumerate(others):
            if number not in matched.values():
                free.setdefault(key(other), []).append(number)
        for number, one in enumerate(ones):
            if number not in matched and free.get(key(one)):
                matched[number] = free[key(one)].pop(0)
    taken = set(matched.values())
    pairs: list[tuple[Item | None, Item | None]] = [
        (one, others[matched[number]] if number in matched else None) for number, one in enumerate(ones)
    ]
    return pairs + [(None, other) for number, other in enumerate(others) if number not in taken]


def _models(one: Recorded, other: Recorded) -> list[tuple[RecordedModel | None, RecordedModel | None]]:
    return pair_up(
        one.models,
        other.models,
        [lambda model: (model.name, tuple(sorted(model.inside.items()))), lambda model: model.name],
    )


def _whether_there(path: str, one: Recorded | None, other: Recorded | None) -> Row:
    status, now = (run.status if run else ABSENT for run in (one, other))
    return Row(path, "run", "status", status, now, status == now)


def _of_two(path: str, one: Recorded, other: Recorded, rules: Sameness, ask: Ask, replaced: set[str]) -> Iterator[Row]:
    if one.commit or other.commit:
        yield Row(path, "commit", "commit", one.commit or ABSENT, other.commit or ABSENT, one.commit == other.commit)
    for name in dict.fromkeys([*one.parameters, *other.parameters]):
        value, now = one.parameters.get(name, ABSENT), other.parameters.get(name, ABSENT)
        if name in replaced:
            yield Row(path, "parameter", name, value, now, None, "another value was given on purpose")
        else:
            yield _row(path, "parameter", name, value, now, rules)
    yield from _datasets(path, one, other)
    for name in sorted({*one.metrics, *other.metrics}):
        yield _metric(path, name, one.metrics.get(name), other.metrics.get(name), rules)
    for first, second in _models(one, other):
        if first and second:
            yield from _model(path, first, second, rules, ask)
        else:
            there = ["there" if model else ABSENT for model in (first, second)]
            yield Row(path, "model", (first or second).name, there[0], there[1], False)  # type: ignore[union-attr]
    yield from _artifacts(path, one, other, rules)


def _row(path: str, kind: str, name: str, one: Any, other: Any, rules: Sameness) -> Row:
    """Two values of one name, as texts that are read by people."""
    if rules.is_ignored(name):
        return Row(path, kind, name, _shown(one), _shown(other), None, "ignored")
    rules.unseen.clear()
    rules.ignored.clear()
    same: bool | None = rules.alike(one, other, name)
    why = "; ".join(sorted(rules.unseen)) if same else ""
    if same and not why and rules.ignored:
        return Row(path, kind, name, _shown(one), _shown(other), True, f"without {', '.join(sorted(rules.ignored))}")
    if rules.what:  # the place of the first difference, and what is there
        place = f"{' '.join(rules.where[-3:])}: " if rules.where else ""
        first, second = (_short(place + _shown(each)) for each in rules.what)
        return Row(path, kind, name, first, second, False)
    return Row(path, kind, name, _shown(one), _shown(other), None if why else same, why)


def _datasets(path: str, one: Recorded, other: Recorded) -> Iterator[Row]:
    pairs = pair_up(one.datasets, other.datasets, [lambda each: each, lambda each: each[:2], lambda each: each[0]])
    for first, second in pairs:
        name = " ".join((first or second or ("",))[:2]).strip()
        digests = [each[2] if each else ABSENT for each in (first, second)]
        yield Row(path, "dataset", name, digests[0], digests[1], first == second)


def _metric(
    path: str, name: str, one: list[tuple[int, float]] | None, other: list[tuple[int, float]] | None, rules: Sameness
) -> Row:
    """The values and steps of a metric; by the last value where it differs, else by the history."""
    shown = [_history(each) for each in (one, other)]
    if one and other and len(one) == len(other) and shown[0] == shown[1]:
        shown = [" ".join(f"{step}:{value!r}" for step, value in each) for each in (one, other)]
    row = _row(path, "metric", name, _points(one), _points(other), rules)
    return replace(row, original=_short(shown[0]), again=_short(shown[1]))


def _points(history: list[tuple[int, float]] | None) -> Any:
    """A history by step; values of one step have no order that two runs of threads would share."""
    return history and [list(point) for point in sorted(history, key=lambda point: (point[0], repr(point[1])))]


def _history(history: list[tuple[int, float]] | None) -> str:
    if not history:
        return ABSENT
    last = repr(history[-1][1])
    return last if len(history) == 1 else f"{last} after {len(history)} values"


def _model(path: str, one: RecordedModel, other: RecordedModel, rules: Sameness, ask: Ask) -> Iterator[Row]:
    name = one.name
    if rules.is_ignored(name):
        yield Row(path, "model", name, one.uri, other.uri, None, "ignored")
        return
    if one.signature or other.signature:
        yield _row(path, "signature", name, one.signature, other.signature, rules)
    identical = bool(one.inside) and one.inside == other.inside
    answers = ask(one, other) if one.has_example or not identical else Answers()
    if answers.predictions:
        yield _row(path, "prediction", name, *answers.predictions, rules)
    elif one.has_example:
        yield Row(path, "prediction", name, "", "", None, answers.why or "it could not predict")
    if identical:
        yield Row(path, "model", name, "its files", "the same files", True)
    elif answers.fitted:
        yield _row(path, "model", name, *answers.fitted, rules)
    else:
        yield Row(
            path, "model", name, "", "", None, f"its files differ, and {answers.why or 'what it holds is unknown'}"
        )
    for package in sorted({*one.requirements, *other.requirements}):
        version, now = one.requirements.get(package, ABSENT), other.requirements.get(package, ABSENT)
        yield Row(path, "python" if package == "python" else "requirement", package, version, now, version == now)


def _artifacts(path: str, one: Recorded, other: Recorded, rules: Sameness) -> Iterator[Row]:
    ones, others = (
        [(own.general(name, set()), file, digest(file)) for name, file in run.artifacts.items()]
        for own, run in ((rules.original, one), (rules.again, other))
    )
    for first, second in pair_up(ones, others, [lambda each: (each[0], each[2]), lambda each: each[0]]):
        name = (first or second or ("",))[0]
        if rules.is_ignored(name):
            yield Row(path, "artifact", name, "", "", None, "ignored")
        elif first is None or second is None:
            there = ["there" if each else ABSENT for each in (first, second)]
            yield Row(path, "artifact", name, there[0], there[1], False)
        elif first[2] == second[2]:
            yield Row(path, "artifact", name, "the file", "the same file", True)
        else:
            contents = [content(each[1]) for each in (first, second)]
            row = _row(path, "artifact", name, contents[0], contents[1], rules)
            yield replace(row, kind="picture") if isinstance(contents[0], Picture) else row


def _shown(value: Any) -> str:
    return _short(" ".join(str(value).split()))


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
