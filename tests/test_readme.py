"""The pages say what happens: their commands are run in a fresh copy, their quoted output is compared, and the French
says what the English says.

On a page, an indented line is a command to type in the collection's folder, and a ```text block quotes what the command
before it prints. `<run id>` stands for the run of the first model that a command on the page printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from git_server import copy_collection
from running import COLLECTION, Store

PAGES = [
    COLLECTION / "README.md",
    *sorted(COLLECTION.glob("[a-z]*/README.md")),
    *sorted(COLLECTION.glob("[a-z]*/data/README.md")),
    *sorted(page for page in COLLECTION.glob("docs/*.md") if not page.name.endswith(".fr.md")),
]
NAMES = [str(page.relative_to(COLLECTION).with_suffix("")) for page in PAGES]
# `make test` is what runs this test.
NOT_RUN = {"make test"}


@dataclass
class Step:
    """A command on a page, and what the page quotes of its output."""

    command: str
    quoted: list[str] = field(default_factory=list)


def french(page: Path) -> Path:
    """The French twin of a page."""
    return page.with_suffix(".fr.md")


def steps(page: Path) -> list[Step]:
    """The commands of a page, in order, each with its quoted output."""
    found: list[Step] = []
    quoting = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            quoting = line == "```text"
        elif quoting and found:
            found[-1].quoted.append(line)
        elif line.startswith("    ") and line.strip():
            found.append(Step(line.strip()))
    return found


def figures(line: str) -> list[float]:
    """The numbers in a line, without those that say how long something took."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?(?! s\b)(?![\d.])", line)]


def words(line: str) -> list[str]:
    """What is not a number in a line; the hexadecimal names of runs and models count as numbers."""
    return re.sub(r"\b[0-9a-f]{32}\b|-?\d+(?:\.\d+)?(?:e-?\d+)?", "#", line).split()


def quotes(quoted: str, printed: str) -> bool:
    """Whether a printed line is the quoted one, its figures within 2 % or 0.02."""
    return words(quoted) == words(printed) and all(
        abs(one - other) <= max(0.02, 0.02 * abs(one))
        for one, other in zip(figures(quoted), figures(printed), strict=False)
    )


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_both_languages_have_the_same_parts(page: Path) -> None:
    def parts(text: str) -> dict[str, list[str]]:
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return {
            "headings": [line.split()[0] for line in prose.splitlines() if line.startswith("#")],
            "rows": [str(line.count("|")) for line in prose.splitlines() if line.startswith("|")],
            "items": [line[0] for line in prose.splitlines() if line.startswith(("- ", "1. "))],
            "commands": [line for line in prose.splitlines() if line.startswith("    ")],
            "code": re.findall(r"```.*?```", text, flags=re.DOTALL),
        }

    def names(text: str) -> set[str]:
        return {re.sub("<[^>]+>", "<>", name) for name in re.findall(r"`([^`\n]+)`", text)}

    one, other = (path.read_text(encoding="utf-8") for path in (page, french(page)))
    assert parts(other) == parts(one)
    assert names(one) <= names(other)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_french_has_no_break_before_its_high_punctuation(page: Path) -> None:
    text = french(page).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|`[^`\n]*`|^    [^\n]*$|https?://\S+", "", text, flags=re.DOTALL | re.MULTILINE)
    breaking = [line for line in prose.splitlines() if re.search(r"[ \w][;:!?»](?:\s|$)|«[ \w]", line)]
    assert not [line for line in breaking if not re.match(r"\|[-|: ]+\|$", line)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for language in (page, french(page)):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", language.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (language.parent / target).exists(), f"{language}: {target}"


@pytest.mark.parametrize("page", ["classification", "clustering"])
def test_the_page_does_what_it_says(page: str, store: Store, penguins: Path, tmp_path: Path) -> None:
    copy_collection(tmp_path)
    shutil.copy(penguins, tmp_path)
    table = pd.DataFrame(
        {"customer_id": range(200), "amount": [row % 50 for row in range(200)], "left": ["no", "yes"] * 100}
    )
    table.to_csv(tmp_path / "my.csv", index=False)
    table.drop(columns="left").assign(other=[row % 7 for row in range(200)]).to_parquet(tmp_path / "table.parquet")
    first_model = ""
    for step in steps(tmp_path / page / "README.md"):
        assert "<run id>" not in step.command or first_model, "no model before this command"
        command = step.command.replace("<run id>", first_model).replace("/full/path/of", str(tmp_path))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=store.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        printed = done.stdout.splitlines()
        assert (done.returncode == 0) != any(line.startswith("Error:") for line in step.quoted), done.stdout
        for quoted in (line for line in step.quoted if line.strip(" .")):
            assert any(quotes(quoted, line) for line in printed), f"{command}\n{quoted}\n{done.stdout}"
        model = re.search(r"runs:/([0-9a-f]{32})/model", done.stdout)
        first_model = first_model or (model[1] if model else "")


# What a step changes in the shell, so that the next one, which has a shell of its own, begins with it too.
LASTING = ("source ", "export ", "cd ")


def bare_environment() -> dict[str, str]:
    """That of a terminal on a machine with Python and make, with nothing of the tests' own environment in reach."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "VIRTUAL_", "PYTEST_"))}
    here = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if part != here)
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true"}


def follow(page: Path, folder: Path) -> None:
    """Type the commands of a page into one terminal in a folder; each prints what the page quotes."""
    lasting: list[str] = []
    for step in steps(page):
        if step.command in NOT_RUN:
            continue
        done = subprocess.run(
            ["bash", "-c", "\n".join([*lasting, step.command])],
            cwd=folder,
            env=bare_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{step.command}\n{done.stdout}"
        for quoted in (line for line in step.quoted if line.strip(" .")):
            assert any(quotes(quoted, line) for line in done.stdout.splitlines()), f"{quoted}\n{done.stdout}"
        if step.command.startswith(LASTING):
            lasting.append(step.command)


def test_a_newcomer_with_this_page_alone_reaches_a_served_prediction(tmp_path: Path) -> None:
    copy_collection(tmp_path)
    follow(tmp_path / "README.md", tmp_path)
    assert (tmp_path / "mlflow.db").exists()
    assert (tmp_path / "mlruns").is_dir()
    assert not list((tmp_path / "classification").glob("mlflow.db*"))


def test_installing_as_the_page_says(tmp_path: Path) -> None:
    copy_collection(tmp_path)
    follow(tmp_path / "docs" / "install.md", tmp_path)
