"""A project of one's own: what is learnt, which files it has, what it imports, and what is refused."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import yaml

import lock
import new_project
from support.kinds import decide
from support.table import open_table

VALUES = {"name": "mine", "data": "data/my.csv", "target": 'the "best"', "positive": "", "drop": ""}
VALUES |= {"kinds": '{"a:b": "number"}', "missing_values": "?"}


def guessed(folder: Path, values: list[Any]) -> str:
    """The task for a target with these values."""
    pd.DataFrame({"x": range(len(values)), "y": values}).to_csv(folder / "my.csv", index=False)
    table = open_table(str(folder / "my.csv"))
    return new_project.guessed_task(table, "y", decide(table)["y"])


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"] * 20, "classification"),
        ([0, 1] * 20, "classification"),
        ([3, 4, 5, 6] * 20, "classification"),
        ([True, False] * 20, "classification"),
        ([1.5, 2.5] * 20, "regression"),
        (list(range(100)), "regression"),  # which looks like an identifier
        ([row * row for row in range(60)], "regression"),
        ([3, 4, 5] * 20 + [9], "regression"),  # one row of a class is none to learn from
        ([f"name {row}" for row in range(60)], "classification"),  # and refused: a row of each
    ],
)
def test_what_is_learnt_follows_from_the_values_of_the_target(values: list[Any], task: str, tmp_path: Path) -> None:
    assert guessed(tmp_path, values) == task


@pytest.fixture(params=new_project.TASKS)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project as it is written, without its table."""
    new_project.write(tmp_path / "mine", request.param, "en", VALUES)
    return tmp_path / "mine"


def test_it_has_at_most_ten_files_and_its_support(project: Path) -> None:
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    own = {name for name in files if not name.startswith("support/")}
    assert own == set(new_project.FILES)
    assert len(own) < 10  # the table is the tenth
    assert "support/LICENSE" in files


def test_names_and_defaults_of_the_table_arrive_unchanged(project: Path) -> None:
    mlproject = yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))
    assert mlproject["name"] == "mine"
    parameters = mlproject["entry_points"]["main"]["parameters"]
    for name in VALUES.keys() & parameters.keys() - {"name"}:
        assert parameters[name]["default"] == VALUES[name]
    assert not [path for path in project.rglob("*.py") if re.search(r'"@\w+@"', path.read_text(encoding="utf-8"))]


def test_every_parameter_reaches_an_option_of_its_script(project: Path) -> None:
    for entry_point in yaml.safe_load((project / "MLproject").read_text(encoding="utf-8"))["entry_points"].values():
        command = entry_point["command"]
        assert set(re.findall(r"--(\w+) \{\1\}", command)) == set(entry_point["parameters"])


def test_it_imports_nothing_but_itself_and_what_it_pins(project: Path) -> None:
    pinned = {line.split("==")[0] for line in (project / "requirements.txt").read_text().splitlines() if "==" in line}
    pinned |= {"sklearn"} | sys.stdlib_module_names
    late = {"pyspark", "py4j", "openpyxl", "tensorflow", "keras"}  # asked for where a user needs them
    for path in project.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found = project / f"{name.replace('.', '/')}.py"
                top = name.split(".")[0].replace("charset_normalizer", "charset-normalizer")
                assert found.exists() or name == "support" or top in pinned | late, f"{path.name}: {name}"


def test_its_packages_are_the_pins_of_the_collection(project: Path) -> None:
    assert (project / "requirements.txt").read_text() == (new_project.TEMPLATES / "requirements.txt").read_text()
    assert "new_project/requirements.txt" in lock.files()


PENGUINS = "species,island,mass\n" + "Adelie,Dream,3700\nGentoo,Biscoe,5000\n" * 12


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"name": "my wine"}, "'my wine' is not a name: a letter first"),
        ({"target": "Species"}, "'Species' is not a column of the table; it has: species, island, mass."),
        ({"data": "nowhere.csv"}, "'nowhere.csv' does not exist"),
        ({"output": "mine"}, "'mine' is relative: give the full path"),
        ({"output": "/nowhere/mine"}, "lies in a folder that does not exist."),
        ({"drop": "species"}, "'species' is the target."),
        ({"drop": "island,mass"}, "has no column to learn from."),
        ({"positive": "Chinstrap"}, "'Chinstrap' is not one of two classes; the target has: Adelie, Gentoo."),
        ({"task": "regression"}, "is no such number"),
        ({"task": "clustering"}, "'clustering' is not one of"),
        ({"language": "de"}, "'de' is not one of 'en', 'fr'."),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_refused_in_one_line(changed: dict[str, str], error: str, tmp_path: Path) -> None:
    (tmp_path / "penguins.csv").write_text(PENGUINS)
    asked = {"name": "mine", "data": str(tmp_path / "penguins.csv"), "target": "species"}
    asked |= {"output": str(tmp_path / "mine"), **changed}
    with pytest.raises(click.UsageError) as refused:
        new_project.new_project.main(
            [word for key, value in asked.items() for word in (f"--{key}", value)], standalone_mode=False
        )
    assert error in refused.value.format_message()
    assert len(refused.value.format_message().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"penguins.csv"}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (["a"] * 20, "constant"),
        (["a", "b"] * 10 + [None], "has 1 missing values"),
        (["a", "b"] * 10 + ["c"], "has 1 rows of class 'c': at least 4 of each are needed."),
        ([f"2024-01-{day:02}" for day in range(1, 29)], "holds dates: there is nothing to learn."),
    ],
    ids=str,
)
def test_a_target_that_cannot_be_learnt_is_refused(values: list[Any], error: str, tmp_path: Path) -> None:
    pd.DataFrame({"x": [row % 7 / 2 for row in range(len(values))], "y": values}).to_csv(
        tmp_path / "my.csv", index=False
    )
    arguments = ["--name", "mine", "--data", str(tmp_path / "my.csv"), "--target", "y", "--output", str(tmp_path / "m")]
    with pytest.raises(click.UsageError, match=re.escape(error)):
        new_project.new_project.main(arguments, standalone_mode=False)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(click.BadParameter, match="exists: give the name of a new folder"):
        new_project._new_folder(str(tmp_path))


@pytest.mark.parametrize("task", new_project.TASKS)
def test_it_speaks_the_language_of_its_readme(task: str, tmp_path: Path) -> None:
    new_project.write(tmp_path / "mine", task, "fr", VALUES)
    mlproject = yaml.safe_load((tmp_path / "mine" / "MLproject").read_text(encoding="utf-8"))
    assert mlproject["entry_points"]["main"]["parameters"]["language"]["default"] == "fr"
    assert "## Entraîner" in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
