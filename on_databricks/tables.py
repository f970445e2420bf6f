"""Write the tables of the examples as CSV and JSON Lines, for *Add data*: `python on_databricks/tables.py FOLDER`.

The examples hold each table once, as CSV (new instances as JSON Lines); the other form is made from it here.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

COLLECTION = Path(__file__).resolve().parent.parent


def tables() -> dict[str, Path]:
    """What each table is called -> its file; one that several examples hold to the byte comes once.

    A name is that of the file, or `<example>_<file>` where an earlier example has another table of that name. It is
    also a valid name of a table in Unity Catalog.
    """
    found: dict[str, Path] = {}
    for path in sorted([*COLLECTION.glob("*/data/*.csv"), *COLLECTION.glob("*/data/*.jsonl")]):
        name = path.stem
        if name in found and found[name].read_bytes() != path.read_bytes():
            name = f"{path.parent.parent.name}_{name}"
        found.setdefault(name, path)
    return found


def rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a table: numbers as they are written there, text as text, no value as None."""
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
        else:
            yield from ({name: _value(text) for name, text in row.items()} for row in csv.DictReader(file))


def _value(text: str) -> object:
    if not text or text == "NA":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_tables(folder: Path) -> list[Path]:
    """Write every table in both forms into a folder, and return the files."""
    written = []
    for name, path in tables().items():
        as_csv, as_json = folder / f"{name}.csv", folder / f"{name}.jsonl"
        for same in (as_csv, as_json):
            if same.suffix == path.suffix:
                shutil.copyfile(path, same)
        if path.suffix == ".csv":
            lines = (json.dumps(row, ensure_ascii=False) for row in rows(path))
            as_json.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        else:
            with open(as_csv, "w", encoding="utf-8", newline="") as file:
                instances = list(rows(path))
                columns = dict.fromkeys(column for row in instances for column in row)
                writer = csv.DictWriter(file, list(columns), lineterminator="\n")
                writer.writeheader()
                writer.writerows(instances)
        written += [as_csv, as_json]
    return written


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def write(folder: Path) -> None:
    """Write the tables of all examples into FOLDER, as CSV and as JSON Lines with one object a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in write_tables(folder):
        click.echo(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    write()
