"""The notebooks: the French ones are built, both languages tell the same, and archives are those of Databricks."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import click
import pytest
from examples import COLLECTION, module
from nbmanips import Notebook as Archived

notebooks = module("on_databricks", "notebooks")
EXAMPLES = ["classification", "clustering", "git_project", "registry_deploy"]


def notebook(example: str, language: str = "") -> Path:
    return COLLECTION / example / "on_databricks" / f"{example}{language}.py"


def cells(path: Path) -> list[str]:
    """The cells of a notebook in source format, magics without their comment signs; read apart from `notebooks.py`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Databricks notebook source"
    text = "\n".join(re.sub("^# MAGIC ?", "", line) for line in lines[1:])
    return [cell.strip("\n") for cell in text.split("\n# COMMAND ----------\n")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_french_notebook_is_the_one_that_is_built(example: str) -> None:
    texts = notebook(example, ".fr").with_suffix(".md").read_text(encoding="utf-8")
    built = notebooks.in_french(notebook(example).read_text(encoding="utf-8"), texts)
    committed = notebook(example, ".fr").read_text(encoding="utf-8")
    assert committed == built, "run `python on_databricks/notebooks.py` and commit what it writes"


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_languages_run_the_same_code_and_tell_it_alike(example: str) -> None:
    def shape(cell: str) -> list[str]:
        """What begins each line of a Markdown cell that is no running text: headings, tables, list items."""
        return [line[: line.index(" ")] for line in cell.splitlines() if re.match(r"#+ |\| |- ", line)]

    english, french = cells(notebook(example)), cells(notebook(example, ".fr"))
    for here, there in zip(english, french, strict=True):
        if here.startswith("%md\n"):
            assert there.startswith("%md\n")
            assert here != there
            assert shape(here) == shape(there)
            assert set(re.findall(r"`[a-z_]+`", here)) <= set(re.findall(r"`[a-z_]+`", there)), there
            assert not re.findall(r".*(?:[^\W\d_] [:;!?»%]|« ).*", re.sub(r"`[^`]*`", "", there[4:])), "French spaces"
        else:
            assert here == there


def test_a_french_text_that_is_missing_is_named() -> None:
    source = notebook("clustering").read_text(encoding="utf-8")
    with pytest.raises(click.ClickException, match=r"There are 1 French texts for \d+ Markdown cells"):
        notebooks.in_french(source, "# Un seul texte")


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_cell_of_code_is_short_and_introduced(example: str) -> None:
    before = ""
    for cell in cells(notebook(example)):
        if not cell.startswith(("%", "dbutils.library")):
            assert len(cell.splitlines()) <= 32
        if before and not before.startswith("%md"):
            assert cell.startswith(("%md", "%pip install", "dbutils.library.restartPython()")), cell
        before = cell


def write(folder: Path) -> Path:
    every = [found for example in EXAMPLES for found in notebooks.notebooks_of(COLLECTION / example)]
    notebooks.write_archive(folder / "all.dbc", every)
    return folder / "all.dbc"


def test_an_archive_has_the_form_of_a_real_one_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    archive = write(tmp_path)
    assert archive.read_bytes() == write(tmp_path / "again").read_bytes()
    assert archive.stat().st_size < 10_000_000  # the most that an import takes
    with zipfile.ZipFile(archive) as opened:
        first, *_ = entries = opened.infolist()
        assert json.loads(opened.read(first))["version"] == "Manifest"
        assert "classification/" in opened.namelist()
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_DEFLATED}
        commands = json.loads(opened.read("classification/classification.python"))["commands"]
    assert {"commandVersion", "nuid", "origId", "bindings", "displayType"} <= commands[0].keys()
    assert len({command["nuid"] for command in commands}) == len(commands)
    read = Archived.read_dbc(str(archive), filename="classification/classification.fr.python")  # by another library
    found = [("%md\n" if cell.type == "markdown" else "") + cell.source for cell in read.iter_cells()]
    assert found == cells(notebook("classification", ".fr"))
