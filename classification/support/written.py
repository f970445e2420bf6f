# Copied by `make vendor` from support/written.py of the collection: edit that, or this in your own copy.
"""How a value is written: as a number, in one way or another, as a date, as true or false, or as a text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXACT = 2**53  # whole numbers above it are rounded by a float
SPACE = r"[ \u00a0\u2007\u2009\u202f]"
MINUS = r"[+\-\u2212\u2013]"  # or plus; those of typesetters
CURRENCY = (
    r"(?:[A-Z]{1,2}\$|[$£¥￥¤元円원\u20a0-\u20cf]|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR"
    r"|TRY|kr|zł|Kč|Rs\.?)"
)
MARKS = {",": ",", ".": r"\.", "'": "['’]", " ": SPACE}
WAYS = [(".", ""), (".", ","), (".", " "), (".", "'"), (",", ""), (",", "."), (",", " "), (",", "'")]


class Shape(NamedTuple):
    """How a text is written.

    ways: those of `WAYS` in which it is a number.
    special: `code`, `sign` ((5) or 5.00- for -5), `power` (1E3, perhaps a code), `date`, `time` or `boolean`.
    """

    ways: frozenset[tuple[str, str]] = frozenset()
    currency: str = ""
    percent: bool = False
    special: str = ""


_WAY = re.compile(
    rf"(?P<open>\()?(?P<sign>{MINUS})?(?P<before>{CURRENCY})?{SPACE}?(?P<inner>{MINUS})?"
    rf"(?P<digits>[0-9][0-9.,'’ \u00a0\u2007\u2009\u202f]*|[.,][0-9]+)(?P<power>[eE][+-]?[0-9]+)?"
    rf"{SPACE}?(?P<percent>%)?(?P<after>{CURRENCY})?(?P<close>\))?(?P<behind>-)?"
)


def _digits(decimal: str, thousands: str) -> str:
    """A pattern for the digits of a number with its marks."""
    point, mark = MARKS[decimal], MARKS.get(thousands)
    if not mark:
        return rf"[0-9]+{point}?[0-9]*|{point}[0-9]+"
    return rf"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{2,3}})*{mark}[0-9]{{3}}(?:{point}[0-9]*)?"


BEHIND = r"[0-9.,'’ \u00a0\u2007\u2009\u202f]*[.,][0-9]{2}-"  # a minus behind an amount, as SAP writes it
POWER = re.compile("[0-9]+E[0-9]+")
_DIGITS = {way: re.compile(_digits(*way)) for way in WAYS}
WHOLE = Shape(frozenset({(".", ""), (",", "")}))
POINT = Shape(frozenset({(".", "")}))
BOOLEAN = Shape(special="boolean")
TEXT = Shape()
_DIGIT = re.compile("[0-9]")
_MONTHS = """jan january januar janv janvier ene enero gennaio janeiro feb february februar fév févr février febrero
febbraio fev fevereiro mar march mär mrz märz mars marzo março apr april avr avril abr abril aprile may mai mayo
maggio maio jun
june juni juin junio giugno junho jul july juli juil juillet julio luglio julho aug august août ago agosto sep sept
september septembre septiembre settembre setembro oct october okt oktober octobre octubre ottobre outubro nov november
novembre noviembre novembro dec december dez dezember déc décembre dic diciembre dicembre dezembro maart mei
stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia января февраля
марта апреля мая июня июля августа сентября октября ноября декабря"""
_MONTH = rf"(?:{'|'.join(sorted(_MONTHS.split(), key=len, reverse=True))})\.?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
_CLOCK = (
    r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?"
    r"(?: ?(?:Z|(?:UTC|GMT)(?:[+-][0-9]{1,2})?|[A-Z]{2,4}T|[A-Z][a-z]+/[A-Za-z_/]+|[+-][0-9]{2}:?[0-9]{2}))?"
    r"(?:\[[A-Za-z_/]+\])?"
)
_TIME = rf"(?:[T :]+{_CLOCK})?"
_YEAR = r"(?:1[89]|20|21)[0-9]{2}"
_DATES = [
    re.compile(rf"{_YEAR}([-/.])(?:0?[1-9]|1[0-2])(?:\1(?:0?[1-9]|[12][0-9]|3[01]))?{_TIME}"),
    re.compile(rf"[0-9]{{4}}([-/.])(?:0?[0-9]|1[0-2])\1(?:[0-2]?[0-9]|3[01]){_TIME}"),  # 0000-00-00, 9999-12-31
    re.compile(rf"{_YEAR}[01][0-9][0-3][0-9]T[0-9]{{4,6}}Z?|{_YEAR}年[0-9]{{1,2}}月(?:[0-9]{{1,2}}日)?{_TIME}"),
    re.compile(rf"(?:0?[1-9]|1[0-2])[-/]{_YEAR}"),
    re.compile(rf"(?:0?[1-9]|[12][0-9]|3[01])([-/.])(?:0?[1-9]|[12][0-9]|3[01])\1(?:[0-9]{{4}}|[0-9]{{2}}){_TIME}"),
    re.compile(
        rf"{_WEEKDAY}[0-9]{{1,2}}(?:er|st|nd|rd|th|\.)?[- ]?(?:de )?{_MONTH}[-, ]*(?:de )?"
        rf"[0-9]{{2}}(?:[0-9]{{2}})?{_TIME}",
        re.IGNORECASE,
    ),
    re.compile(rf"{_YEAR}[- ]?[QT][1-4]|{_YEAR}-?W[0-9]{{2}}(?:-[1-7])?"),
]
_TIME_OF_DAY = re.compile(
    r"(?:[0-9]+ days?,? )?(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
)
_DATE_OF_WORDS = re.compile(
    rf"{_WEEKDAY}{_MONTH}[- ](?:[0-9]{{1,2}}(?:st|nd|rd|th)?,? )?[0-9]{{4}}{_TIME}"
    rf"|{_DATES[5].pattern}|Q[1-4][- ]?{_YEAR}",
    re.IGNORECASE,
)


def shape_of(text: str) -> Shape:
    """How a text is written."""
    if not _DIGIT.search(text):  # most texts
        return BOOLEAN if text.lower() in ("true", "false") else TEXT
    first = text[0]
    if first not in "([+-\u2212\u2013.,0123456789" and first.isalpha() and not re.match(CURRENCY, text):
        return Shape(special="date") if _DATE_OF_WORDS.fullmatch(text) else TEXT
    if first in "0123456789":
        if any(pattern.fullmatch(text) for pattern in _DATES):
            return Shape(special="date")
        if ":" in text and _TIME_OF_DAY.fullmatch(text):
            return Shape(special="time")
    match = _WAY.fullmatch(text)
    if match is None or bool(match["open"]) != bool(match["close"]) or (match["before"] and match["after"]):
        return Shape()
    if sum(map(bool, match.group("open", "sign", "inner", "behind"))) > 1:
        return Shape()
    if match["behind"] and not re.fullmatch(BEHIND, text):
        return Shape()  # a mark in a school, and no number
    digits = match["digits"].strip()
    ways = frozenset(way for way, pattern in _DIGITS.items() if pattern.fullmatch(digits))
    if not ways:
        return Shape()
    currency, percent = match["before"] or match["after"] or "", bool(match["percent"])
    special = "sign" if match["open"] or match["behind"] or set("\u2212\u2013") & set(text) else ""
    special = "power" if POWER.fullmatch(text) else special
    code = digits.isdigit() and not match["power"] and ((digits[0] == "0" and len(digits) > 1) or int(digits) > EXACT)
    return Shape(ways, currency, percent, "code" if code else special)


def quick_numbers(texts: pa.Array) -> np.ndarray | None:
    """Texts as finite numbers, if all are plainly written; None where one is not, or is missing."""
    if not pa.types.is_string(texts.type) or texts.null_count or not len(texts):
        return None
    try:
        for text in (texts[0].as_py(), texts[len(texts) // 2].as_py()):
            float(text)  # arrow takes its time to refuse texts
        if not pc.min(pc.binary_length(texts)).as_py():
            return None
        values = pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    except (ValueError, pa.ArrowInvalid):
        return None
    return values if np.isfinite(values).all() else None


def fits(shape: Shape, way: tuple[str, str]) -> bool:
    """Whether a text of a shape is a number in a way: its decimal mark, with or without its thousands."""
    return way in shape.ways or (way[0], "") in shape.ways


def as_text(cells: pa.Array) -> pa.Array:
    """Cells as text without outer spaces: whole numbers without a point, dates as ISO."""
    kind = cells.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        cells, kind = cells.cast(pa.string()), pa.string()
    if pa.types.is_string(kind):
        return pc.utf8_trim_whitespace(cells)
    if pa.types.is_decimal(kind) and kind.scale > 0:
        exact = cells.cast(pa.string())
        if not pc.any(pc.match_substring(exact, "E")).as_py():  # 0E-9
            return pc.utf8_rtrim(pc.utf8_rtrim(exact, "0"), ".")
        cells = cells.cast(pa.float64())
    if pa.types.is_floating(cells.type):
        plain = cells.cast(pa.string())
        values = cells.to_numpy(zero_copy_only=False).astype("float64", copy=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < EXACT)
        if not whole.any():
            return plain
        integers = pa.array(np.where(whole, values, 0).astype("int64")).cast(pa.string())
        return pc.if_else(pa.array(whole), integers, plain)
    return cells.cast(pa.string())


def to_floats(cells: pa.Array, kind: Any) -> np.ndarray:
    """Numbers from texts, NaN where a text is missing (null) or is no number that is written as the kind says.

    cells: texts without outer spaces.
    kind: has `decimal`, `thousands`, `currency` and `percent`.
    """
    plain = not (kind.percent or kind.currency or kind.thousands or kind.decimal != ".")
    if plain and (present := quick_numbers(cells.drop_null())) is not None:
        values = np.full(len(cells), np.nan)
        values[cells.is_valid().to_numpy(zero_copy_only=False)] = present
        return values
    coded = cells.dictionary_encode()
    values = np.append(np.asarray(_to_floats(coded.dictionary, kind).to_numpy(zero_copy_only=False)), np.nan)
    return values[coded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)]


def _to_floats(texts: pa.Array, kind: Any) -> pa.Array:
    digits = "|".join(_digits(kind.decimal, thousands) for thousands in {kind.thousands, ""})
    currency = f"(?:{re.escape(kind.currency)})?" if kind.currency else ""
    size = rf"(?:{digits})(?:[eE][+-]?[0-9]+)?{SPACE}?{'%' if kind.percent else ''}{currency}"
    front = f"{currency}{SPACE}?"
    # A minus behind, of amounts only.
    behind = rf"[0-9](?:{MARKS.get(kind.thousands, '[0-9]')}?[0-9])*{MARKS[kind.decimal]}[0-9]{{2}}-"
    number = rf"^(?:{MINUS}?{front}{size}|{front}{MINUS}{size}|\({front}{size}\)|{behind})$"
    right = pc.match_substring_regex(texts, _re2(number))
    plain = pc.if_else(right, texts, pa.scalar(None, pa.string()))
    negative = pc.fill_null(pc.or_(pc.starts_with(plain, "("), pc.ends_with(plain, "-")), False)
    for mark in ("[%()]|-$", SPACE, re.escape(kind.currency), MARKS.get(kind.thousands)):
        if mark:
            plain = pc.replace_substring_regex(plain, _re2(mark), "")
    plain = pc.replace_substring_regex(plain, _re2(r"[\u2212\u2013]"), "-")
    plain = pc.replace_substring(plain, kind.decimal, ".")
    plain = pc.if_else(negative, pc.binary_join_element_wise("-", plain, ""), plain)
    return pc.cast(plain, pa.float64())


def _re2(pattern: str) -> str:
    """A pattern for arrow's regular expressions, which write a character's number in another way."""
    return re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", pattern)
