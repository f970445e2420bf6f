# Copied by `make vendor` from support/language.py of the collection: edit that, or this in your own copy.
"""The language of what is printed and drawn: English, as it stands in the code, or French, by french.py."""

from __future__ import annotations

from numbers import Number
from typing import Any

import click

_french: dict[str, str] = {}  # empty where English is spoken


class _InFrench:
    """A number that is written with a decimal comma, and a space between thousands and before %."""

    def __init__(self, number: Any) -> None:
        self.number = number

    def __format__(self, spec: str) -> str:
        french = str.maketrans(",.", "\N{NO-BREAK SPACE},")
        return format(self.number, spec).translate(french).replace("%", "\N{NO-BREAK SPACE}%")


def _speak(context: click.Context, parameter: click.Parameter, language: str) -> None:
    context.meta["language"] = language  # of what says where to look
    _french.clear()
    if language == "fr":
        from support.french import FRENCH

        _french.update(FRENCH)


LANGUAGE = click.Option(
    ["--language"],
    type=click.Choice(["en", "fr"]),
    default="en",
    help="The language of what is printed and drawn.",
    callback=_speak,
    expose_value=False,
)


def warn(text: str) -> None:
    """Print a warning, in the language of the run, on stderr."""
    click.echo(tr("Warning: {text}", text=text), err=True)


def decimal(text: str) -> str:
    """A number as a library writes it, with the decimal mark of the language."""
    return text.replace(".", ",") if _french else text


def tr(text: str, /, **values: Any) -> str:
    """A text in the language of the run; values: what stands in it between braces."""
    if not _french:
        return text.format(**values)
    written = {key: _InFrench(value) if isinstance(value, Number) else value for key, value in values.items()}
    return _french.get(text, text).format(**written)
