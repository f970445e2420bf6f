"""Build Databricks archives of the examples' notebooks: `python on_databricks/notebooks.py [OUTPUT_FOLDER]`.

Each example has its notebook in `<example>/on_databricks/`, in Databricks's source format, in English and in French. A
`.dbc` is a zip of notebooks in JSON, for *Import* in a workspace; it carries notebooks and nothing else. One is made of
each example and one of all, the same to the byte whenever and wherever it is made.
"""

from __future__ import annotations

import json
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

COLLECTION = Path(__file__).resolve().parent.parent
ALL = "mlproject-collection"

FIRST_LINE = "# Databricks notebook source"
BETWEEN_CELLS = "# COMMAND ----------"
MAGIC = "# MAGIC"


@dataclass(frozen=True)
class Notebook:
    """A notebook: its path within an archive, without the ending, and the text of its cells."""

    path: str
    cells: list[str]


def read_cells(source: str) -> list[str]:
    """The cells of a notebook in source format, those with magics (`%md`, `%pip`) without the comment signs.

    Raises click.ClickException where it is no Databricks notebook.
    """
    first, _, rest = source.partition("\n")
    if first != FIRST_LINE:
        raise click.ClickException(f"A notebook begins with the line {FIRST_LINE!r}, not with {first!r}.")
    return [_uncommented(cell.strip("\n")) for cell in rest.split(f"\n{BETWEEN_CELLS}\n")]


def _uncommented(cell: str) -> str:
    lines = cell.split("\n")
    if not lines[0].startswith(MAGIC):
        return cell
    return "\n".join(line.removeprefix(MAGIC).removeprefix(" ") for line in lines)


def notebooks_of(example: Path) -> list[Notebook]:
    """The notebooks of an example, by name."""
    return [
        Notebook(f"{example.name}/{path.stem}", read_cells(path.read_text(encoding="utf-8")))
        for path in sorted((example / "on_databricks").glob("*.py"))
    ]


def as_json(notebook: Notebook) -> dict[str, Any]:
    """A notebook as an archive holds it. Databricks gives random identifiers; these are made of path and position."""
    commands = [
        {
            "version": "CommandV1",
            "guid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{notebook.path}/{position}")),
            "subtype": "command",
            "commandType": "auto",
            "position": float(position),
            "command": cell,
            "commandTitle": "",
            "showCommandTitle": False,
            "state": "input",
            "results": None,
            "errorSummary": None,
            "error": None,
            "collapsed": False,
            "hideCommandCode": False,
            "hideCommandResult": False,
        }
        for position, cell in enumerate(notebook.cells, start=1)
    ]
    return {
        "version": "NotebookV1",
        "name": notebook.path.rpartition("/")[2],
        "language": "python",
        "guid": str(uuid.uuid5(uuid.NAMESPACE_URL, notebook.path)),
        "commands": commands,
        "dashboards": [],
        "globalVars": {},
        "inputWidgets": {},
    }


def write_archive(file: Path, notebooks: list[Notebook]) -> None:
    """Write notebooks as one `.dbc`. Uncompressed, and with one time of old, so that the same text gives same bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        for notebook in notebooks:
            entry = zipfile.ZipInfo(f"{notebook.path}.python")
            entry.create_system = 3  # otherwise that of the machine
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, json.dumps(as_json(notebook), ensure_ascii=False, indent=1))


@click.command()
@click.argument("output", type=click.Path(file_okay=False, path_type=Path), default=COLLECTION / "dist")
def build(output: Path) -> None:
    """Write the .dbc files of all examples to the folder OUTPUT (default: dist)."""
    output.mkdir(parents=True, exist_ok=True)
    found = {path.parent: notebooks_of(path.parent) for path in sorted(COLLECTION.glob("*/MLproject"))}
    archives = {example.name: notebooks for example, notebooks in found.items() if notebooks}
    every = [notebook for notebooks in archives.values() for notebook in notebooks]
    archives[ALL] = [Notebook(f"{ALL}/{notebook.path}", notebook.cells) for notebook in every]
    for name, notebooks in archives.items():
        write_archive(output / f"{name}.dbc", notebooks)
        click.echo(f"{output / f'{name}.dbc'}: {', '.join(notebook.path for notebook in notebooks)}")


if __name__ == "__main__":
    build()
