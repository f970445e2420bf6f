"""The report of the benchmarks says, in both languages, what was measured, and so do the pages that quote it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from string import Template

import pytest
from running import COLLECTION

BENCHMARKS = COLLECTION / "benchmarks"
REPORTS = ["REPORT.md", "REPORT.fr.md"]


def test_the_report_is_what_the_results_say(tmp_path: Path) -> None:
    """Written anew from the results that are kept: nothing is measured, and no word changes."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(BENCHMARKS, folder, ignore=shutil.ignore_patterns("REPORT*", "*.png", "__pycache__"))
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    command = [sys.executable, "report.py", "--only_write"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for report in REPORTS:
        assert (folder / report).read_text(encoding="utf-8") == (BENCHMARKS / report).read_text(encoding="utf-8")
    assert {path.name for path in folder.glob("*.png")} == {"report.png", "report.fr.png"}


def test_both_languages_have_every_figure_of_every_piece() -> None:
    english, french = (
        Template((BENCHMARKS / name).read_text(encoding="utf-8")).get_identifiers()
        for name in ("template.md", "template.fr.md")
    )
    assert english == french
    kept = {path.stem for path in (BENCHMARKS / "results").iterdir()}
    assert {name.removesuffix("_made") for name in english if name.endswith("_made")} == kept
    for report in REPORTS:
        lines = (BENCHMARKS / report).read_text(encoding="utf-8").splitlines()
        assert {line for line in lines if "| –" in line} <= {"| conda | – |"}


@pytest.mark.parametrize("example", ["classification", "clustering"])
def test_the_page_of_an_example_quotes_what_was_measured(example: str) -> None:
    rounds = json.loads((BENCHMARKS / "results" / "tracking.json").read_text())["found"][example]
    page = " ".join((COLLECTION / example / "README.md").read_text(encoding="utf-8").split())
    for above, below in (("apart", "main"), ("main", "floor"), ("script", "floor")):
        ratios = [each[above] / each[below] for each in rounds]
        assert f"{statistics.median(ratios):.2f} times" in page
        assert f"({min(ratios):.2f} to {max(ratios):.2f})" in page


def test_the_page_of_the_registry_quotes_what_onnx_was_measured_to_save() -> None:
    found = json.loads((BENCHMARKS / "results" / "serving.json").read_text())["found"]
    page = " ".join((COLLECTION / "registry_deploy" / "README.md").read_text(encoding="utf-8").split())
    for classifier, rounds in found.items():
        rates = [[each[form]["requests_per_cpu_second"] for each in rounds] for form in ("ONNX", "DataFrame")]
        ratios = [onnx / frame for onnx, frame in zip(*rates, strict=True)]
        assert f"{statistics.median(ratios):.1f} times" in page, classifier
        assert f"({min(ratios):.1f} to {max(ratios):.1f})" in page, classifier


STORE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import measuring
folder = Path(sys.argv[2])
print(measuring.surroundings(folder)[1].get_experiment("0").artifact_location == str(folder / "mlruns" / "0"))
"""


def test_what_is_measured_leaves_nothing_where_it_was_started(tmp_path: Path) -> None:
    store, here = tmp_path / "store", tmp_path / "here"
    store.mkdir()
    here.mkdir()
    command = [sys.executable, "-c", STORE, str(BENCHMARKS), str(store)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr
    assert not list(here.iterdir())
