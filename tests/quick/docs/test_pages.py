"""Both languages of a page say the same, links lead somewhere, and what a page lists is what there is."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest
from pages import french, load, steps

from support.french import FRENCH

COLLECTION = Path(__file__).resolve().parents[3]
DOCS = COLLECTION / "docs"
PAGES = [
    COLLECTION / "README.md",
    *sorted(COLLECTION.glob("[a-z]*/README.md")),
    *sorted(COLLECTION.glob("[a-z]*/data/README.md")),
    *sorted(page for page in COLLECTION.glob("docs/*.md") if not page.name.endswith(".fr.md")),
    COLLECTION / "benchmarks" / "REPORT.md",
    COLLECTION / "new_project" / "common" / "README.md",
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(COLLECTION).with_suffix("")))

NBSP = "\N{NO-BREAK SPACE}"

# What is not prose on a page: blocks and spans of code, commands, targets of links, addresses.
CODE = r"```.*?```|`[^`\n]*`|^    [^\n]*$|\]\([^)]*\)|https?://\S+"

# Phrases that nobody says, and French words that have another meaning on these pages.
UNUSUAL = r"""
    \b lest \b | \b hence \b | \b thereof \b | \b whoever \b | \b whosoever \b | is\ not\ to\ be\ had | is\ to\ be\ had
    | gone\ on\ with | bears?\ (a|the)\ name | as\ dear \b | \b half\ as\ dear | who\ was\ champion\ when
    | ^\#+\ When\ it\ refuses | ^\#+\ How\ fast | and\ the\ way\ back
"""
UNUSUAL_FRENCH = r"""
    mod[eè]les?\ enregistrés?
    | \b la\ commande\ qui\ les\ apprend | fils\ d.un\ processus | prédire\ de\ nouveaux\ clients
    | ^\#+\ Quand\ .*\ refuse | le\ chemin\ du\ retour | \b épochs? \b
