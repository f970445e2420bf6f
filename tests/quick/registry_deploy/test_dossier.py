"""The words of the dossier and the form of its pages."""

from __future__ import annotations

import ast
from functools import partial
from html.parser import HTMLParser
from string import Formatter
from typing import Any

import pytest
from examples import COLLECTION, module

dossier: Any = module("registry_deploy", "dossier")
FRENCH: dict[str, str] = dossier.in_language.__globals__["FRENCH"]
english = partial(dossier.in_language, "en")


def test_each_sentence_has_its_french_and_no_french_is_left_over() -> None:
    tree = ast.parse((COLLECTION / "registry_deploy" / "dossier.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say"]
    said = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert said <= set(FRENCH)
    decided_elsewhere = {"pending", "refused", "undecided", "promoted"}  # by the gate
    assert set(FRENCH) - texts - decided_elsewhere - {""} == set()
    for text, french in FRENCH.items():
        fields = [sorted(str(name) for _, name, _, _ in Formatter().parse(each)) for each in (text, french)]
        assert set(fields[0]) - {"None"} == set(fields[1]) - {"None"}, text


@pytest.mark.parametrize(
    ("stated", "other", "told"),
    [
        ("a", "a", "confirmed by the run"),
        (3, "3", "confirmed by the run"),
        ("a", "b", "CONTRADICTED by the run: b"),
        ("a", None, "stated in one place only"),
        (None, "a", "stated in one place only"),
        (None, None, ""),
    ],
)
def test_a_fact_is_confirmed_contradicted_or_stated_once(stated: Any, other: Any, told: str) -> None:
    assert dossier.check(english, stated, other, "the run") == told


def test_a_page_in_markdown_and_html_shows_what_stands_in_the_registry_as_text() -> None:
    section = dossier.Section("Facts", ["fact", "value"], [["description", "a|b\n<script>alert(1)</script>"]])
    assert "| description | a\\|b <script>alert(1)</script> |" in dossier.markdown("T", "I", [section]).splitlines()
    tags: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    reader.feed(dossier.html("<T>", "I", [section], "en"))
    assert "script" not in tags
    assert tags.count("tr") == 2


def test_limits_name_what_is_not_known_contradicted_or_undecided() -> None:
    known = type("Known", (), {"tags": {"git_dirty": "true"}})
    sections = [
        dossier.Section(
            "A", [], [["x", "not known", ""], ["y", "1", "CONTRADICTED by z: 2"], ["w", "1", "confirmed by z"]]
        ),
        dossier.Section("B", [], [["slice g", "3 rows", "undecided"]]),
        dossier.Section("C", [], []),
    ]
    rows = [row[0] for row in dossier.limits(known, sections, english).rows]
    assert rows[:4] == [
        "A: x: not known",
        "A: y: CONTRADICTED by z: 2",
        "B: slice g: undecided",
        "C: nothing is recorded",
    ]
    assert "no commit" in rows[4]
