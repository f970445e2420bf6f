# Copied by `make vendor` from support/kinds.py of the collection: edit that, or this in your own copy.
"""Decide what each column of a table is, once, from all its values, by one rule.

A value is read as text, without outer spaces. Missing are "", NA, N/A, NaN, nan, null, NULL, and what the user says
(`missing_values`). The kind of a column is the first of these that holds:

empty       no value.
date        a type of dates or times, or texts of which at least 95 % are dates, or times of day.
category    codes: whole numbers of which one begins with 0 (00042) or is above 2**53, which a number would round.
boolean     true and false, in any case.
number      all are numbers, written in one way: decimal point or comma, thousands, one currency, percent, and (5) or
            5.00- for -5. Whole numbers that are all different are an identifier instead if they count the rows, if
            chance does not explain that they all differ (below one in a million, in so narrow a range), if all have
            the same eight digits or more, or if the column's name says so (id, account, number, ...).
(refused)   nearly all are numbers: at least 95 %, or at least half beside up to three texts such as "?".
constant    one value, and none is missing.
identifier  texts that are all different, in 20 rows or more.
text        more than half of the values are different, in 20 rows or more, or more than 100,000 are.
category    all else.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from operator import itemgetter
from typing import Any

import pyarrow as pa

from support.evidence import FEW_ROWS, MOST_CATEGORIES, Column, Seen
from support.names import look, pick_names, split_list
from support.table import OpenedTable, bad
from support.texts import short, shown
from support.written import POINT, WAYS, WHOLE, Shape, fits, shape_of, to_floats

NEARLY_ALL = 0.95
UNIT = re.compile(r"[+\-\u2212]?[0-9][0-9.,]*( ?(?:°? ?[A-Za-zµμ]{1,3}[/²³]?[a-z]{0,3}|[°\u2030]))")
QUOTED = re.compile("=?[\"'\u2018-\u201e«](.*)[\"'\u2018-\u201e»]")
UNKNOWN = ("?", "-", "--", ".", "\\N", "n/a", "na", "<NA>", "#N/A")  # as some write "no value"
KINDS = ("number", "decimal_point", "decimal_comma", "category", "caseless", "boolean", "date", "text", "identifier")


@dataclass(frozen=True)
class Kind:
    """What a column is.

    kind: number, category, boolean, date, text, identifier, constant or empty.
    reason: why a column is none to learn from; follows its name in a sentence.
    decimal, thousands, currency, percent: how its numbers are written; " " is any space, "'" any apostrophe.
    spelling: for a column whose categories differ in more than case: the spelling of each, by its lower case.
    missing: texts that stand for "no value" beside `MISSING`.
    """

    kind: str
    reason: str = ""
    decimal: str = "."
    thousands: str = ""
    currency: str = ""
    percent: bool = False
    spelling: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def learnable(self) -> bool:
        return self.kind in ("number", "category", "boolean")


def to_metadata(kinds: dict[str, Kind]) -> dict[str, dict[str, Any]]:
    """The decision as JSON for the metadata of a model: for each column what differs from the defaults."""
    plain = asdict(Kind(""))
    return {
        name: {key: value for key, value in asdict(kind).items() if value != plain[key] and key != "reason"}
        for name, kind in kinds.items()
    }


def from_metadata(stored: dict[str, dict[str, Any]]) -> dict[str, Kind]:
    """What `to_metadata` made of a decision."""
    return {name: Kind(**{**values, "missing": tuple(values.get("missing", ()))}) for name, values in stored.items()}


def decide(
    table: OpenedTable,
    kinds: str = "",
    missing_values: str = "",
    *,
    drop: Iterable[str] = (),
    names: Iterable[str] | None = None,
    asked: Iterable[str] = (),
) -> dict[str, Kind]:
    """Decide what the columns of a table are; what was left out, converted or guessed is added to `table.notes`.

    table: read once in batches; a second time where a column held numbers only, and then texts.
    kinds: what the user knows better, "salary:number, zip:category", or a JSON object; a word of `KINDS`. `caseless` is
    a category in which case does not count.
    missing_values: texts that stand for "no value" beside `MISSING`, comma-separated or a JSON list.
    drop: columns to leave alone.
    names: the columns to decide on; None for all.
    asked: columns that the user gave a part by name: it is not said that they are left out.

    Raises click.BadParameter for a column that cannot be read, with the first value that is wrong and its row.
    """
    dropped = set(drop)
    wanted = [name for name in (table.names if names is None else names) if name not in dropped]
    labels = [name for name in table.row_names if name not in asked]
    evidence = Evidence(wanted, missing_values, kinds, table.names, labels)
    row = 1
    for batch in table.batches(columns=list(evidence.columns), keep=True):
        evidence.add(batch, row)
        row += len(batch)
    if again := evidence.incomplete():
        for batch in table.batches(columns=again):
            evidence.add(batch, 1, again=True)
    decided = evidence.decide(table.separator)
    table.notes += evidence.notes(decided, set(asked))
    return {name: decided[name] for name in wanted}


class Evidence:
    """What is known of the columns of a table. Evidence of several parts of a table adds up (`merge`).

    The arguments as in `decide`. have: the names of all columns. labels: those that name the rows.

    Raises click.BadParameter for a wrong name or kind.
    """

    def __init__(
        self, names: Iterable[str], missing_values: str, kinds: str, have: list[str], labels: Iterable[str] = ()
    ) -> None:
        self.missing = tuple(split_list("missing_values", missing_values))
        self.overruled = parse_kinds(kinds, have)
        self.guessed = False  # whether 1.234 may be a thousand
        wanted = list(names)
        self.labels = [name for name in labels if name in wanted and name not in self.overruled]
        self.columns = {name: Column(self.missing) for name in wanted if name not in self.labels}

    def add(self, batch: pa.Table, first_row: int, *, again: bool = False) -> None:
        """Take a batch into account; again: the second time, for the texts of its columns."""
        for name in batch.column_names:
            row = first_row
            typed = (batch.schema.field(name).metadata or {}).get(b"written", b"").decode()
            for chunk in batch[name].chunks:
                self.columns[name].add(chunk, row, typed=typed if typed in ("category", "nested") else "", again=again)
                row += len(chunk)

    def merge(self, other: Evidence) -> None:
        """Add the evidence of other rows of the same table."""
        for name, column in other.columns.items():
            self.columns[name].merge(column)

    def without_rows(self, names: list[str]) -> Evidence:
        """The same for some of the columns, before any row was seen."""
        empty = Evidence(names, json.dumps(list(self.missing)), "", [])
        empty.overruled = self.overruled
        return empty

    def forget_rows(self) -> None:
        """Take back in which rows values stand, where nobody knows."""
        for column in self.columns.values():
            for seen in column.shapes.values():
                seen.row = 0

    def incomplete(self) -> list[str]:
        """The columns to read a second time: some batches were numbers only, and others were not."""
        names = []
        for name, column in self.columns.items():
            if column.unread and (self.overruled.get(name) == "caseless" or self.number(column, "")[1]):
                column.texts, column.many, column.unread = {}, False, False
                names.append(name)
        return names

    def hint(self, separator: str) -> str:
        """Which decimal mark the file has where a column does not say: see `Column.best_way`."""
        commas = any(column.only(WAYS[4:]) for column in self.columns.values())
        points = any(column.only(WAYS[:4]) for column in self.columns.values())
        return "," if commas and not points else ";" if separator == ";" and not points else ""

    def decide(self, separator: str = ",") -> dict[str, Kind]:
        """The kind of each column. Raises click.BadParameter for one that cannot be read."""
        hint = self.hint(separator)
        self.guessed = hint == ";"
        decided = {name: self._kind(name, column, hint) for name, column in self.columns.items()}
        if len(decided) > 1 and all(name.strip() in column.texts for name, column in self.columns.items()):
            again = "stands among the rows: the header comes again. Delete that line."
            raise bad("data", ", ".join(self.columns), again)
        return decided | {name: Kind("identifier", "holds the names of the rows") for name in self.labels}

    def _kind(self, name: str, column: Column, hint: str) -> Kind:
        said = self.overruled.get(name, "")
        if column.type in ("nested", "bytes"):
            seen = column.shapes[Shape()]
            what = "bytes (a picture, say)" if column.type == "bytes" else "a list or an object"
            cure = f"give -P drop={name}, or make columns of it first (pandas.json_normalize)."
            raise bad("data", seen.text, f"in column {name!r}{_row(seen)}, is {what}: {cure}")
        if said in ("number", "decimal_point", "decimal_comma"):
            kind, wrong = self.number(column, hint, said)
            if wrong:
                raise bad("kinds", f"{name}:{said}", f"cannot be: {short(wrong.text)}{_row(wrong)} is no such number.")
            return kind
        if said == "caseless":
            return Kind("category", spelling=spelling(column.texts), missing=self.missing)
        if said:
            return Kind(said, f"is {said}, as `kinds` says", missing=self.missing)
        return replace(self._decide(name, column, hint), missing=self.missing)

    def _decide(self, name: str, column: Column, hint: str) -> Kind:
        special = {
            word: sum(seen.count for shape, seen in column.shapes.items() if shape.special == word)
            for word in ("code", "date", "time", "boolean")
        }
        if not column.present:
            return Kind("empty", "is empty")
        if column.constant() and column.present == column.rows:
            text = next(iter(column.shapes.values())).text
            return Kind("constant", f"is constant ({short(text)})")
        if (
            column.type == "date"
            or (column.compact_dates and column.most > 0)
            or special["date"] >= NEARLY_ALL * column.present
        ):
            return Kind("date", "holds dates")
        if column.type == "time" or special["time"] >= NEARLY_ALL * column.present:
            return Kind("date", "holds times")
        if column.type == "category":
            return Kind("category")
        if special["boolean"] == column.present:
            return Kind("boolean")
        if not special["code"]:
            kind, wrong = self.number(column, hint)
            if wrong is None:
                reason = column.identifies(name)
                return Kind("identifier", reason) if reason else kind
            self._refuse_nearly(name, column, wrong)
        texts = list(islice(column.texts, 200))
        if texts and all(map(_is_disguised, texts)):
            _refuse_disguised(name, column.shapes[Shape()])
        n = column.present
        if column.rows >= FEW_ROWS and (column.many or column.distinct > n / 2):
            times = f"more than {MOST_CATEGORIES:,}" if column.many else f"{column.distinct:,}"
            text = short(next(iter(column.texts)), 20)
            if column.distinct == n and not column.many:
                return Kind("identifier", f"looks like an identifier ({text}, ...: {n:,} texts and no two the same)")
            return Kind("text", f"looks like an identifier or free text ({text}, ...: {times} different ones in {n:,})")
        return Kind("category")

    def number(self, column: Column, hint: str, said: str = "number") -> tuple[Kind, Seen | None]:
        """How the numbers of a column are written, and the first value that is no such number."""
        numbers = [(shape, seen) for shape, seen in column.shapes.items() if shape.ways]
        currencies: dict[str, int] = {}
        for shape, seen in numbers:
            if shape.currency:
                currencies[shape.currency] = currencies.get(shape.currency, 0) + seen.count
        currency = max(currencies, key=currencies.__getitem__, default="")
        percent = 2 * sum(seen.count for shape, seen in numbers if shape.percent) > column.numbers()
        ways = {"decimal_point": WAYS[:4], "decimal_comma": WAYS[4:]}.get(said) or order(hint)
        way = max(ways, key=column.fit)  # the first of the best
        wrong = [
            seen
            for shape, seen in column.shapes.items()
            if not fits(shape, way) or shape.currency not in ("", currency) or shape.percent != percent
        ]
        kind = Kind("number", "", way[0], way[1], currency, percent, missing=self.missing)
        return kind, min(wrong, key=lambda seen: seen.row, default=None)

    def _refuse_nearly(self, name: str, column: Column, wrong: Seen) -> None:
        """Refuse a column that is numbers but for a few values; return where it is something else."""
        numbers, n = column.numbers(), column.present
        different = MOST_CATEGORIES if column.many else column.distinct - len(column.others)
        few_others = len(column.others) <= 3 and different > 8
        if numbers < NEARLY_ALL * n and not (few_others and 2 * numbers >= n):
            return
        where = f"in column {name!r}{_row(wrong)},"
        keep = f"-P kinds={named(name, 'category')} to take them as categories."
        if shape_of(wrong.text).ways:
            raise bad("data", wrong.text, f"{where} is a number written in another way than most: give {keep}")
        _refuse_disguised(name, wrong)
        if wrong.text == name:
            raise bad("data", wrong.text, f"{where} is the column's name: the header comes again. Delete that line.")
        others = [wrong.text, *sorted(column.others - {wrong.text})] if len(column.others) <= 3 else [wrong.text]
        missing = json.dumps(others, ensure_ascii=False) if "," in "".join(others) else ",".join(others)
        cure = f"give -P missing_values='{missing}' if it stands for a missing value, or {keep}"
        if wrong.row == 1 and wrong.text.isalpha():
            cure = f"delete what stands above that row if it is the header, {cure}"
        elif wrong.row == 1 and numbers == n - 1 and any(letter.isalpha() for letter in wrong.text):
            cure = f"delete that row if it holds units, {cure}"
        elif wrong.row == column.rows:
            cure = f"delete that row if it holds totals or a source, {cure}"
        raise bad("data", wrong.text, f"{where} is no number, as {numbers:,} of {n:,} values are: {cure}")

    def notes(self, kinds: dict[str, Kind], asked: set[str]) -> list[str]:
        """A sentence for each column that is left out, converted or guessed; one for all with numbers alike."""
        said = [(name, "holds the names of the rows: left out") for name in self.labels]
        numbers: dict[tuple[str, ...], dict[str, tuple[str, str, str]]] = {}  # by how they are written
        for name, column in self.columns.items():
            kind = kinds[name]
            if name not in asked and kind.kind in ("category", "identifier", "text") and (unit := _unit(column)):
                text = short(next(iter(column.texts)))
                said.append((name, f"holds numbers with a unit ({text}): delete {unit!r} to learn from numbers"))
            if not kind.learnable:
                if name not in asked:
                    said.append((name, f"{kind.reason}: left out{self._cure(name, kind)}"))
            elif kind.kind == "number":
                if found := self._number_note(name, column, kind):
                    text, _, guess = found
                    way = (kind.decimal, re.sub(r"\d+", "0", text.lstrip("+-")), guess.rpartition(" reads ")[2])
                    numbers.setdefault(way, {})[name] = found
            elif kind.kind == "category" and name not in self.overruled:
                said += [(name, note) for note in self._category_notes(name, column)]
            if kind.learnable and column.spaced and column.bare:
                said.append((name, f"holds {short(column.spaced)}: outer spaces do not count"))
        return _columns_alike(said) + [_numbers_alike(notes) for notes in numbers.values()]

    def _cure(self, name: str, kind: Kind) -> str:
        """How to keep a column that is left out."""
        if name in self.overruled or kind.kind not in ("identifier", "text", "date"):
            return ""
        word = "number" if kind.kind == "identifier" and self.columns[name].whole else "category"
        return f" (kinds={named(name, word)} keeps it)"

    def _number_note(self, name: str, column: Column, kind: Kind) -> tuple[str, str, str] | None:
        """A number that is written in an uncommon way, its value, and what is a guess in it; None for common ones."""
        odd = [
            (shape.special != "power", seen.text)
            for shape, seen in column.shapes.items()
            if shape not in (WHOLE, POINT)
        ]
        written = [text for _, text in sorted(odd, key=itemgetter(0))]
        if not written:
            return None
        text, value = written[0], to_floats(pa.array(written[:1]), kind)[0]
        other, ways = ("decimal_point", WAYS[:4]) if kind.decimal == "," else ("decimal_comma", WAYS[4:])
        ambiguous = max(map(column.fit, ways)) == column.present and bool(set(text) & set(",."))
        if text == str(value) and not (ambiguous and self.guessed):  # 1.234, as most write it
            return None
        if name not in self.overruled and any(shape.special == "power" for shape in column.shapes):
            return text, shown(value), f"kinds={named(name, 'category')} reads codes"
        guess = f"kinds={named(name, other)} reads it the other way" if ambiguous and name not in self.overruled else ""
        return text, shown(value), guess

    def _category_notes(self, name: str, column: Column) -> list[str]:
        said = []
        first = {shape: seen for shape, seen in column.shapes.items() if shape.special == "code"}
        if first:
            said.append("codes ({}{}): they are categories, not numbers")
        elif column.numbers() and column.type != "category":
            first = {shape: seen for shape, seen in column.shapes.items() if not shape.ways}
            said.append("numbers and texts ({}{}): they are categories")
        seen = min(first.values(), key=lambda seen: seen.row, default=Seen(0, 0, ""))
        said = [f"holds {text.format(short(seen.text), _row(seen))}" for text in said]
        if unknown := [mark for mark in UNKNOWN if mark in column.texts]:
            mark = unknown[0]
            said.append(f"holds {mark!r}, a category of its own (missing_values='{mark}' reads it as missing)")
        if column.texts and all(map(QUOTED.fullmatch, column.texts)):
            said.append(f"holds texts in quotes ({short(next(iter(column.texts)))}), which are part of them")
        alike: dict[str, list[str]] = {}
        looks: dict[str, list[str]] = {}
        for text in column.texts if column.distinct <= 1000 else ():
            alike.setdefault(text.casefold(), []).append(text)
            looks.setdefault(look(text), []).append(text)
        for texts in looks.values():
            if len(texts) > 1:
                listed = " and ".join(map(ascii, texts[:2]))
                said.append(f"holds {listed}, which look alike: they are two categories")
        for texts in alike.values():
            if len(texts) > 1:
                cure = f"kinds={named(name, 'caseless')} makes them one"
                said.append(f"holds {', '.join(map(short, texts))}, which differ in case only: {cure}")
        return said


def parse_kinds(kinds: str, have: list[str]) -> dict[str, str]:
    """The parameter `kinds` as {column: word}. Raises click.BadParameter for a wrong name or word."""
    if kinds.lstrip().startswith("{"):
        try:
            pairs = list(json.loads(kinds).items())
        except json.JSONDecodeError as error:
            raise bad("kinds", kinds, f"is malformed JSON: {error.msg}.") from None
    else:
        pairs = [text.rpartition(":")[::2] for text in split_list("kinds", kinds)]
    given = {}
    for name, word in pairs:
        [column] = pick_names("kinds", [name], have)
        given[column] = str(word).strip()
        if given[column] not in KINDS:
            raise bad("kinds", word, f"is no kind for column {name!r}: {', '.join(KINDS)}.")
    return given


def tidied(text: str) -> str:
    """A text without quotes around it and characters that nobody sees, and with the digits 0 to 9."""
    digits = "".join(str(unicodedata.decimal(letter, letter)) for letter in look(text))
    quoted = QUOTED.fullmatch(digits)
    return quoted[1].strip() if quoted else digits


def _is_disguised(text: str) -> bool:
    """Whether a text is a number, no code, in quotes or with characters that nobody sees or digits of a script."""
    plain = shape_of(tidied(text) or "-")
    return bool(plain.ways) and plain.special != "code" and not shape_of(text).ways


def _refuse_disguised(name: str, seen: Seen) -> None:
    """Refuse a text that is such a number; return where it is none."""
    if _is_disguised(seen.text):
        what = "is a number with quotes, hidden characters or the digits of another script"
        keep = f"give -P kinds={named(name, 'category')} to take them as categories."
        raise bad("data", seen.text, f"in column {name!r}{_row(seen)}, {what}: write {tidied(seen.text)}, or {keep}")


def _columns_alike(said: list[tuple[str, str]]) -> list[str]:
    """Sentences on columns, from their names and what is said of them; one where it is the same of more than five."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, note in said:
        own = rf"'.*?'|\".*?\"|\d[\d,]*|(?<=kinds=){re.escape(name)}(?=[:) ])"
        groups.setdefault(re.sub(own, "", note), []).append((name, note))
    sentences = []
    for group in groups.values():
        shown_apart = group if len(group) <= 5 else group[:1]
        sentences += [f"Column {name!r} {note}." for name, note in shown_apart]
        if len(group) > 5:
            others = ", ".join(repr(name) for name, _ in group[1:])
            sentences[-1] += f" Likewise, each with values of its own: {others}."
    return sentences


