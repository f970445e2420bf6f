"""When two values of two runs are the same: equal, within the tolerance, or of their own by nature."""

from __future__ import annotations

import fnmatch
import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from content import Picture, Unseen

IGNORE = "*_seconds,*_time,*duration*,system/*"
TEMPORARY = re.compile(r"(file://)?(/[^\s/'\":;,=()<>]+)*/tmp[a-z0-9_]{8}(?=$|[/#\s'\":;,()\]}])")
OURS = re.compile(
    r"/git_project_[a-z0-9_]{8}(?![a-z0-9_])"
)  # within the folder for temporary files: `temporary_folder`
ID = re.compile(r"(?<![0-9a-zA-Z])(m-)?[0-9a-f]{8,32}(?![0-9a-zA-Z])")  # also shortened, as in a name
TIME = re.compile(
    r"(?<![0-9a-zA-Z])(?:"
    r"\d{4}-?\d\d-?\d\d(?:[T _-]\d\d[:-]?\d\d(?:[:-]?\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|[A-Z]\w\w [A-Z]\w\w [ \d]\d \d\d:\d\d:\d\d \d{4}|1\d{9}(?:\d{3}|\.\d+)?"
    r")(?![0-9a-zA-Z])"
)
MACHINE = re.compile(r"(^|[^a-z])(host|hostname|node|machine|computer)([^a-z]|$)", re.IGNORECASE)
DURATION = re.compile(
    r"(^|[^a-z])(secs?|seconds?|ms|msec|millis\w*|minutes?|hours?|time|times|elapsed|latency|speed|took|wall|runtime|"
    r"\w*duration\w*|throughput|per_sec\w*|fps)([^a-z]|$)",
    re.IGNORECASE,
)
MARGIN = 5.0  # seconds before and after a run in which its own clock may have been read
TIMES = "times at which the runs were made"


@dataclass(frozen=True)
class Own:
    """What no other run can have: when it ran, its ids and the folder that its files lay in."""

    start: float  # seconds since 1970
    end: float
    ids: Mapping[str, str] = field(default_factory=dict)  # each leads to a word that its counterpart's id leads to
    folder: str = ""  # the user's, from which the run was started

    def general(self, text: str, rules: set[str]) -> str:
        """A text without what is the run's own; `rules` takes up the names of what was found."""
        said = TEMPORARY.sub("<clone>", OURS.sub("", text.replace(self.folder, "<clone>") if self.folder else text))
        known = ID.sub(lambda found: self._known(found[0]), said)
        timeless = TIME.sub(lambda found: "<time>" if self.was_at(found[0]) else found[0], known)
        rules |= {"paths inside the clone or a temporary folder"} if said != text else set()
        rules |= {"ids of the runs and their models"} if known != said else set()
        rules |= {TIMES} if timeless != known else set()
        return timeless

    def _known(self, word: str) -> str:
        """The word for an id or the start of one; any other text as it is."""
        if word in self.ids:
            return self.ids[word]
        return next((f"{known} shortened" for each, known in self.ids.items() if each.startswith(word)), word)

    def was_at(self, moment: str | float) -> bool:
        """Whether a time, as text or in seconds or milliseconds since 1970, is one at which the run was at work."""
        early, late = self.start - MARGIN, self.end + MARGIN
        if isinstance(moment, str):
            if not re.fullmatch(r"1[\d.]{9,}", moment):
                return _overlaps(moment, early, late)
            moment = float(moment)
        return early <= moment <= late or early * 1000 <= moment <= late * 1000


def _overlaps(text: str, early: float, late: float) -> bool:
    """Whether a written time lies between two, in the zone that it names, else here or in UTC; a day does by a part."""
    zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text) if len(text) > 14 else None
    digits = re.sub(r"\D", "", text[: zone.start()] if zone else text)[:14]
    try:
        if text[:1].isalpha():
            moment = datetime.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")
        else:
            moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return False
    span = {8: 86400, 10: 3600, 12: 60}.get(len(digits), 1)
    here = datetime.fromtimestamp(early).astimezone().tzinfo
    zones = [datetime.strptime(zone[0], "%z").tzinfo] if zone else [UTC, here]
    starts = [moment.replace(tzinfo=each).timestamp() for each in zones]
    return any(start <= late and start + span >= early for start in starts)


