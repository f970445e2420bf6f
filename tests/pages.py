"""Read the pages: their commands, what they quote of the output, and whether a printed line is the quoted one.

On a page, an indented line is a command to type in the collection's folder, and a ```text block quotes what the command
before it prints. `<run id>` stands for the run of the first model that a command on the page printed, `<run id of knn>`
for the last run of that entry point.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType


@dataclass
class Step:
    """A command on a page, and what the page quotes of its output."""

    command: str
    quoted: list[str] = field(default_factory=list)


def french(page: Path) -> Path:
    """The French twin of a page."""
    return page.with_suffix(".fr.md")


def load(script: Path) -> ModuleType:
    """A script, as a module."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps(page: Path) -> list[Step]:
    """The commands of a page, in order, each with its quoted output."""
    found: list[Step] = []
    fence = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```text" and found:
            found[-1].quoted.append(line)
        elif not fence and line.startswith("    ") and line.strip():
            found.append(Step(line.strip()))
    return found


# The names of runs, models and commits: they count as numbers that may be any.
HASH = r"-?\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b"
# What differs each time: how long something took, how many requests were sent meanwhile, a free port.
CHANGING = r"\d+(?:\.\d+)?(?= m?s\b| by version)|(?<=127\.0\.0\.1:)\d+"


def figures(line: str) -> list[float]:
    """The numbers in a line, without those that differ each time."""
    found = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", re.sub(f"{HASH}|{CHANGING}", "", line))
    return [float(number) for number in found]


def words(line: str) -> list[str]:
    """What is not a number in a line."""
    return re.sub(rf"{HASH}|-?\d+(?:\.\d+)?(?:e-?\d+)?", "#", line).split()


def quotes(quoted: str, printed: str) -> bool:
    """Whether a printed line is the quoted one, its figures within 2 % or 0.02; " ..." leaves out how it ends."""
    shown, dots, _ = quoted.partition(" ...")
    length = len(words(shown)) if dots else None
    return words(shown) == words(printed)[:length] and all(
        abs(one - other) <= max(0.02, 0.02 * abs(one))
        for one, other in zip(figures(shown), figures(printed), strict=False)
    )


def assert_quoted(quoted: list[str], output: str) -> None:
    """What a page quotes is printed; dots stand for what it leaves out."""
    printed = output.splitlines()
    for line in quoted:
        assert not line.strip(" .") or any(quotes(line, each) for each in printed), f"{line}\n{output}"
