"""The report of the benchmarks has the same figures in both languages, and the pages quote none that it has not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template

import pytest
from examples import COLLECTION

BENCHMARKS = COLLECTION / "benchmarks"
REPORTS = ["REPORT.md", "REPORT.fr.md"]
PIECES = {path.stem for path in (BENCHMARKS / "results").iterdir()}
SPREAD = r"(\d+\.\d+) times[^.()]*\((\d+\.\d+) to (\d+\.\d+)\)"  # 1.96 times its floor (1.93 to 2.01)


def test_both_languages_have_every_figure_of_every_piece() -> None:
    english, french = (
        Template((BENCHMARKS / name).read_text(encoding="utf-8")).get_identifiers()
        for name in ("template.md", "template.fr.md")
    )
    assert english == french
    assert {name.removesuffix("_made") for name in english if name.endswith("_made")} == PIECES
    for report in REPORTS:
        lines = (BENCHMARKS / report).read_text(encoding="utf-8").splitlines()
        assert {line for line in lines if "| –" in line} <= {"| conda | – |"}


@pytest.mark.parametrize("name", sorted(PIECES))
def test_each_piece_says_which_commit_was_measured(name: str) -> None:
    commit = json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())["commit"]
    assert re.fullmatch(r"(v.*|[0-9a-f]{7,40})(-dirty)?", commit)


PAGES = [*COLLECTION.glob("*.md"), *COLLECTION.glob("docs/*.md"), *COLLECTION.glob("*/README.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(COLLECTION)))
def test_a_ratio_with_its_spread_on_a_page_is_one_of_the_report(page: Path) -> None:
    report = (BENCHMARKS / "REPORT.md").read_text(encoding="utf-8")
    for middle, low, high in re.findall(SPREAD, " ".join(page.read_text(encoding="utf-8").split())):
        assert f"{middle} ({low} to {high})" in report, page
