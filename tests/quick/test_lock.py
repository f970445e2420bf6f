"""The pins are those of one resolution, as far as that shows without resolving: tests/test_collection.py does that."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import lock

PYPROJECT: dict[str, Any] = tomllib.loads((lock.FOLDER / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, set[str]]:
    """The versions that a requirements file pins, by package; some have one for each platform."""
    found: dict[str, set[str]] = {}
    for line in (lock.FOLDER / name).read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.lstrip().startswith("#"):
            package, version = line.split(";")[0].strip().split("==")
            found.setdefault(package, set()).add(version)
    return found


def asked(group: str) -> list[Requirement]:
    """What a dependency group asks for, with the groups that it includes."""
    found = []
    for each in PYPROJECT["dependency-groups"][group]:
        found += [Requirement(each)] if isinstance(each, str) else asked(each["include-group"])
    return found


@pytest.mark.parametrize("name", lock.files())
def test_what_is_asked_for_is_pinned_and_at_the_versions_of_the_collection(name: str) -> None:
    here, everywhere = pins(name), pins("requirements.txt")
    assert all(versions <= everywhere[package] for package, versions in here.items())
    for requirement in [each for group in lock.files()[name] for each in asked(group)]:
        versions = here.get(requirement.name.lower(), set())
        assert versions, f"run make lock: {requirement}"
        assert all(version in requirement.specifier for version in versions), f"run make lock: {requirement}"


@pytest.mark.parametrize("conda", lock.digests(), ids=lambda path: path.parent.name)
def test_a_conda_environment_is_python_pip_and_the_pins_whose_digest_it_carries(conda: Path) -> None:
    requirements = lock.digests()[conda]
    text = conda.read_text(encoding="utf-8")
    assert text == lock.with_digest(conda, requirements), "run make lock"
    assert yaml.safe_load(text) == {
        "name": conda.parent.name if conda.parent != lock.FOLDER else PYPROJECT["project"]["name"],
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "pip", {"pip": [f"-r {requirements.name}"]}],
    }


def test_the_python_of_the_environments_is_one_that_the_collection_is_for() -> None:
    assert "3.11" in SpecifierSet(PYPROJECT["project"]["requires-python"])
