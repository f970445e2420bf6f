"""What the dossier says of facts that agree or not, and the form of its pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from examples import module

dossier: Any = module("registry_deploy", "dossier")


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
    assert dossier.check(stated, other, "the run") == told


def test_a_page_in_markdown_and_html_shows_what_stands_in_the_registry_as_text() -> None:
    page = {"Facts": pd.DataFrame({"fact": ["description"], "value": ["a|b\n<script>alert(1)</script>" + "x" * 99]})}
    row = f"| description | a\\|b <script>alert(1)</script>{'x' * 99} |"
    assert row in dossier.markdown("T", "I", page).splitlines()
    tags: list[str] = []
    texts: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    reader.handle_data = texts.append  # type: ignore[assignment,method-assign]
    reader.feed(dossier.html("<T>", "I", page))
    assert "script" not in tags
    assert tags.count("tr") == 2
    assert any(text.endswith("x" * 99) for text in texts)  # whole, however long


def test_limits_name_what_is_not_known_contradicted_or_undecided() -> None:
    columns = ["what", "value", "check"]
    first = [["x", "not known", ""], ["y", "1", "CONTRADICTED by z: 2"], ["w", "1", "confirmed by z"]]
    page = {
        "A": pd.DataFrame(first, columns=columns),
        "B": pd.DataFrame([["slice g", "3 rows", "undecided"]], columns=columns),
        "C": pd.DataFrame(columns=columns),
    }
    rows = [row[0] for row in dossier.limits(True, page).to_numpy().tolist()]
    assert rows[:4] == [
        "A: x: not known",
        "A: y: CONTRADICTED by z: 2",
        "B: slice g: undecided",
        "C: nothing is recorded",
    ]
    assert "no commit" in rows[4]
