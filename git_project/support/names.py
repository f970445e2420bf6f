# Copied by `make vendor` from support/names.py of the collection: edit that, or this in your own copy.
"""The names of columns: those that a user gives, and those that we add."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable

import click


def split_list(parameter: str, value: str) -> list[str]:
    """The texts of a parameter: comma-separated, or a JSON list where a text itself holds a comma.

    Raises click.BadParameter for a malformed JSON list.
    """
    if not value.lstrip().startswith("["):
        return [text.strip() for text in value.split(",") if text.strip()]
    try:
        given = json.loads(value)
    except json.JSONDecodeError as error:
        raise _bad(parameter, value, f"is malformed JSON: {error.msg}.") from None
    return [str(text) for text in given]


def look(text: str) -> str:
    """What a reader sees of a text: accents composed, blanks as one, no characters that are invisible."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(letter for letter in composed if unicodedata.category(letter) != "Cf").split())


def find_name(name: str, names: Iterable[str]) -> str | None:
    """The column that is meant by a name: the one of exactly this name, else the only one that looks like it."""
    have = list(names)
    if name in have:
        return name
    alike = [other for other in have if look(other) == look(name)]
    return alike[0] if len(alike) == 1 else None


def pick_names(parameter: str, given: str | list[str], names: Iterable[str]) -> list[str]:
    """The columns that a user names, each once.

    parameter: under which they are given, for messages.
    given: the names, comma-separated or as a JSON list where a name holds a comma; or a list of names as they are.
    names: the columns of the table.

    Raises click.BadParameter for a name that is no column.
    """
    have = list(names)
    if isinstance(given, str) and find_name(given, have) is not None:
        given = [given]
    picked = []
    for name in split_list(parameter, given) if isinstance(given, str) else given:
        found = find_name(name, have)
        if found is None:
            comma = any("," in other for other in have)
            hint = ' (a name with a comma is given in a JSON list: ["a, b"])' if comma else ""
            raise _bad(parameter, name, f"is not a column of the table; it has: {', '.join(have)}{hint}.")
        picked.append(found)
    return list(dict.fromkeys(picked))


def free_names(wanted: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """For each column that we add, a name that the table does not have yet: `prediction`, else `prediction_2`..."""
    used, free = set(taken), {}
    for name in wanted:
        new, number = name, 1
        while new in used:
            number += 1
            new = f"{name}_{number}"
        free[name] = new
        used.add(new)
    return free


def _bad(parameter: str, value: object, right: str) -> click.BadParameter:
    return click.BadParameter(f"{str(value)!r} {right}", param_hint=repr(f"--{parameter}"))
