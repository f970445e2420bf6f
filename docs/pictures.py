"""Take the pictures of docs/tracking-ui.md: the commands of the pages are run, then a browser visits the Tracking UI.

`python docs/pictures.py`, or `make pictures`. A picture whose page does not show what it should is named, and fails.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Locator, Page, ViewportSize, sync_playwright

FOLDER = Path(__file__).resolve().parent
COLLECTION = FOLDER.parent
EXAMPLES = ("classification", "clustering", "registry_deploy")
MODEL = "churn"  # what register calls it

SIZE: ViewportSize = {"width": 1440, "height": 1000}
EXPERIMENT = "0"  # which the UI calls Default
STYLE = "* { caret-color: transparent !important }"
TROUBLE = re.compile("Something went wrong|Error loading|Failed to|Not Found|No charts|No data|Traceback")


class Gallery:
    """A browser page on a tracking server, and what is known of the runs there."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.client = MlflowClient(address, address)

    def runs(self) -> dict[str, Run]:
        """The runs by name; of those with the same name, the first."""
        found = self.client.search_runs([EXPERIMENT], order_by=["attributes.start_time DESC"])
        return {str(run.info.run_name): run for run in found}

    def comparison(self) -> Run:
        """The newest run that compared the classifiers."""
        [found] = self.client.search_runs([EXPERIMENT], "tags.best_model_uri LIKE '%'", max_results=1)
        return found

    def open(self, path: str, state: Mapping[str, object] | None = None) -> None:
        """Open a page of the UI; state: what an experiment's page remembers, such as its columns."""
        self.page.goto("about:blank")  # else only what stands behind the # would change
        if state is not None:
            key = f'MLflowLocalStorage-1.1-ExperimentPage-["{EXPERIMENT}"]-ReactComponentState'
            self.page.goto(f"{self.address}/health")
            self.page.evaluate("([key, value]) => localStorage.setItem(key, value)", [key, json.dumps(state)])
        self.page.goto(f"{self.address}/#{path}{'&' if '?' in path else '?'}workflowType=machine_learning")
        self.page.add_style_tag(content=STYLE)

    def close_assistant(self) -> None:
        """Close the panel on the right, as a reader would; it stays closed."""
        close = self.page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]')
        if close.count():
            close.first.click()
            close.first.wait_for(state="hidden")

    def text(self, *wanted: str) -> None:
        """Wait until the page shows these texts."""
        for each in wanted:
            self.page.get_by_text(each, exact=True).locator("visible=true").first.wait_for()

    def chart(self, marks: str, atleast: int) -> None:
        """Wait until Plotly has drawn marks (a CSS selector), at least so many."""
        self.page.wait_for_function(
            "([marks, atleast]) => document.querySelectorAll('.js-plotly-plot ' + marks).length >= atleast",
            arg=[marks, atleast],
        )

    def choose(self, box: Locator, *options: str) -> None:
        """Choose from a list that opens when it is clicked."""
        box.click(force=True)  # a text lies above it
        for option in options:
            self.page.locator(f"[title='{option}']:visible, [role=option]:visible:has-text('{option}')").first.click()
        self.page.mouse.click(SIZE["width"] - 200, 60)  # an empty place: the list closes


def first_screen(gallery: Gallery) -> None:
    gallery.open(f"/experiments/{EXPERIMENT}/runs")
    gallery.text("Run Name", "compare")


def runs(gallery: Gallery) -> None:
    columns = ["metrics.`roc_auc`", "metrics.`f1`", "metrics.`log_loss`", "attributes.`Models`"]
    state = {"selectedColumns": columns, "orderByKey": "metrics.`roc_auc`", "orderByAsc": False}
    sort = "orderByKey=metrics.%60roc_auc%60&orderByAsc=false"
    gallery.open(f"/experiments/{EXPERIMENT}/runs?compareRunsMode=TABLE&{sort}", state)
    gallery.text("Run Name", "roc_auc", "f1", "log_loss", "ann", "decision_tree")


