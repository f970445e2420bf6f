# Copied by `make vendor` from support/parameters.py of the collection: edit that, or this in your own copy.
"""Types of parameters that click lacks: a wrong value is refused by name, with what would be right."""

from __future__ import annotations

import re
from typing import Any

import click


class Or(click.ParamType):
    """A value of another type, or one of some words: `none` is Python's None, and an empty one stays empty.

    expected: what is right, for messages: `'deep' is neither an integer of 1 or more nor none.`
    """

    def __init__(self, other: click.ParamType, expected: str, *words: str) -> None:
        self.other, self.expected, self.words = other, expected, words
        self.name = " or ".join([expected, *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        word = str(value).lower()
        if word in self.words:
            return None if word == "none" else word
        try:
            return self.other.convert(value, param, ctx)
        except click.BadParameter:
            words = " nor ".join(filter(None, self.words))
            self.fail(f"{value!r} is neither {self.expected} nor {words}.", param, ctx)


class Threshold(click.ParamType):
    """From which probability on a class is predicted: a number, `f1`, or such as `recall>=0.8`; empty for none."""

    name = "threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).replace(" ", "")
        number = re.fullmatch(r"(?:recall>=)?(\d*\.?\d+(?:e-\d+)?)", text)
        if text in ("", "f1") or (number and 0 < float(number[1]) < 1):
            return text
        self.fail(f"{value!r} is neither a number between 0 and 1, nor f1, nor as recall>=0.8.", param, ctx)


def option(name: str, kind: click.ParamType = click.STRING, default: Any = "", help: str = "") -> click.Option:
    """An option of a command line, `--name`, under exactly this name."""
    return click.Option([f"--{name}", name], type=kind, default=default, help=help)
