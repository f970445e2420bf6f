# Copied by `make vendor` from support/evidence.py of the collection: edit that, or this in your own copy.
"""What all values of a column say together, gathered a batch at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from support.written import EXACT, POINT, POWER, WAYS, WHOLE, Shape, as_text, fits, quick_numbers, shape_of

# What stands for "no value" in a file. Narrower than pandas' own list, in which the category "None" is missing.
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
MOST_CATEGORIES = 100_000
FEW_ROWS = 20  # in fewer, nothing is told by all values being different
LONG = 8  # digits of an account number
IDENTIFIER_WORDS = {
    "id",
    "ids",
    "uuid",
    "guid",
    "key",
    "account",
    "number",
    "nr",
    "no",
    "code",
    "phone",
    "serial",
    "ref",
}


@dataclass
class Seen:
    """How many values of a shape there were, and the first with its row."""

    count: int
    row: int
    text: str


class Batch:
    """Some cells of a column, as texts without outer spaces.

    written, plain: the texts as they are written (None where the file has types) and without outer spaces; each once
    where the cells are coded by a dictionary. absent: which of them are missing.
    present: those that are not. size: how many cells these are.
    """

    def __init__(self, cells: pa.Array, missing: pa.Array) -> None:
        self._codes: np.ndarray | None = None
        counts = None
        if pa.types.is_dictionary(cells.type):
            self._codes = cells.indices.fill_null(len(cells.dictionary)).to_numpy(zero_copy_only=False)
            counts = np.bincount(self._codes, minlength=len(cells.dictionary) + 1)[:-1]
            cells = cells.dictionary
        self.written = cells if pa.types.is_string(cells.type) else None
        self.values = quick_numbers(cells) if counts is None and len(missing) == len(MISSING) else None
        if self.values is not None:
            self.plain = self.present = self.written = cells
            self.absent, self._counts, self.size, self.all_different = None, None, len(cells), True
            return
        self.plain = as_text(cells)
        self.absent = pc.or_(pc.is_in(self.plain, missing), pc.is_null(self.plain))
        if counts is not None:
            self.absent = pc.or_(self.absent, pa.array(counts == 0))
        some = bool(pc.any(self.absent).as_py())
        self.present = self.plain.filter(pc.invert(self.absent)) if some else self.plain
        self._counts = None if counts is None else counts[~np.asarray(self.absent)] if some else counts
        self.size = len(self.present) if self._counts is None else int(self._counts.sum())
        self.all_different = self._counts is None or self.size == len(self.present)

    def counted(self) -> Iterator[tuple[str, int]]:
        """Texts that are not missing, and how often each occurs; in order of appearance."""
        if self._counts is not None:
            yield from zip(self.present.to_pylist(), self._counts.tolist(), strict=True)
            return
        counted = pc.value_counts(self.present)
        yield from zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)

    def index(self, text: str) -> int:
        """Where a text occurs first."""
        position = pc.index(self.plain, text).as_py()
        return position if self._codes is None else int(np.argmax(self._codes == position))


class Column:
    """What all values of a column say together: gathered a batch at a time, in bounded memory."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        self.missing = pa.array([*MISSING, *missing], pa.string())
        self.rows = 0
        self.present = 0
        self.shapes: dict[Shape, Seen] = {}
        self.texts: dict[str, int] = {}  # how often each occurs
        self.many = False  # more different texts than `MOST_CATEGORIES`
        self.unread = False  # some batches were numbers only, and their texts are not in `texts`
        self.type = ""  # "date", "time", "nested", "bytes" or "category", where the file has types
        self.whole: list[np.ndarray] | None = []  # the whole numbers, as long as no two are the same
        self.least, self.most = math.inf, -math.inf
        self.compact_dates = True  # all are like 20240131
        self.others: set[str] = set()  # the first four texts that are no numbers
        self.spaced = ""  # the first value with outer spaces, where not all have them alike
        self.bare = False

    def add(self, cells: pa.Array, first_row: int, *, typed: str = "", again: bool = False) -> None:
        """Take a batch of cells into account.

        typed: "category" or "nested" where the file says so. again: the second time, for texts that were not counted.
        """
        kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
        if not again:
            self.rows += len(cells)
        of_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        if typed == "nested" or pa.types.is_nested(kind) or of_bytes:
            self._unreadable(cells, first_row, "bytes" if of_bytes else "nested")
            return
        if pa.types.is_temporal(kind):
            self.type = "time" if pa.types.is_time(kind) or pa.types.is_duration(kind) else "date"
        self.type = self.type or typed
        batch = Batch(cells, self.missing)
        if not again:
            self.present += batch.size
        if not batch.size:
            return
        self._note_spaces(batch)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if not again and self.type != "category" and self._add_numbers(batch, first_row, typed=number):
            return
        self._add_texts(batch, first_row, count_shapes=not again)

    def _note_spaces(self, batch: Batch) -> None:
        """Remember a value with outer spaces, and whether there are others without."""
        if (self.spaced and self.bare) or batch.written is None:
            return
        if batch.values is not None:
            self.bare = True
            return
        if pc.sum(pc.binary_length(batch.written)) == pc.sum(pc.binary_length(batch.plain)):
            self.bare = True
            return
        spaced = pc.fill_null(pc.not_equal(batch.written, batch.plain), False)
        self.bare = self.bare or not pc.all(pc.or_(spaced, batch.absent)).as_py()
        self.spaced = self.spaced or batch.written[pc.index(spaced, True).as_py()].as_py()

    def _unreadable(self, cells: pa.Array, first_row: int, what: str) -> None:
        filled = cells.drop_null()
        if len(filled) and self.type != what:
            row = first_row + int(np.argmax(cells.is_valid().to_numpy(zero_copy_only=False)))
            self.type, self.shapes = what, {Shape(): Seen(1, row, str(filled[0])[:40])}
        self.present += len(filled)

    def _add_numbers(self, batch: Batch, first_row: int, *, typed: bool) -> bool:
        """Count plain numbers without a look at each text; False where some are none, or could mean something else."""
        present = batch.present
        values = quick_numbers(present) if batch.values is None else batch.values
        if values is None:
            return False
        zeros = pc.and_(pc.starts_with(present, "0"), pc.greater(pc.binary_length(present), 1))
        if pc.any(pc.match_substring_regex(present.filter(zeros), "^0[0-9]")).as_py():
            return False
        wholes = values == np.floor(values)
        powers = present.filter(pa.array(wholes))
        powers = powers.filter(pc.match_substring(powers, "E"))
        if pc.any(pc.match_substring_regex(powers, POWER.pattern.join("^$"))).as_py():
            return False
        whole = bool(wholes.all())
        if whole and np.abs(values).max() >= EXACT:  # a float cannot tell the next number from it
            return False
        shape, first = POINT, present[0]
        if POINT not in self.shapes:
            points = pc.match_substring(present, ".")
            if not pc.any(points).as_py():
                shape = WHOLE
            elif not typed:  # 1.234 may be a number of thousands
                grouped = pc.match_substring_regex(present, r"^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+$")
                proof = pc.index(pc.and_not(points, grouped), True).as_py()
                if proof < 0:
                    return False
                first = present[proof]
        self._add_whole(values, whole, all_different=batch.all_different)
        self._count(shape, batch.size, first_row, first.as_py())
        self.unread = True
        return True

    def _add_whole(self, values: np.ndarray, whole: bool, *, all_different: bool) -> None:
        """Remember whole numbers for as long as they may be an identifier."""
        self.least, self.most = min(self.least, values.min()), max(self.most, values.max())
        self.compact_dates = self.compact_dates and whole
        if self.compact_dates:
            month, day = values // 100 % 100, values % 100
            valid = (
                (values >= 19000101) & (values <= 21001231) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
            )
            self.compact_dates = bool(valid.all())
        if self.whole is not None:
            once = whole and all_different and len(np.unique(values)) == len(values)
            self.whole = [*self.whole, values] if once else None

    def _add_texts(self, batch: Batch, first_row: int, *, count_shapes: bool) -> None:
        found: dict[Shape, tuple[int, str]] = {}
        for text, count in batch.counted():
            if not self.many:
                self.texts[text] = self.texts.get(text, 0) + count
            if count_shapes:
                shape = shape_of(text)
                before, first = found.get(shape, (0, text))
                found[shape] = (before + count, first)
                if not shape.ways and len(self.others) < 4:
                    self.others.add(text)
        self.many = self.many or len(self.texts) > MOST_CATEGORIES
        if count_shapes:
            self.whole, self.compact_dates = None, False
            for shape, (count, text) in found.items():
                row = first_row if shape in self.shapes else first_row + batch.index(text)
                self._count(shape, count, row, text)

    def _count(self, shape: Shape, count: int, row: int, text: str) -> None:
        if shape in self.shapes:
            self.shapes[shape].count += count
        else:
            self.shapes[shape] = Seen(count, row, text)

    @property
    def distinct(self) -> int:
        return len(self.texts)

    def numbers(self) -> int:
        """How many values are numbers, in whatever way."""
        return sum(seen.count for shape, seen in self.shapes.items() if shape.ways)

    def fit(self, way: tuple[str, str]) -> int:
        """How many values are numbers if they are written in a way: with its decimal mark and its thousands."""
        return sum(seen.count for shape, seen in self.shapes.items() if fits(shape, way))

    def only(self, ways: list[tuple[str, str]]) -> bool:
        """Whether all values are numbers, and only so in some of the ways."""
        others = [way for way in WAYS if way not in ways]
        return max(map(self.fit, ways)) == self.present > max(map(self.fit, others))

    def constant(self) -> bool:
        """Whether all values are the same."""
        if self.unread:
            return not self.texts and self.least == self.most and abs(self.least) < EXACT
        return self.distinct == 1 and not self.many

    def merge(self, other: Column) -> None:
        """Add what other rows of the column say."""
        self.rows, self.present = self.rows + other.rows, self.present + other.present
        for shape, seen in other.shapes.items():
            self._count(shape, seen.count, seen.row, seen.text)
        for text, count in other.texts.items():
            self.texts[text] = self.texts.get(text, 0) + count
        self.many = self.many or other.many or len(self.texts) > MOST_CATEGORIES
        self.unread, self.type = self.unread or other.unread, self.type or other.type
        self.whole = None if self.whole is None or other.whole is None else self.whole + other.whole
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.compact_dates = self.compact_dates and other.compact_dates
        self.others = set(sorted(self.others | other.others)[:4])
        self.spaced, self.bare = self.spaced or other.spaced, self.bare or other.bare

    def identifies(self, name: str) -> str:
        """The reason why whole numbers name the rows; empty where they do not."""
        if not self.whole or self.present < FEW_ROWS:
            return ""
        values = np.concatenate(self.whole)
        if len(np.unique(values)) < len(values):
            return ""
        n, least, most = len(values), int(self.least), int(self.most)
        span = most - least + 1
        if span == n and least in (0, 1):
            return f"looks like an identifier (it counts the rows from {least})"
        log_chance = math.lgamma(span + 1) - math.lgamma(span - n + 1) - n * math.log(span)
        if n >= 50 and log_chance < math.log(1e-6):
            return f"looks like an identifier ({n:,} whole numbers from {least} to {most}, no two the same)"
        if least > 0 and len(str(least)) == len(str(most)) >= LONG:
            return f"looks like an identifier ({n:,} different numbers of {len(str(most))} digits)"
        words = set(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower().replace("_", " ").replace("-", " ").split())
        if words & IDENTIFIER_WORDS:
            return f"looks like an identifier ({n:,} different whole numbers, and its name)"
        return ""