def parallel_coordinates(gallery: Gallery) -> None:
    _compare(gallery)
    gallery.page.get_by_role("button", name="Clear All").click()
    boxes = gallery.page.locator("input[role=combobox]")
    gallery.choose(boxes.nth(0), "n_clusters")
    gallery.choose(boxes.nth(1), "silhouette", "davies_bouldin", "calinski_harabasz")
    gallery.chart(".y-axis", 4)


def scatter(gallery: Gallery) -> None:
    _compare(gallery)
    gallery.page.get_by_role("tab", name="Scatter Plot").click()
    gallery.choose(gallery.page.locator("#x-axis-selector"), "n_clusters")
    gallery.choose(gallery.page.locator("#y-axis-selector"), "silhouette")
    gallery.page.wait_for_function(  # on a canvas
        "() => (document.querySelector('.js-plotly-plot')?.data?.[0]?.x ?? []).length >= 3"
    )
    gallery.text("n_clusters", "silhouette")


def _compare(gallery: Gallery) -> None:
    ids = [run.info.run_id for name, run in gallery.runs().items() if name.startswith("k = ")]
    gallery.open(f'/compare-runs?runs={json.dumps(ids)}&experiments=["{EXPERIMENT}"]')
    gallery.text(f"Comparing {len(ids)} Runs from 1 Experiment", "Parallel Coordinates Plot")


def curves(gallery: Gallery) -> None:
    run = gallery.runs()["ann"]
    gallery.open(f"/experiments/{EXPERIMENT}/runs/{run.info.run_id}/model-metrics")
    gallery.page.get_by_placeholder("Search metric charts").fill("(train|val)_")
    gallery.text("train_loss", "val_loss", "train_accuracy", "val_accuracy")
    gallery.chart(".scatterlayer .js-line", 4)


def artifact(gallery: Gallery) -> None:
    _curves_of_all(gallery)


def artifact_fr(gallery: Gallery) -> None:
    _curves_of_all(gallery)


def _curves_of_all(gallery: Gallery) -> None:
    run = gallery.comparison()
    gallery.open(f"/experiments/{EXPERIMENT}/runs/{run.info.run_id}/artifacts/curves.png")
    gallery.text("leaderboard.csv", "leaderboard.png", "curves.png")
    gallery.page.wait_for_function("() => [...document.images].some(image => image.naturalWidth > 500)")


def logged_model(gallery: Gallery) -> None:
    run = gallery.runs()["decision_tree"]
    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        raise LookupError("the run logged no model")
    gallery.open(f"/experiments/{EXPERIMENT}/models/{models[0].model_id}")
    gallery.text("About this logged model", "Ready", "accuracy", "recall", "decision_tree", "criterion")
    heading = gallery.page.get_by_role("columnheader", name="Dataset").bounding_box()
    if not heading:
        raise LookupError("no column Dataset")
    edge, middle = heading["x"] + heading["width"], heading["y"] + heading["height"] / 2
    gallery.page.mouse.move(edge - 2, middle)  # widens the column, as a user would to read the dataset's digest
    gallery.page.mouse.down()
    gallery.page.mouse.move(edge + 78, middle, steps=5)
    gallery.page.mouse.up()


def registered_model(gallery: Gallery) -> None:
    gallery.open(f"/models/{MODEL}")
    gallery.text(MODEL, "Versions", "Version 1", "Aliases")
    gallery.page.get_by_text("Tags", exact=True).first.click()  # folds them up: they are the registry's own notes
    gallery.page.get_by_text(re.compile(r"^@\s*champion$")).locator("visible=true").first.wait_for()


class Chapter(NamedTuple):
    """Commands of the pages, and the pictures of what they leave. A picture is named after its function."""

    commands: list[list[str]]
    pictures: list[Callable[[Gallery], None]]


STORY = [
    Chapter([["classification", "-P", "max_depth=5"]], [first_screen, runs, curves, artifact, logged_model]),
    Chapter(
        [["registry_deploy", "-e", "register", "-P", "experiment=Default"], ["registry_deploy", "-e", "promote"]],
        [registered_model],
    ),
    Chapter([["clustering", "-P", "k_max=10"]], [parallel_coordinates, scatter]),
    Chapter([["classification", "-P", "max_depth=5", "-P", "language=fr"]], [artifact_fr]),
]
NAMES = [show.__name__ for chapter in STORY for show in chapter.pictures]


