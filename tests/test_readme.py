"""The pages say what happens: their commands are run in a fresh copy, their quoted output is compared, and the French
says what the English says. `pages.py` tells how a page is read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from git_server import GitServer, Repository, copy_collection
from mlflow import MlflowClient
from pages import Step, french, quotes, steps
from running import COLLECTION, Store

PAGES = [
    COLLECTION / "README.md",
    *sorted(COLLECTION.glob("[a-z]*/README.md")),
    *sorted(COLLECTION.glob("[a-z]*/data/README.md")),
    *sorted(page for page in COLLECTION.glob("docs/*.md") if not page.name.endswith(".fr.md")),
    COLLECTION / "benchmarks" / "REPORT.md",
]
NAMES = [str(page.relative_to(COLLECTION).with_suffix("")) for page in PAGES]
# `make test` is what runs this test. The story takes a minute: registry_deploy/test_story.py runs and compares it.
NOT_RUN = {"make test"}
ELSEWHERE = {"mlflow run registry_deploy --env-manager local"}

# What is no prose on a page: blocks and spans of code, commands, targets of links, addresses.
CODE = r"```.*?```|`[^`\n]*`|^    [^\n]*$|\]\([^)]*\)|https?://\S+"


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
def test_both_languages_have_the_same_figures(page: Path) -> None:
    def numbers(text: str, thousands: str, decimal: str) -> Counter[str]:
        prose = re.sub(CODE, "", text, flags=re.DOTALL | re.MULTILINE)
        prose = re.sub(rf"(?<=\d){thousands}(?=\d{{3}}\b)", "", prose)
        return Counter(re.findall(r"\d+(?:\.\d+)?", re.sub(rf"(?<=\d){decimal}(?=\d)", ".", prose)))

    english = numbers(page.read_text(encoding="utf-8"), ",", r"\.")
    assert numbers(french(page).read_text(encoding="utf-8"), "\N{NO-BREAK SPACE}", ",") == english


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_french_has_no_break_before_its_high_punctuation(page: Path) -> None:
    text = french(page).read_text(encoding="utf-8")
    prose = re.sub(CODE, "", text, flags=re.DOTALL | re.MULTILINE)
    breaking = [line for line in prose.splitlines() if re.search(r"[ \w][;:!?»](?:\s|$)|«[ \w]", line)]
    assert not [line for line in breaking if not re.match(r"\|[-|: ]+\|$", line)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for language in (page, french(page)):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", language.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (language.parent / target).exists(), f"{language}: {target}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What has Git find the collection, tagged v1, at the address that the pages use."""
    folder = tmp_path / "served"
    repository = Repository(folder, tmp_path / "tree", "collection")
    copy_collection(repository.tree)
    repository.commit("The collection", tag="v1")
    with GitServer(folder) as server:
        yield {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{server.url('collection')}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://git.example.com/you/collection.git",
            "NO_PROXY": "127.0.0.1",
        }


@pytest.mark.parametrize("page", ["classification", "clustering", "git_project", "registry_deploy"])
def test_the_page_does_what_it_says(
    page: str, served: dict[str, str], penguins: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(page)
    copy_collection(folder)
    shutil.copy(penguins, folder)
    shutil.copy(COLLECTION / "registry_deploy" / "data" / "new_customers.jsonl", folder / "new.jsonl")
    table = pd.DataFrame(
        {"customer_id": range(200), "amount": [row % 50 for row in range(200)], "left": ["no", "yes"] * 100}
    )
    table.to_csv(folder / "my.csv", index=False)
    table.drop(columns="left").assign(other=[row % 7 for row in range(200)]).to_parquet(folder / "table.parquet")
    store = Store(tmp_path_factory.mktemp("store"))
    environment = {**store.environment, **served, "XDG_STATE_HOME": str(folder)}
    known: dict[str, str] = {}
    if page == "registry_deploy":  # it begins where a model has been trained
        trained = ["run", "classification", "-e", "decision_tree", "--env-manager=local"]
        assert store.mlflow(trained, environment=environment, folder=folder).code == 0
    for step in steps(folder / page / "README.md"):
        if step.command in ELSEWHERE:
            continue
        command = step.command.replace("/full/path/of", str(folder))
        for placeholder in re.findall("<run id.*?>", command):
            command = command.replace(placeholder, known[placeholder])
        done = store.mlflow(as_the_shell_reads(command, folder), environment=environment, folder=folder)
        printed = done.output.splitlines()
        assert (done.code == 0) != any(line.startswith("Error:") for line in step.quoted), done.output
        for quoted in (line for line in step.quoted if line.strip(" .")):
            assert any(quotes(quoted, line) for line in printed), f"{command}\n{quoted}\n{done.output}"
        if model := re.search(r"runs:/([0-9a-f]{32})/model", done.output):
            known.setdefault("<run id>", model[1])
        if done.begun:
            entry_point = re.search(r" -e (\w+)", command)
            known[f"<run id of {entry_point[1] if entry_point else 'main'}>"] = done.begun.info.run_id


def as_the_shell_reads(command: str, folder: Path) -> list[str]:
    """The arguments that a command line gives to `mlflow`."""
    assert command.startswith("mlflow ")
    script = f'mlflow() {{ printf "%s\\0" "$@"; }}\n{command}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


# What a step changes in the shell, so that the next one, which has a shell of its own, begins with it too.
LASTING = ("source ", "export ", "cd ")


def bare_environment() -> dict[str, str]:
    """That of a terminal on a machine with Python and make, with nothing of the tests' own environment in reach."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "VIRTUAL_", "PYTEST_"))}
    here = str(Path(sys.executable).parent)
    kept["PATH"] = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if part != here)
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true"}


def follow(page: Path, folder: Path, more: Iterable[str] = ()) -> None:
    """Type the commands of a page, and some more, into one terminal in a folder; each prints what the page quotes.

    `<model>` in a command is the model that was printed last.
    """
    lasting: list[str] = []
    model = ""
    for step in [*steps(page), *map(Step, more)]:
        if step.command in NOT_RUN:
            continue
        done = subprocess.run(
            ["bash", "-c", "\n".join([*lasting, step.command.replace("<model>", model)])],
            cwd=folder,
            env={
                **bare_environment(),
                "MLFLOW_ENV_ROOT": str(folder / "environments"),
                "PIP_NO_COMPILE": "1",  # it takes longer than it saves in what is started once
            },
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
        model = (re.findall(r"runs:/[0-9a-f]{32}/model", done.stdout) or [model])[-1]


def test_a_newcomer_with_this_page_alone_reaches_a_served_prediction(tmp_path: Path) -> None:
    copy_collection(tmp_path)
    follow(tmp_path / "README.md", tmp_path)
    assert (tmp_path / "mlflow.db").exists()
    assert (tmp_path / "mlruns").is_dir()
    assert not list((tmp_path / "classification").glob("mlflow.db*"))


def test_installing_as_the_page_says_and_then_a_prediction(tmp_path: Path) -> None:
    """With uv, which makes the environment of `main` once for all entry points."""
    copy_collection(tmp_path)
    predict = "mlflow run clustering -e predict -P model_uri=<model> --env-manager uv"
    follow(tmp_path / "docs" / "install.md", tmp_path, [predict])
    assert list((tmp_path / "environments").iterdir())
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    [predicted, *_] = MlflowClient(database, database).search_runs(["0"], max_results=1)
    assert predicted.info.status == "FINISHED"
    assert predicted.data.metrics["instances"] == 6
