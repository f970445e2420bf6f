# Copied by `make vendor` from support/quotes.py of the collection: edit that, or this in your own copy.
"""Quotes in delimited text that do not mean what they say: a stray one swallows the rows up to the next."""

from __future__ import annotations

import csv
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from support.evidence import MISSING
from support.texts import short
from support.written import shape_of

CHUNK = 1 << 20  # bytes that are looked at together


def has_odd_quotes(path: Path, separator: str) -> bool:
    """Whether a file has a line with an odd number of quotes, or a quote with text on both sides; fast."""
    edge = np.zeros(256, dtype=bool)
    edge[list(f'{separator}\r\n"'.encode())] = True
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK) + file.readline():
            bytes_ = np.frombuffer(chunk, dtype=np.uint8)
            quotes, ends = np.flatnonzero(bytes_ == ord('"')), np.flatnonzero(bytes_ == ord("\n"))
            if len(quotes) % 2 or (np.searchsorted(quotes, ends) % 2).any():
                return True
            inner = quotes[(quotes > 0) & (quotes < len(chunk) - 1)]
            if not (edge[bytes_[inner - 1]] | edge[bytes_[inner + 1]]).all():
                return True
    return False


def look_at_quotes(
    path: Path, start: int, separator: str, rows: list[list[str]], *, spaced: bool
) -> tuple[str, list[str]]:
    """What is wrong with the quotes of a file, empty where nothing is, and notes on what is read without them.

    start: the byte at which its rows begin. rows: some of them, to know a row by.
    spaced: whether a blank may stand before a quote.
    """
    notes: list[str] = []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for at, body, closed, behind in _quoted_cells(content, start, separator, spaced):
            if not closed:
                line = _line(content, at)
                return f"has a quote in line {line} that is never closed: close it, or double it in quotes.", []
            if b"\n" in body and (behind.strip() or _holds_rows(content, at, body, behind, separator, rows)):
                line, last = _line(content, at), _line(content, at + 1 + len(body))
                return (
                    f"has a quote in line {line} that is not closed before line {last}, and swallows the rows between: "
                    "delete both, or put these cells in quotes and double the quotes in them.",
                    [],
                )
            if behind.strip() and not notes:
                cell = (b'"' + body + b'"' + behind).decode()
                notes.append(f"Line {_line(content, at)} holds {short(cell)}, text behind a quote: it is read without.")
    return "", notes


def _quoted_cells(
    content: mmap.mmap, start: int, separator: str, spaced: bool
) -> Iterator[tuple[int, bytes, bool, bytes]]:
    """The cells that begin with a quote: where, what is in quotes, whether they are closed, and what comes behind."""
    edge = re.escape(separator.encode())
    begin = rb'"(?:(?<=[%b\r\n]")|(?<=[%b\r\n] "))' if spaced else rb'"(?<=[%b\r\n]")'
    rest = rb'([^"]*+(?:""[^"]*+)*+)("?)([^%b\r\n]*+)'
    cell = re.compile((begin + rest).replace(b"%b", edge))
    for match in cell.finditer(content, start):
        yield match.start(), match[1], bool(match[2]), match[3]


def _holds_rows(content: mmap.mmap, at: int, body: bytes, behind: bytes, separator: str, rows: list[list[str]]) -> bool:
    """Whether a cell over several lines holds the end of its row, whole rows, and the beginning of another."""
    width = len(rows[0]) if rows else 0
    first, *middle, last = re.split(r"\r?\n|\r", body.decode())
    line_start = content.rfind(b"\n", 0, at) + 1
    [before] = csv.reader([content[line_start:at].decode() + "x"], delimiter=separator)
    position = len(before) - 1
    heads, tails = first.split(separator)[1:], last.split(separator)[:-1]
    if len(heads) != width - 1 - position or len(tails) != position or not heads + tails:
        return False
    if any(len(line.split(separator)) != width for line in middle if line):
        return False
    return all(_is_like(cell, column, rows) for column, cell in [*enumerate(tails), *enumerate(heads, position + 1)])


def _is_like(cell: str, column: int, rows: list[list[str]]) -> bool:
    """Whether a text is such as stand in a column: a number among numbers, or one of its texts."""
    texts = [row[column].strip() for row in rows if len(row) > column]
    if cell.strip() in texts:
        return True
    numbers = sum(bool(shape_of(text).ways) for text in texts if text not in MISSING)
    return bool(cell.strip()) and bool(shape_of(cell.strip()).ways) and 2 * numbers > len(texts)


def _line(content: mmap.mmap, at: int) -> int:
    """The number of the line that holds a byte."""
    return content[:at].count(b"\n") + 1
