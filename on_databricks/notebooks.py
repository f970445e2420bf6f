"""Build the French notebooks and Databricks archives: `python on_databricks/notebooks.py [OUTPUT_FOLDER]`.

The code of each notebook stands once, in `<example>/on_databricks/<example>.py` (Databricks's source format). The
French notebook beside it, `<example>.fr.py`, is built from it and from the French text in `<example>.fr.md`.

A `.dbc` is a zip of notebooks in JSON, for *Import* in a workspace. One is made of each example and one of all, the
same to the byte whenever and wherever they are made.
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
BETWEEN_CELLS = "\n\n# COMMAND ----------\n\n"
BETWEEN_TEXTS = "\n\n----------\n\n"  # in a file of French text; a line across the page where Markdown is shown
MAGIC = "# MAGIC"

# What Databricks writes beside the cells; a reader of such archives may ask for any of it.
COMMAND: dict[str, object] = {"version": "CommandV1", "subtype": "command", "commandType": "auto", "commandVersion": 0}
COMMAND |= {"state": "input", "displayType": "table", "commandTitle": "", "bindings": {}}
COMMAND |= dict.fromkeys(("results", "errorSummary", "error"))
COMMAND |= dict.fromkeys(("showCommandTitle", "collapsed", "hideCommandCode", "hideCommandResult"), False)
NOTEBOOK: dict[str, object] = {"version": "NotebookV1", "language": "python", "dashboards": [], "iPythonMetadata": None}
NOTEBOOK |= {"globalVars": {}, "inputWidgets": {}, "notebookMetadata": {}}


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
    return [_uncommented(cell.strip("\n")) for cell in rest.split(BETWEEN_CELLS)]


def _uncommented(cell: str) -> str:
    lines = cell.split("\n")
    if not lines[0].startswith(MAGIC):
        return cell
    return "\n".join(line.removeprefix(MAGIC).removeprefix(" ") for line in lines)


def in_french(source: str, texts: str) -> str:
    """The source of a notebook with French text in its Markdown cells, one after the other.

    source: of the English notebook.
    texts: Markdown, one part for each Markdown cell, with a line of ten hyphens between the parts.

    Raises click.ClickException where there are more or fewer parts than Markdown cells.
    """
    parts = texts.strip("\n").split(BETWEEN_TEXTS)
    cells = source.rstrip("\n").removeprefix(f"{FIRST_LINE}\n").split(BETWEEN_CELLS)
    wanted = [cell for cell in cells if cell.startswith(f"{MAGIC} %md")]
    if len(parts) != len(wanted):
        raise click.ClickException(f"There are {len(parts)} French texts for {len(wanted)} Markdown cells.")
    remaining = iter(parts)
    french = [_markdown_cell(next(remaining)) if cell in wanted else cell for cell in cells]
    return f"{FIRST_LINE}\n{BETWEEN_CELLS.join(french)}\n"


def _markdown_cell(text: str) -> str:
    return "\n".join(f"{MAGIC} {line}".rstrip() for line in ["%md", *text.split("\n")])


def write_french(example: Path) -> Path:
    """Write the French notebook of an example, and return its path."""
    folder = example / "on_databricks"
    path = folder / f"{example.name}.fr.py"
    english, texts = folder / f"{example.name}.py", folder / f"{example.name}.fr.md"
    french = in_french(english.read_text(encoding="utf-8"), texts.read_text(encoding="utf-8"))
    path.write_text(french, encoding="utf-8", newline="\n")
    return path


def notebooks_of(example: Path) -> list[Notebook]:
    """The notebooks of an example, by name."""
    return [
        Notebook(f"{example.name}/{path.stem}", read_cells(path.read_text(encoding="utf-8")))
        for path in sorted((example / "on_databricks").glob("*.py"))
    ]


def as_json(notebook: Notebook, number: int) -> dict[str, Any]:
    """A notebook as an archive holds it. Databricks gives random identifiers; these are made of path and position.

    number: of the notebook in its archive, from 1.
    """
    commands = []
    for position, cell in enumerate(notebook.cells, start=1):
        place = f"{notebook.path}/{position}"
        own = {"origId": 1000 * number + position, "guid": _guid(place), "nuid": _guid(f"{place}/nuid")}
        commands.append({**COMMAND, **own, "position": float(position), "command": cell})
    name = notebook.path.rpartition("/")[2]
    return {**NOTEBOOK, "origId": number, "name": name, "guid": _guid(notebook.path), "commands": commands}


def write_archive(file: Path, notebooks: list[Notebook]) -> None:
    """Write notebooks as one `.dbc`, with one fixed time in it, so that the same text gives the same bytes."""
    folders = {str(folder) for notebook in notebooks for folder in Path(notebook.path).parents if folder.name}
    manifest = {"version": "Manifest", "guid": _guid(file.stem), "origId": -1, "name": "manifest.mf"}
    entries = {"manifest.mf": json.dumps(manifest), **{f"{folder}/": "" for folder in sorted(folders)}}
    for number, notebook in enumerate(notebooks, start=1):
        entries[f"{notebook.path}.python"] = json.dumps(as_json(notebook, number), ensure_ascii=False)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # otherwise that of the machine
            entry.external_attr = (0o755 if name.endswith("/") else 0o644) << 16
            archive.writestr(entry, text)


def _guid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


@click.command()
@click.argument("output", type=click.Path(file_okay=False, path_type=Path), default=COLLECTION / "dist")
def build(output: Path) -> None:
    """Write the French notebooks, and the .dbc archives of all examples to the folder OUTPUT (default: dist)."""
    output.mkdir(parents=True, exist_ok=True)
    texts = COLLECTION.glob("*/on_databricks/*.fr.md")  # a twin that stage.py wrote has them too, under another name
    examples = sorted(path.parent.parent for path in texts if path.name == f"{path.parent.parent.name}.fr.md")
    for example in examples:
        write_french(example)
    archives = {example.name: notebooks_of(example) for example in examples}
    every = [notebook for notebooks in archives.values() for notebook in notebooks]
    archives[ALL] = [Notebook(f"{ALL}/{notebook.path}", notebook.cells) for notebook in every]
    for name, notebooks in archives.items():
        write_archive(output / f"{name}.dbc", notebooks)
        click.echo(f"{output / f'{name}.dbc'}: {', '.join(notebook.path for notebook in notebooks)}")


if __name__ == "__main__":
    build()
