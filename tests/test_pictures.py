"""The Tracking UI in a real browser: each page shows what its picture is named for, and the guide has every picture."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from pages import steps
from PIL import Image
from running import COLLECTION, Outcome, Store

DOCS = COLLECTION / "docs"
NAMES = {
    "runs",
    "parallel_coordinates",
    "scatter",
    "curves",
    "artifact",
    "logged_model",
    "registered_model",
    "tour",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store as `make pictures` fills one, with fewer runs."""
    store = Store(tmp_path_factory.mktemp("pictures"))
    for project, experiment, name, parameter in [
        ("classification", "churn", "main", "models=ann,decision_tree"),
        ("clustering", "segments", "main", "k_max=4"),
        (".", "tour", "tour", "only=classification,register"),
    ]:
        arguments = ["--experiment-name", experiment, "--run-name", name, "-P", parameter]
        outcome = store.mlflow_run(COLLECTION / project, "main", None, *arguments)
        assert outcome.code == 0, outcome.output
    return store


def pictures(store: Store, folder: Path, *arguments: str) -> Outcome:
    """`python docs/pictures.py FOLDER` on a store that is filled."""
    return store.run([sys.executable, str(DOCS / "pictures.py"), str(folder), "--store", store.uri, *arguments])


def test_every_page_shows_what_it_is_named_for(filled: Store, tmp_path: Path) -> None:
    outcome = pictures(filled, tmp_path)
    assert outcome.code == 0, outcome.output
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in NAMES}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (1440, 1000)
            assert len(picture.getcolors() or []) > 20, f"{path.name} is empty"


def test_a_page_that_lacks_it_is_named(filled: Store, tmp_path: Path) -> None:
    filled.client.delete_registered_model_alias("churn_tour", "champion")
    outcome = pictures(filled, tmp_path, "--only", "registered_model")
    assert outcome.code == 1
    assert outcome.error.startswith("registered_model: ")
    assert {path.name for path in tmp_path.iterdir()} == {"registered_model.failed.png"}


def test_the_ui_opens_in_the_folder_of_the_runs_as_the_guide_says(filled: Store) -> None:
    """The command to the letter; the port alone is another than 5000, which may be taken here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    [step] = steps(DOCS / "tracking-ui.md")
    environment = {**filled.environment, "MLFLOW_PORT": str(port)}
    del environment["MLFLOW_TRACKING_URI"]  # a newcomer has none
    command = ["bash", "-c", f"exec {step.command}"]
    process = subprocess.Popen(command, cwd=filled.folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        found = MlflowClient(f"http://127.0.0.1:{port}").search_experiments()  # which tries until it is answered
        assert {"churn", "segments", "tour"} <= {experiment.name for experiment in found}
    finally:
        process.send_signal(signal.SIGINT)  # Ctrl-C
    process.wait(timeout=60)


@pytest.mark.parametrize("page", ["tracking-ui.md", "tracking-ui.fr.md"])
def test_the_guide_shows_every_picture_and_says_what_is_on_it(page: str) -> None:
    shown = re.findall(r"!\[([^\]]+)\]\(pictures/(\w+)\.png\)", (DOCS / page).read_text(encoding="utf-8"))
    assert {name for _, name in shown} == NAMES
    assert all(len(alternative) > 60 for alternative, _ in shown)


def test_the_pictures_are_there_and_small() -> None:
    kept = {path.stem: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert kept.keys() == NAMES
    assert max(kept.values()) < 150_000


def test_both_languages_of_the_guide_have_the_same_parts() -> None:
    def parts(page: str) -> list[str]:
        text = (DOCS / page).read_text(encoding="utf-8")
        kept = re.findall(r"^#+ |^    .*$|\]\(pictures/\w+\.png\)", text, re.MULTILINE)
        return [*kept, *sorted(set(re.findall(r"`([^`\n]+)`", text)))]

    assert parts("tracking-ui.md") == parts("tracking-ui.fr.md")
