"""The Tracking UI in a real browser: each page shows what its picture is named for, and it opens as the guide says."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from pages import steps
from PIL import Image
from running import COLLECTION, PATIENCE, Outcome, Store, free_port

DOCS = COLLECTION / "docs"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store as `make pictures` fills one, with fewer runs."""
    store = Store(tmp_path_factory.mktemp("pictures"))
    filling: dict[str, dict[str, object]] = {
        "classification": {"models": "ann,decision_tree", "language": "fr"},
        "clustering": {"k_max": 4},
    }
    for project, parameters in filling.items():
        outcome = store.mlflow_run(COLLECTION / project, "main", parameters)
        assert outcome.code == 0, outcome.output
        assert ("gardées pour le test" in outcome.output) == ("language" in parameters)
    [model, *_] = store.client.search_logged_models(["0"])
    store.client.create_registered_model("churn")  # as the registry's example does, and its gate
    store.client.create_model_version("churn", model.artifact_location)
    store.client.set_registered_model_alias("churn", "champion", "1")
    return store


def pictures(store: Store, folder: Path, *arguments: str) -> Outcome:
    """`python docs/pictures.py FOLDER` on a store that is filled."""
    return store.run([sys.executable, str(DOCS / "pictures.py"), str(folder), "--store", store.uri, *arguments])


def test_every_page_shows_what_it_is_named_for(filled: Store, tmp_path: Path) -> None:
    outcome = pictures(filled, tmp_path)
    assert outcome.code == 0, outcome.output
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (DOCS / "pictures").iterdir()}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (1440, 1000)
            assert len(picture.getcolors() or []) > 20, f"{path.name} is empty"


def test_a_page_that_lacks_it_is_named(filled: Store, tmp_path: Path) -> None:
    filled.client.delete_registered_model_alias("churn", "champion")
    outcome = pictures(filled, tmp_path, "--only", "registered_model", "--patience", "10")
    assert outcome.code == 1
    assert outcome.error.startswith("registered_model: ")
    assert {path.name for path in tmp_path.iterdir()} == {"registered_model.failed.png"}


def test_the_ui_opens_in_the_folder_of_the_runs_as_the_guide_says(filled: Store) -> None:
    """The command to the letter; the port alone is another than 5000, which may be taken here."""
    port = free_port()
    [step] = steps(DOCS / "tracking-ui.md")
    environment = {**filled.environment, "MLFLOW_PORT": str(port)}
    del environment["MLFLOW_TRACKING_URI"]  # a newcomer has none
    command = ["bash", "-c", f"exec {step.command}"]
    process = subprocess.Popen(command, cwd=filled.folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        found = MlflowClient(f"http://127.0.0.1:{port}").search_runs(["0"])  # which tries until it is answered
        assert {"ann", "decision_tree", "k = 4"} <= {run.info.run_name for run in found}
    finally:
        process.send_signal(signal.SIGINT)  # Ctrl-C
    process.wait(PATIENCE)