@dataclass
class Sameness:
    """Compares values of an original with those of the run that was made again."""

    original: Own
    again: Own
    rtol: float = 0.0  # relative tolerance for numbers; with this and `atol` 0 they must be equal
    atol: float = 0.0
    ignore: tuple[str, ...] = tuple(IGNORE.split(","))  # names of metrics, parameters, artifacts, and keys within them
    rules: set[str] = field(default_factory=set)  # takes up what was taken as the same although it is not equal
    # Of the last two values that were compared:
    unseen: set[str] = field(default_factory=set)  # the kinds of objects that nobody can look into
    ignored: set[str] = field(default_factory=set)  # columns and keys that were left out
    where: tuple[str, ...] = ()  # the keys that lead to the first difference
    what: tuple[Any, Any] | None = None  # both its sides; None where there is none

    def is_ignored(self, name: str) -> bool:
        """Whether a name is one of those that are not compared; scikit-learn's `refit_time_` is `refit_time`."""
        return any(fnmatch.fnmatchcase(each, like) for like in self.ignore for each in (name, name.rstrip("_")))

    def alike(self, one: Any, other: Any, name: str = "") -> bool:
        """Whether two values, as `content.plain` gives them, are the same. `name`: what they are the value of."""
        self.unseen, self.ignored, self.where, self.what = set(), set(), (), None
        return self._alike(one, other, name, ())

    def _alike(self, one: Any, other: Any, name: str, where: tuple[str, ...]) -> bool:
        same = self._same(one, other, name, where)
        if not same and self.what is None:
            self.where, self.what = where, (one, other)
        return same

    def _same(self, one: Any, other: Any, name: str, where: tuple[str, ...]) -> bool:
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            return self._arrays(one, other)
        one, other = (each.tolist() if isinstance(each, np.ndarray) else each for each in (one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            one, other = self._without_own(one, self.original), self._without_own(other, self.again)
            return one.keys() == other.keys() and all(
                self._alike(each, other[key], key, (*where, key)) for key, each in one.items()
            )
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(
                self._alike(*each, name, (*where, f"[{at}]")) for at, each in enumerate(zip(one, other, strict=True))
            )
        if isinstance(one, bool) or isinstance(other, bool):
            return one is other
        if isinstance(one, float | int) and isinstance(other, float | int):
            return self._numbers(one, other)
        if isinstance(one, str) and isinstance(other, str):
            return one == other or self._texts(one, other, name)
        if isinstance(one, Unseen) and one == other:
            self.unseen.add(one.what)
            return True
        if isinstance(one, Picture) and isinstance(other, Picture):
            self.unseen |= {"drawn otherwise, of the same kind and size"} if one.drawn != other.drawn else set()
            return (one.kind, one.size) == (other.kind, other.size)
        return bool(type(one) is type(other) and one == other)

    def _numbers(self, one: float, other: float) -> bool:
        if one == other or (one != one and other != other):  # NaN is NaN
            return True
        # Without a tolerance whole numbers are compared as such: as floats, those beyond 2**53 are too coarse.
        if (self.rtol or self.atol) and math.isclose(one, other, rel_tol=self.rtol, abs_tol=self.atol):
            return True
        times = self.original.was_at(one) and self.again.was_at(other)
        self.rules |= {TIMES} if times else set()
        return times

    def _arrays(self, one: Any, other: Any) -> bool:
        if one.shape != other.shape:
            return False
        equal = (one == other) | ((one != one) & (other != other))
        if self.rtol or self.atol:
            equal |= np.isclose(one, other, rtol=self.rtol, atol=self.atol)
        return bool(equal.all())

    def _texts(self, one: str, other: str, name: str) -> bool:
        if other == platform.node() and MACHINE.search(name):
            self.rules.add("the name of the machine")
            return True
        rules: set[str] = set()
        same = self.original.general(one, rules) == self.again.general(other, rules)
        self.rules |= rules if same else set()
        return same

    def _without_own(self, mapping: dict[str, Any], own: Own) -> dict[str, Any]:
        """A mapping without what is ignored, its keys without what is the run's own; equal ones are counted."""
        found: dict[str, Any] = {}
        for key, value in mapping.items():
            if self.is_ignored(key):
                self.ignored.add(key)
                continue
            name = general = own.general(key, self.rules)
            count = 1
            while name in found:
                count += 1
                name = f"{general} ({count})"
            found[name] = value
        return found


def looks_like_a_duration(name: str) -> bool:
    """Whether the name of what differs says that it is a time or a speed, which no two runs share."""
    said = re.sub(r"<\w+>", "", name).replace("_", " ")  # <time> is what was the same
    return bool(DURATION.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", said)))