def _numbers_alike(notes: dict[str, tuple[str, str, str]]) -> str:
    """One sentence on columns whose numbers are written alike, with the first as the example."""
    text, value, guess = next(iter(notes.values()))
    columns = ", ".join(map(repr, notes))
    said = f"Column {columns} holds numbers: {text!r} is {value}"
    if len(notes) > 1:
        said = f"{len(notes)} columns hold numbers like {text!r}, which is {value}: {columns}"
    return f"{said} (a guess: {guess})." if guess else f"{said}."


def _unit(column: Column) -> str:
    """What stands behind the number in all texts of a column; empty where it is not the same everywhere."""
    unit = ""
    for text in column.texts:
        match = UNIT.fullmatch(text)
        if match is None or (unit and match[1] != unit):
            return ""
        unit = match[1]
    return unit


def _row(seen: Seen) -> str:
    """Where a value stands; on Spark rows have no number."""
    return f", row {seen.row}" if seen.row else ""


def named(name: str, word: str) -> str:
    """How a user gives a kind on the command line."""
    return json.dumps({name: word}) if set(name) & set(",: '\"") else f"{name}:{word}"


def spelling(texts: dict[str, int]) -> dict[str, str]:
    """For each text in lower case, its most frequent spelling."""
    best: dict[str, str] = {}
    for text in sorted(texts, key=lambda text: (-texts[text], text)):
        best.setdefault(text.casefold(), text)
    return best


def order(hint: str) -> list[tuple[str, str]]:
    """The ways of writing numbers, the likelier first.

    hint: "," where other columns of the file have the decimal comma, ";" where that is the separator, else "".
    """
    if hint == ",":
        return [*WAYS[4:], *WAYS[:4]]
    return [WAYS[0], WAYS[4], *WAYS[1:4], *WAYS[5:]] if hint == ";" else WAYS
