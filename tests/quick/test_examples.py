"""What holds for every example: it can be copied out, its functions are short, and its pages name what it has."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples import COLLECTION
from packaging.requirements import Requirement

EXAMPLES = sorted(path.parent for path in COLLECTION.glob("*/MLproject"))
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
LONGEST = 45  # lines of a function: what fits on a screen
ELSEWHERE = {"azureml_inference_server_http"}  # in the container that Azure ML starts


def entry_points(example: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load((example / "MLproject").read_text(encoding="utf-8"))["entry_points"]


def sources(example: Path) -> list[Path]:
    return [path for path in example.rglob("*.py") if "__pycache__" not in path.parts]


def imported(path: Path) -> set[str]:
    """The top-level names of what a Python file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


def normal(name: str) -> str:
    """The name of a distribution as PyPI compares it."""
    return re.sub("[-_.]+", "-", name).lower()


@cache
def distributions() -> dict[str, set[str]]:
    """The installed distributions, by the name under which they are imported."""
    return {name: set(map(normal, found)) for name, found in packages_distributions().items()}


@each_example
def test_its_modules_import_nothing_outside_it_but_what_its_requirements_pin(example: Path) -> None:
    lines = [line for path in example.glob("requirements*.txt") for line in path.read_text().splitlines()]
    pinned = {normal(Requirement(line).name) for line in lines if "==" in line and not line.lstrip().startswith("#")}
    for path in sources(example):
        for name in imported(path) - sys.stdlib_module_names - ELSEWHERE:
            ours = [(folder / name).is_dir() or (folder / f"{name}.py").exists() for folder in (example, path.parent)]
            found = distributions().get(name, set())
            if path.parent.name not in ("data", "support"):  # what made a table; what only another example uses
                found &= pinned
            assert any(ours) or found, f"{path}: {name}"


@each_example
def test_no_module_or_folder_has_the_name_of_an_importable_one(example: Path) -> None:
    names = {path.stem for path in example.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not names & sys.stdlib_module_names
    assert not names & set(distributions())


@each_example
def test_parameters_reach_their_command(example: Path) -> None:
    for name, entry_point in entry_points(example).items():
        assert set(re.findall(r"\{(\w+)\}", entry_point["command"])) == set(entry_point.get("parameters", {})), name


@each_example
def test_the_script_of_every_entry_point_exists(example: Path) -> None:
    for entry_point in entry_points(example).values():
        scripts = re.findall(r"[\w/]+\.py", entry_point["command"])
        assert scripts
        assert all((example / script).exists() for script in scripts)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@each_example
def test_a_function_fits_on_a_screen(example: Path) -> None:
    for path in sources(example):
        if path.parent.name in ("support", "on_databricks"):
            continue
        long = {each.name for each in functions(path) if (each.end_lineno or 0) - each.lineno > LONGEST}
        assert not long, path


@each_example
def test_its_pages_name_every_entry_point_and_parameter(example: Path) -> None:
    for page in ("README.md", "README.fr.md"):
        text = (example / page).read_text(encoding="utf-8")
        for name, entry_point in entry_points(example).items():
            for word in (name, *entry_point.get("parameters", {})):
                assert f"`{word}`" in text, f"{page}: {word}"


@each_example
def test_its_pages_lead_to_their_translation_and_to_no_file_outside_it(example: Path) -> None:
    assert "(README.fr.md)" in (example / "README.md").read_text(encoding="utf-8")
    assert "(README.md)" in (example / "README.fr.md").read_text(encoding="utf-8")
    for page in example.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text):
            if "://" not in target:
                path = (page.parent / target).resolve()
                assert path.is_relative_to(example), f"{page} leads out of the example: {target}"
                assert path.exists(), f"{page}: {target}"