"""


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(CODE, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def in_english(text: str) -> str:
    """A command of a French page, or what it quotes of an output, as the English page has it."""
    text = text.replace(" -P language=fr", "").replace(" language=fr", "")
    for english, spoken in sorted(FRENCH.items(), key=lambda pair: -len(pair[1])):
        literal = re.split(r"{[^}]*}", spoken)
        word = "." if literal[0] else r"\S"  # the first word of a line
        if len("".join(literal)) > 3:
            values = [rf"(?P<{name}>{word}+?)" for name in re.findall(r"{(\w+)", spoken)]
            parts = [part for pair in zip_longest(map(re.escape, literal), values, fillvalue="") for part in pair]
            text = re.sub(r"(?<!\w)" + "".join(parts) + r"(?=[\s,.;:)]|$)", partial(_said, english), text)
    return text


def _said(english: str, found: re.Match[str]) -> str:
    """An English text with the values of the French one; numbers are those that have a format."""
    values = found.groupdict()
    for name in re.findall(r"{(\w+):", english):
        values[name] = values[name].replace(f"{NBSP}%", "%").translate(str.maketrans(f"{NBSP},", ",."))
    return re.sub(r"{(\w+)[^}]*}", lambda field: values[field[1]], english)


@each_page
def test_both_languages_have_the_same_parts(page: Path) -> None:
    def parts(text: str) -> dict[str, list[str]]:
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return {
            "headings": [line.split()[0] for line in outside.splitlines() if line.startswith("#")],
            "rows": [str(line.count("|")) for line in outside.splitlines() if line.startswith("|")],
            "items": [line[0] for line in outside.splitlines() if line.startswith(("- ", "1. "))],
            "commands": [in_english(line) for line in outside.splitlines() if line.startswith("    ")],
            "code": [" ".join(in_english(block).split()) for block in re.findall(r"```.*?```", text, flags=re.DOTALL)],
        }

    def names(text: str) -> set[str]:
        return {re.sub("<[^>]+>", "<>", name) for name in re.findall(r"`([^`\n]+)`", text)}

    one, other = (path.read_text(encoding="utf-8") for path in (page, french(page)))
    assert parts(other) == parts(one)
    assert names(one) <= names(other)


@each_page
def test_both_languages_have_the_same_figures(page: Path) -> None:
    def numbers(text: str, thousands: str, decimal: str) -> Counter[str]:
        joined = re.sub(rf"(?<=\d){thousands}(?=\d{{3}}\b)", "", text)
        return Counter(re.findall(r"\d+(?:\.\d+)?", re.sub(rf"(?<=\d){decimal}(?=\d)", ".", joined)))

    assert numbers(prose(french(page)), "\N{NO-BREAK SPACE}", ",") == numbers(prose(page), ",", r"\.")


@each_page
def test_french_has_no_break_before_its_high_punctuation(page: Path) -> None:
    if page.stem == "reference":  # its descriptions are in English
        return
    breaking = [line for line in prose(french(page)).splitlines() if re.search(r"[ \w][;:!?»](?:\s|$)|«[ \w]", line)]
    assert not [line for line in breaking if not re.match(r"\|[-|: ]+\|$", line)]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for language in (page, french(page)):
        for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", language.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            linked = language.parent / target if target else language
            assert linked.exists(), f"{language}: {target}"
            assert not anchor or anchor[1:] in anchors(linked), f"{language}: {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_the_wording_is_usual(page: Path) -> None:
    flags = re.VERBOSE | re.MULTILINE | re.IGNORECASE
    for language, unusual in ((page, UNUSUAL), (french(page), UNUSUAL_FRENCH)):
        found = [match[0] for match in re.finditer(unusual, language.read_text(encoding="utf-8"), flags)]
        assert not found, f"{language}: {found}"


def test_the_front_page_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)[^)]*\)", (COLLECTION / "README.md").read_text(encoding="utf-8")))
    pages = [page for page in PAGES if page.parent.name not in ("data", "common")]
    wanted = {str(page.relative_to(COLLECTION)) for page in pages} - {"README.md"}
    assert wanted <= linked | {"benchmarks/REPORT.md"}, wanted - linked


def test_the_first_command_is_git_clone() -> None:
    assert steps(COLLECTION / "README.md")[0].command.startswith("git clone https://")


def test_the_reference_is_that_of_the_mlproject_files() -> None:
    for path, text in load(DOCS / "reference.py").pages().items():
        assert path.read_text(encoding="utf-8") == text, "run `python docs/reference.py`"


def test_a_parameter_has_the_comment_of_the_first_one_of_its_name_and_default(tmp_path: Path) -> None:
    mlproject = tmp_path / "MLproject"
    mlproject.write_text(
        "entry_points:\n"
        "  main: # compare\n"
        "    parameters: &table\n"
        "      data: {type: string, default: my.csv} # a table\n"
        "      metric: {type: string, default: f1} # what is best\n"
        "    command: run\n"
        "  other:\n"
        "    parameters:\n"
        "      <<: *table\n"
        "      metric: {type: string, default: minkowski}\n"
        "      name: {type: string}\n"
        "    command: run\n",
        encoding="utf-8",
    )
    main, other = load(DOCS / "reference.py").entry_points(mlproject)
    assert main.comment == "compare"
    assert [tuple(parameter) for parameter in other.parameters] == [
        ("data", "my.csv", "a table"),
        ("metric", "minkowski", ""),
        ("name", None, ""),
    ]


def test_the_libraries_of_the_examples_are_explained() -> None:
    groups = tomllib.loads((COLLECTION / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    examples = ("classification", "clustering", "git_project", "registry_deploy", "watch")
    needed = {
        re.split(r"[>=<;\[ ]", package)[0]
        for name, group in groups.items()
        if name.startswith(examples)
        for package in group
        if isinstance(package, str)
    }
    explained = (DOCS / "mlflow.md").read_text(encoding="utf-8").partition("## The libraries")[2].lower()
    assert not [name for name in needed if f"`{name.lower()}`" not in explained]


@pytest.mark.parametrize("page", ["tracking-ui.md", "tracking-ui.fr.md"])
def test_the_guide_shows_every_picture_and_says_what_is_on_it(page: str) -> None:
    shown = re.findall(r"!\[([^\]]+)\]\(pictures/(\w+)\.png\)", (DOCS / page).read_text(encoding="utf-8"))
    pictures = {path.stem for path in (DOCS / "pictures").iterdir()}
    in_french = {name for name in pictures if name.endswith("_fr")}
    of_french = {name.removesuffix("_fr") for name in in_french}
    assert {name for _, name in shown} == pictures - (of_french if page.endswith(".fr.md") else in_french)
    assert all(len(alternative) > 60 for alternative, _ in shown)


def test_pictures_are_small() -> None:
    assert max(path.stat().st_size for path in (DOCS / "pictures").iterdir()) < 150_000


def test_what_contributing_names_is_there() -> None:
    """Functions, parameters, files and folders in code style."""
    page = (COLLECTION / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in COLLECTION.glob("*/*.py"))
    assert set(re.findall(r"`([a-z]+_\w+)(?:\(\))?`", page)) <= set(re.findall(r"\w+", code))
    for path in re.findall(r"`((?:tests|docs|support|new_project|on_databricks)/[\w/.-]*)`", page):
        assert (COLLECTION / path).exists(), path
