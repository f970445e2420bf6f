# Copied by `make vendor` from support/style.py of the collection: edit that, or this in your own copy.
"""Colours and lines that everybody can tell apart, colour-blind readers too, and numbers in the reader's language."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter

from support.language import decimal

# After Okabe and Ito, with a contrast of 4.5 on white. Each line and segment also has dashes or a marker of its own.
COLORS = ["#0072B2", "#C44E00", "#000000", "#008060", "#B5508A", "#6B4600", "#4B2E83", "#5A5A5A"]
DASHES: list[Any] = ["-", "--", "-.", ":", *[(0, (10, 3)), (0, (3, 1, 1, 1)), (0, (7, 1, 1, 1, 1, 1)), (0, (2, 2))]]
MARKERS = ["o", "^", "s", "D", "v", "P", "X", "<", ">"]


def contrast(color: Any, other: Any = "white") -> float:
    """How much two colours of Matplotlib's differ in brightness, from 1 to 21. Source: WCAG 2.2, contrast ratio."""
    brighter, darker = sorted((_luminance(color), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(color: Any) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class _Numbers(ScalarFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return decimal(super().__call__(x, pos))


class _LogNumbers(LogFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return decimal(f"{x:g}") if super().__call__(x, pos) else ""


def in_language(figure: Figure) -> Figure:
    """The same picture, whose axes write their numbers as the language does: 0,84 in French. Axes with texts stay."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), ScalarFormatter):
                axis.set_major_formatter(_Numbers(useOffset=False))
            elif isinstance(axis.get_major_formatter(), LogFormatter):
                axis.set_major_formatter(_LogNumbers())
                axis.set_minor_formatter(_LogNumbers())
    return figure
