"""Code speaks as a colleague would: its messages, docstrings and comments use the usual word."""

from __future__ import annotations

import re

from examples import COLLECTION

UNUSUAL = r"""
    \b(lest|hence|thereof|whoever|whomever|howbeit|ere)\b
    | \b(gone|going|goes|went)\ on\ with\b | \bto\ be\ had\b | \bas\ dear\b | \bthe\ first\ first\b
    | \bbears?\ (it|a|the)\ (name|names)\b | \bborne\ by\b | \bhas\ its\ way\ with\b | \bso\ surely\b
    | \ba\ (run|script|process)\ a\ (model|classifier)\b
    | \bapprend\ de\ nouveau\b | \bnombre\ de\ fils\b | \bprédire\ de\ nouveaux\b
"""
OURS: tuple[str, ...] = (
    "*.py",
    "*.toml",
    "Makefile",
    "MLproject",
    "*/MLproject",
    ".ci/run",
    "support/*.py",
    "docs/*.py",
)
OURS += tuple(f"{folder}/**/*.py" for folder in ("benchmarks", "docs", "on_databricks", "support", "tests"))
OURS += tuple(f"{path.parent.name}/**/*.py" for path in COLLECTION.glob("*/MLproject"))


def test_the_wording_of_the_code_is_usual() -> None:
    found = []
    for path in sorted({path for pattern in OURS for path in COLLECTION.glob(pattern)}):
        if path.name not in ("test_wording.py", "test_pages.py"):  # which list the words
            text = path.read_text(encoding="utf-8")
            for match in re.finditer(UNUSUAL, text, re.VERBOSE | re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(COLLECTION)}:{line}: {match[0]}")
    assert not found, "\n".join(found)
