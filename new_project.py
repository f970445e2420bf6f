"""Write an MLflow Project of your own, which learns a column of your table:

mlflow run . -e new_project -P name=wine -P data="$PWD/wine.csv" -P target=quality -P output="$PWD/wine"

Its files come from the folder new_project/; what they import of classification/ and support/ is copied with them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import click
import mlflow
import pandas as pd

from support.entry_point import describe_run, run_command
from support.inputs import to_frame
from support.kinds import Kind, decide, parse_kinds
from support.names import pick_names
from support.parameters import option
from support.table import OpenedTable, absolute, bad, is_catalog_name, is_url, open_table
from support.texts import in_markdown, shown

FOLDER = Path(__file__).resolve().parent
TEMPLATES = FOLDER / "new_project"
# Each file of a project, and its template: {task} is a folder, {language} the end of a name.
FILES = {
    "MLproject": "{task}/MLproject.yaml",
    "conda.yaml": "conda.yaml",
    "requirements.txt": "requirements.txt",
    "train.py": "{task}/train.py",
    "predict.py": "common/predict.py",
    "test_project.py": "common/test_project.py",
    "README.md": "common/README{language}.md",
    ".gitignore": "common/gitignore",
    ".github/workflows/test.yml": "common/test.yml",
}
TASKS = ("classification", "regression")
MOST_CLASSES = 20  # more different whole numbers are amounts, not classes
FEWEST_ROWS = 4  # of a class, so that training and test have some
LARGEST_COPY = 50_000_000  # bytes of a table that is copied into the project: Git is not made for larger ones

# What the README says of a column.
WORDS = {
    "en": {
        "target": "the target",
        "left out": "left out",
    },
    "fr": {
        "target": "la cible",
        "left out": "écartée",
        "number": "nombre",
        "category": "catégorie",
        "boolean": "vrai ou faux",
        "date": "date",
        "text": "texte libre",
        "identifier": "identifiant",
        "constant": "constante",
        "empty": "vide",
    },
}

OPTIONS = [
    click.Option(["--name"], required=True, help="Of the project: letters, digits, - and _."),
    click.Option(["--data"], required=True, help="Path or URL of a table."),
    click.Option(["--target"], required=True, help="The column to predict."),
    click.Option(["--output"], required=True, help="The folder to write; it must not exist, or be empty."),
    option("language", click.Choice(["en", "fr"]), "en", "Of the README, and of what the project prints and draws."),
    option("task", click.Choice(["", *TASKS]), "", "What to learn; otherwise the values of the target decide."),
    option("positive", help="The positive of two classes."),
    option("drop", help="Columns to leave out."),
    option("kinds", help="What columns are, where the guess is wrong."),
    option("missing_values", help="Texts that stand for a missing value."),
]


@click.command(params=OPTIONS)
def new_project(name: str, data: str, target: str, output: str, language: str, task: str, **given: str) -> None:
    """Read the table, find out what there is to learn, and write the project."""
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
        raise bad("name", name, "is not a name: a letter first, then letters, digits, - and _.")
    folder = _new_folder(output)
    table = open_table(data)
    [target] = pick_names("target", [target], table.names)
    kinds = _kinds(table, target, given)
    task = task or guessed_task(table, target, kinds[target])
    if task == "regression" and kinds[target].kind != "number":  # texts, or whole numbers that look like an identifier
        given["kinds"] = json.dumps({**parse_kinds(given["kinds"], table.names), target: "number"}, ensure_ascii=False)
        kinds = _kinds(table, target, given)
    frame = to_frame(
        table, {column: kind for column, kind in kinds.items() if kind.learnable} | {target: kinds[target]}
    )
    check_target(frame[target], task, given["positive"])

    with mlflow.start_run() as run, tempfile.TemporaryDirectory(dir=folder.parent) as made:
        describe_run(run, "new_project")
        project = Path(made) / "project"
        values = {"name": name, "target": target, "data": data_of(data, project), **given}
        write(project, task, language, values)
        readme = project / "README.md"
        text = readme.read_text(encoding="utf-8").replace("@columns@", columns(frame, kinds, target, language))
        readme.write_text(text, encoding="utf-8")
        if folder.exists():  # empty
            folder.rmdir()
        project.rename(folder)
        mlflow.set_tags({"task": task, "project": str(folder)})
    for note in table.notes:
        click.echo(note, err=True)
    say(folder, task, frame[target])


def _new_folder(output: str) -> Path:
    """The folder to write. Raises click.BadParameter where it cannot be made, or holds something."""
    folder = Path(os.path.normpath(Path(output).expanduser()))
    if not folder.is_absolute():
        raise bad("output", output, f'is relative: give the full path, "$PWD/{output}".')
    if not folder.parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise bad("output", output, "exists: give the name of a new folder.")
    if not os.access(folder.parent, os.W_OK):
        raise bad("output", output, "lies in a folder in which you cannot write.")
    return folder


def _kinds(table: OpenedTable, target: str, given: dict[str, str]) -> dict[str, Kind]:
    """What the columns are. Raises click.BadParameter where there is nothing to learn, or nothing to learn from."""
    dropped = pick_names("drop", given["drop"], table.names)
    if target in dropped:
        raise bad("drop", target, "is the target.")
    table.notes.clear()
    kinds = decide(table, given["kinds"], given["missing_values"], drop=dropped, asked=[target])
    if kinds[target].kind in ("constant", "date", "empty"):
        raise bad("target", target, f"{kinds[target].reason}: there is nothing to learn.")
    if not any(kind.learnable for name, kind in kinds.items() if name != target):
        raise bad("data", table.source, "has no column to learn from.")
    return kinds


def guessed_task(table: OpenedTable, target: str, kind: Kind) -> str:
    """Regression where the target holds amounts: numbers with decimals, or more whole numbers than classes would be."""
    values = to_frame(table, {target: kind})[target].dropna()
    if kind.kind == "identifier":
        values = pd.to_numeric(values, errors="coerce").astype("float64")
    if values.dtype != "float64" or values.isna().any():
        return "classification"
    counts = values.value_counts()
    amounts = (values % 1).any() or len(counts) > MOST_CLASSES or counts.min() < FEWEST_ROWS
    return "regression" if amounts else "classification"


def check_target(y: pd.Series, task: str, positive: str) -> None:
    """Refuse by click.BadParameter a target (rows,) that cannot be learnt."""
    name = str(y.name)
    if y.isna().any():
        raise bad("target", name, f"has {int(y.isna().sum())} missing values: every row needs one.")
    if task == "regression":
        if positive:
            raise bad("positive", positive, "needs a target with two classes; this one holds amounts.")
        if len(y) < 2 * FEWEST_ROWS:
            raise bad("target", name, f"has {len(y)} rows: at least {2 * FEWEST_ROWS} are needed.")
        return
    counts = y.value_counts()
    if y.dtype == "float64" and (y % 1).any():
        raise bad("task", task, f"needs classes, and {name} holds numbers with decimals: task=regression learns them.")
    if counts.min() < FEWEST_ROWS:
        few = f"has {counts.min()} rows of class {shown(counts.idxmin())}"
        raise bad("target", name, f"{few}: at least {FEWEST_ROWS} of each are needed.")
    classes = [str(int(label)) if isinstance(label, float) else str(label) for label in sorted(counts.index)]
    if positive and (len(classes) != 2 or positive not in classes):
        raise bad("positive", positive, f"is not one of two classes; the target has: {', '.join(classes)}.")


def data_of(data: str, project: Path) -> str:
    """What the project calls the table by: a small file is copied into its folder data/."""
    if is_url(data) or is_catalog_name(data):
        return data
    file = Path(absolute(data))
    if file.stat().st_size > LARGEST_COPY:
        return str(file)
    (project / "data").mkdir(parents=True)
    shutil.copy(file, project / "data")
    return f"data/{file.name}"


def columns(frame: pd.DataFrame, kinds: dict[str, Kind], target: str, language: str) -> str:
    """The rows of the README's table: each column, what it is, its missing values, and what it holds.

    frame: the columns that are learnt, and the target.
    """
    words, rows = WORDS[language], []
    for name, kind in kinds.items():
        about = [words.get(kind.kind, kind.kind)] + [words["target"]] * (name == target)
        missing = holds = ""
        if name in frame:
            values = frame[name].dropna()
            missing = str(len(frame) - len(values))
            some = ", ".join(str(value) for value in values.value_counts().index[:5])
            numbers = values.dtype == "float64" and len(values) > 0
            holds = some + ", …" * (values.nunique() > 5)
            if numbers:
                holds = f"{values.min():g} … {values.max():g}".replace(".", "," if language == "fr" else ".")
        else:
            about.append(words["left out"])
        rows.append(f"| {in_markdown(name)} | {', '.join(about)} | {missing} | {in_markdown(holds)} |")
    return "\n".join(rows)


def write(project: Path, task: str, language: str, values: dict[str, str]) -> None:
    """Write the files of a project, and in its support/ what they import of the collection.

    values: what stands in the templates between two @.
    """
    values = {**values, "language": language}
    for name, template in FILES.items():
        path = project / name
        source = TEMPLATES / template.format(task=task, language=".fr" if language == "fr" else "")
        text = source.read_text(encoding="utf-8")
        if path.suffix == ".md":
            text = re.sub(r"@(\w+)@", lambda found: values.get(found[1], found[0]), text)
        else:  # a string of Python or YAML
            text = re.sub('"@(\\w+)@"', lambda found: json.dumps(values[found[1]], ensure_ascii=False), text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_from_support(text), encoding="utf-8")
    support = project / "support"
    support.mkdir()
    wanted = [FOLDER / "support" / "__init__.py", *_imported(TEMPLATES / task / "train.py")]
    wanted += _imported(TEMPLATES / "common" / "predict.py")
    for source in wanted:
        mark = f"# From {source.relative_to(FOLDER).as_posix()} of the MLproject collection (Apache License 2.0).\n"
        (support / source.name).write_text(mark + _from_support(source.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copy(FOLDER / "LICENSE", support)


def _sources() -> dict[str, Path]:
    """The modules that a template may import, by the name under which it does."""
    shared = {f"support.{path.stem}": path for path in (FOLDER / "support").glob("*.py")}
    return shared | {path.stem: path for path in (FOLDER / "classification").glob("*.py")}


def _imported(path: Path) -> set[Path]:
    """The files of the collection that a Python file imports, and those that they import in turn."""
    sources, found, new = _sources(), set[Path](), {path}
    while new:
        text = "\n".join(each.read_text(encoding="utf-8") for each in new)
        names = {*re.findall(r"^ *from ([\w.]+) import", text, re.MULTILINE)}
        names |= {f"support.{name}" for name in re.findall(r"^ *from support import (\w+)", text, re.MULTILINE)}
        new = {sources[name] for name in names if name in sources} - found
        found |= new
    return found


def _from_support(text: str) -> str:
    """Python whose imports of classification's modules find them in support/."""
    names = "|".join(name for name in _sources() if "." not in name)
    return re.sub(rf"^( *from )({names})( import )", r"\1support.\2\3", text, flags=re.MULTILINE)


def say(folder: Path, task: str, y: pd.Series) -> None:
    """Print what was made, and what to type next."""
    learnt = "amounts" if task == "regression" else f"{y.nunique()} classes"
    click.echo(f"{folder}: an MLflow Project that learns {learnt} of {y.name} ({task}).")
    if task == "classification" and y.dtype == "float64" and y.nunique() > 2:
        click.echo("To learn them as amounts instead, give -P task=regression and another folder.")
    click.echo(f"Next:\n    cd {shlex.quote(str(folder))}\n    mlflow run . --env-manager local")


if __name__ == "__main__":
    run_command(new_project)
