"""What hosting sites read: the citation and the templates of issues."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

COLLECTION = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((COLLECTION / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_citation_names_the_version_and_the_licence() -> None:
    citation = yaml.safe_load((COLLECTION / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((COLLECTION / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.stem)
def test_a_template_has_what_an_issue_form_needs(template: Path) -> None:
    form = yaml.safe_load(template.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    assert all(part["attributes"]["label"] for part in form["body"])
