"""Write the reference of entry points and parameters, in both languages, from the MLproject files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import yaml

FOLDER = Path(__file__).resolve().parent
COLLECTION = FOLDER.parent

ENTRY_POINT = re.compile(r"^  (\w+):\s*(?:#\s*(?P<comment>.+))?$")
PARAMETER = re.compile(r"^ +(\w+): \{[^}]*\}\s*(?:#\s*(?P<comment>.+))?$")


class Language(NamedTuple):
    """The words of a page. contents: what stands above its table of contents."""

    suffix: str
    other: str
    title: str
    introduction: str
    top: str
    heading: str
    required: str
    none: str


LANGUAGES = [
    Language(
        suffix=".md",
        other="[Français](reference.fr.md)",
        title="Reference: entry points and parameters",
        introduction="`python docs/reference.py` writes this page from the `MLproject` files.\n"
        "`mlflow run FOLDER -e ENTRY_POINT -P PARAMETER=VALUE` runs an entry point; without `-e` it is `main`.\n"
        "Only parameters marked as required must be given.",
        top="the collection",
        heading="| parameter | default | meaning |",
        required="required",
        none="It has no parameters.",
    ),
    Language(
        suffix=".fr.md",
        other="[English](reference.md)",
        title="Référence : points d’entrée et paramètres",
        introduction="`python docs/reference.py` écrit cette page à partir des fichiers `MLproject`, dont les\n"
        "descriptions sont en anglais. `mlflow run FOLDER -e ENTRY_POINT -P PARAMETER=VALUE` exécute un point\n"
        "d’entrée ; sans `-e`, c’est `main`. Seuls les paramètres marqués « obligatoire » doivent être donnés.",
        top="la collection",
        heading="| paramètre | valeur par défaut | signification |",
        required="obligatoire",
        none="Il n’a aucun paramètre.",
    ),
]


class Parameter(NamedTuple):
    """A parameter of an entry point. default: None where it must be given."""

    name: str
    default: object
    comment: str


class EntryPoint(NamedTuple):
    """An entry point, what its comment says, and its parameters."""

    name: str
    comment: str
    parameters: list[Parameter]


def entry_points(mlproject: Path) -> list[EntryPoint]:
    """The entry points of an MLproject file, with the comments behind their names and parameters.

    A parameter without a comment has that of the first one of the same name and default.
    """
    text = mlproject.read_text(encoding="utf-8")
    about, own = comments(text)
    shared: dict[tuple[str, object], str] = {}
    found = []
    for name, described in yaml.safe_load(text)["entry_points"].items():
        parameters = []
        for key, value in (described.get("parameters") or {}).items():
            default = value.get("default")
            comment = own.get((name, key)) or shared.get((key, default), "")
            shared.setdefault((key, default), comment)
            parameters.append(Parameter(key, default, comment))
        found.append(EntryPoint(name, about.get(name, ""), parameters))
    return found


def comments(text: str) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """The comments of an MLproject file: by entry point, and by entry point and parameter."""
    about: dict[str, str] = {}
    own: dict[tuple[str, str], str] = {}
    current = ""
    for line in text.partition("entry_points:")[2].splitlines():
        if found := ENTRY_POINT.match(line):
            current = found[1]
            about[current] = found["comment"] or ""
        elif (found := PARAMETER.match(line)) and found["comment"]:
            own[current, found[1]] = found["comment"]
    return about, own


def page(language: Language) -> str:
    """The page in a language, in Markdown."""
    projects = [COLLECTION / "MLproject", *sorted(COLLECTION.glob("*/MLproject"))]
    names = [language.top, *(path.parent.name for path in projects[1:])]
    lines = [f"# {language.title}", "", language.other, "", language.introduction, ""]
    lines += [f"- [{name}](#{name.replace(' ', '-')})" for name in names]
    for name, mlproject in zip(names, projects, strict=True):
        lines += ["", f"## {name}"]
        for entry_point in entry_points(mlproject):
            lines += ["", f"### {entry_point.name}", ""]
            lines += [f"{entry_point.comment[0].upper()}{entry_point.comment[1:]}.", ""] if entry_point.comment else []
            if not entry_point.parameters:
                lines.append(language.none)
                continue
            lines += [language.heading, "|---|---|---|"]
            lines += [row(parameter, language) for parameter in entry_point.parameters]
    return "\n".join(lines) + "\n"


def row(parameter: Parameter, language: Language) -> str:
    """A line of the table of parameters."""
    default = language.required if parameter.default is None else f"`{parameter.default}`"
    comment = re.sub(r"[<>|]", lambda sign: f"\\{sign[0]}", parameter.comment)
    return f"| `{parameter.name}` | {'' if parameter.default == '' else default} | {comment} |"


def pages() -> dict[Path, str]:
    """The path of each page, and what stands in it."""
    return {FOLDER / f"reference{language.suffix}": page(language) for language in LANGUAGES}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