def save(shot: bytes, path: Path) -> None:
    """Write a picture in 256 colours, a third of the size. An octree, for median cut makes a thin green line blue."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


@contextmanager
def browsing(address: str, patience: float) -> Iterator[Gallery]:
    """A fresh browser on the UI at an address, with nothing set. patience: seconds for a page at most."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        context = browser.new_context(viewport=SIZE, device_scale_factor=1, locale="en-GB", timezone_id="UTC")
        context.set_default_timeout(1000 * patience)
        yield Gallery(context.new_page(), address)
        browser.close()


def take(gallery: Gallery, show: Callable[[Gallery], None], output: Path) -> str | None:
    """Take a picture; returns what was wrong, in a line."""
    name, started = show.__name__, time.monotonic()
    try:
        show(gallery)
        if show is not first_screen:
            gallery.close_assistant()
        gallery.page.wait_for_timeout(800)  # a chart moves to its place
        shown = gallery.page.inner_text("body")
        trouble = gallery.page.get_by_text(TROUBLE).locator("visible=true")
        if trouble.count():
            raise LookupError(f"shows {trouble.first.inner_text()!r}")
        if f"{Path.home()}/" in shown or str(COLLECTION) in shown:
            raise LookupError("shows a path of this machine")
    except (BrowserError, LookupError) as error:
        save(gallery.page.screenshot(), output / f"{name}.failed.png")
        return f"{name}: {str(error).splitlines()[0]}"
    save(gallery.page.screenshot(), output / f"{name}.png")
    click.echo(f"{name}: {time.monotonic() - started:.1f} s")
    return None


def chromium() -> str:
    """The browser's path. Raises click.ClickException where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    raise click.ClickException("chromium is not on the PATH: install it first (Debian: apt-get install chromium).")


@contextmanager
def server(store: str, folder: Path) -> Iterator[str]:
    """A tracking server on a store, for the length of the block; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)  # the worker too
        process.wait(120)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            direct.open(f"{address}/health", timeout=5)
            return
        except OSError:
            time.sleep(0.3)
    raise click.ClickException(f"the tracking server did not start: {log.read_text().splitlines()[-1:]}")


def copy_examples(folder: Path) -> None:
    """Copy the examples to a neutral folder, so that no page shows yours."""
    for name in EXAMPLES:
        shutil.copytree(COLLECTION / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__", "mlruns"))


def run(folder: Path, address: str, example: str, *arguments: str) -> None:
    """`mlflow run EXAMPLE ...` in a folder, by a neutral user."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address, "LOGNAME": "ada", "USER": "ada"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "mlflow", "run", example, "--env-manager", "local", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True)


@click.command()
@click.argument("output", type=click.Path(file_okay=False, path_type=Path), default=FOLDER / "pictures")
@click.option("--store", default="", help="A filled store, as the URI of its database; otherwise one is made.")
@click.option("--only", type=click.Choice(NAMES), help="This picture alone.")
@click.option("--patience", default=120.0, help="Seconds until a page must show what it is named for.")
def main(output: Path, store: str, only: str | None, patience: float) -> None:
    """Take the pictures into OUTPUT."""
    chromium()
    output.mkdir(parents=True, exist_ok=True)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    wrong = []
    with tempfile.TemporaryDirectory(prefix="mlflow_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        copy_examples(folder)
        database = store or f"sqlite:///{folder / 'mlflow.db'}"
        with server(database, folder) as address, browsing(address, patience) as gallery:
            for chapter in STORY:
                for command in chapter.commands if not store else []:
                    run(folder, address, *command)
                for show in chapter.pictures:
                    if only in (None, show.__name__) and (failed := take(gallery, show, output)):
                        wrong.append(failed)
    if wrong:
        raise click.ClickException("; ".join(wrong))


if __name__ == "__main__":
    main()
