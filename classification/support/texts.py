# Copied by `make vendor` from support/texts.py of the collection: edit that, or this in your own copy.
"""Names and values of a table in places that read some characters as their own: the one place that escapes them."""

from __future__ import annotations

import re
from collections.abc import Iterable


def shown(value: object) -> str:
    """A value for a message: text in quotes, numbers plain (9 for numpy's int64 and for 9.0)."""
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e15:
        return str(int(plain))
    return repr(plain)


def short(text: str, most: int = 60) -> str:
    """A text in quotes for a message, cut where it is long."""
    return repr(text if len(text) <= most else f"{text[: most - 1]}…")


def metric_names(labels: Iterable[object], prefix: str = "") -> list[str]:
    """A name for a metric of each label, of the characters that MLflow allows; no two are the same.

    `A+` and `A*` become `A_` and `A_ 2`.
    """
    names: list[str] = []
    for label in labels:
        name = plain = prefix + re.sub(r"[^\w.\- ]", "_", str(label)).strip() or "_"
        number = 1
        while name.lower() in [other.lower() for other in names]:  # a folder may not tell case apart
            number += 1
            name = f"{plain} {number}"
        names.append(name)
    return names


def on_picture(text: object, most: int = 40) -> str:
    """A text for Matplotlib, which would read `$` as mathematics and leave a `_label` out of a legend.

    most: characters to show; what is longer ends in an ellipsis.
    """
    line = " ".join(str(text).split())
    if len(line) > most:
        line = line[: most - 1] + "…"
    if line.startswith("_"):
        line = "\N{ZERO WIDTH SPACE}" + line
    return line.replace("$", r"\$")


def in_markdown(text: object) -> str:
    """A text for a sentence or a table's cell in Markdown."""
    return re.sub(r"(?<!\w)_|_(?!\w)|[\\`*\[\]<>|]", r"\\\g<0>", " ".join(str(text).split()))
