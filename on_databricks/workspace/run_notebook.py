"""Run a notebook in source format from top to bottom, as Databricks would: `python run_notebook.py NOTEBOOK WIDGETS`.

WIDGETS is a JSON object. The process begins where the notebook lies; cells share one namespace, with `dbutils` and
`display`; `restartPython` empties it. `%md` is passed over; `%pip` only says what it would
install.
Prints each cell's number before it, what is displayed, and ends with 1 at the first cell that fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def cells_of(notebook: Path) -> list[str]:
    """The cells of a notebook, those that are magics without the comment signs."""
    separator = r"^# (?:Databricks notebook source|COMMAND -{10})\n"
    head, *cells = re.split(separator, notebook.read_text("utf-8"), flags=re.M)
    assert head == "", f"{notebook} does not begin as a Databricks notebook does"
    return [re.sub(r"^# MAGIC ?", "", cell, flags=re.M).strip("\n") for cell in cells]


def kind_of(cell: str) -> str:
    """`python`, or the name of the magic that a cell begins with: `md`, `pip`."""
    magic = re.match(r"%(\w+)", cell)
    return magic[1] if magic else "python"


class Widgets:
    """`dbutils.widgets`: values that were given beforehand win over a notebook's own, as those of a job do."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.values: dict[str, str] = {}

    def text(self, name: str, default: str, label: str = "") -> None:
        assert isinstance(default, str), f"the default of a widget is a text: {name}"
        self.values.setdefault(name, self.given.get(name, default))

    def get(self, name: str) -> str:
        if name not in self.values:
            raise KeyError(f"InputWidgetNotDefined: no widget is named {name}")
        return self.values[name]


def display(thing: Any) -> None:
    """Show a table or a picture; Databricks has no way to show most other things."""
    import pandas as pd
    from PIL.Image import Image

    if isinstance(thing, pd.DataFrame):
        assert len(thing), "an empty table is displayed"
        print(f"[display] table\n{thing.to_string()}", flush=True)
    elif isinstance(thing, Image):
        print(f"[display] picture {thing.width} x {thing.height}", flush=True)
    else:
        raise TypeError(f"cannot display a {type(thing).__name__}")


class Session:
    """The Python process of a notebook."""

    def __init__(self, widgets: dict[str, str]) -> None:
        restart = SimpleNamespace(restartPython=self.restart)
        self.dbutils = SimpleNamespace(widgets=Widgets(widgets), library=restart)
        self.namespace: dict[str, Any] = {}
        self.restart()

    def restart(self) -> None:
        self.namespace.clear()
        self.namespace |= {"__name__": "__main__", "dbutils": self.dbutils, "display": display}

    def run(self, cell: str, name: str) -> None:
        kind = kind_of(cell)
        if kind == "python":
            exec(compile(cell, name, "exec"), self.namespace)
        elif kind == "pip":
            self.pip(cell.removeprefix("%pip "))
        else:
            assert kind == "md", f"no such magic: %{kind}"

    def pip(self, arguments: str) -> None:
        """Say what would be installed; nothing is. `$name` stands for a variable, as in Databricks."""
        filled = re.sub(r"\$(\w+)", lambda variable: str(self.namespace[variable[1]]), arguments)
        command = [sys.executable, "-m", "uv", "pip", *(word.strip('"') for word in filled.split())]
        command += ["--dry-run", "--offline", "--python", sys.executable]
        done = subprocess.run([word for word in command if word != "--quiet"], capture_output=True, text=True)
        print(f"[pip] {filled}: {done.stderr.strip().splitlines()[-1]}", flush=True)


def main(notebook: Path, widgets: dict[str, str]) -> None:
    if not notebook.exists():  # in a Git folder a notebook is a file with an ending, which its path lacks
        notebook = notebook.with_name(f"{notebook.name}.py")
    cells = cells_of(notebook)
    os.chdir(notebook.parent)
    session = Session(widgets)
    for number, cell in enumerate(cells, start=1):
        print(f"[cell {number}/{len(cells)}] {kind_of(cell)}", flush=True)
        try:
            session.run(cell, f"cell {number}")
        except BaseException:
            traceback.print_exc()
            print(f"[failed] cell {number}:\n{cell}", flush=True)
            sys.exit(1)
    print("[done]", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]))
