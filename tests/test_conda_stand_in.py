"""The conda stand-in refuses what conda refuses; tests/test_new_project.py runs a project with it."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from conda_stand_in import install_conda, make_channel
from running import Outcome, Store

CONDA_YAML = """name: demo
channels:
  - conda-forge
dependencies:
  - python={python}
  - pip
  - pip:
      - -r requirements.txt
"""
WHEEL = "greeting-1.0-py3-none-any.whl"


class Conda:
    """The stand-in, and a conda.yaml that asks it for one wheel beside it; uv has no network."""

    def __init__(self, folder: Path, channel: Path, store: Store) -> None:
        self.home = install_conda(folder / "conda", channel)
        self.store = store
        self.file = folder / "conda.yaml"
        self.ask(f"{sys.version_info.major}.{sys.version_info.minor}")
        (folder / "requirements.txt").write_text(f"./{WHEEL}\n", encoding="utf-8")
        about = "greeting-1.0.dist-info"
        with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
            wheel.writestr("greeting.py", "")
            wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")

    def ask(self, python: str) -> None:
        """Ask for a version of Python."""
        self.file.write_text(CONDA_YAML.format(python=python), encoding="utf-8")

    def run(self, *command: str) -> Outcome:
        """A command, with no network."""
        environment = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(self.home / "uv")}
        return self.store.run(list(command), environment=environment)

    def create(self, name: str) -> Outcome:
        """`conda env create`."""
        return self.run(str(self.home / "bin" / "conda"), "env", "create", "-n", name, "--file", str(self.file))

    def activate(self, script: str) -> Outcome:
        """A shell that can activate environments."""
        return self.run("bash", "-c", f"source {self.home}/bin/../etc/profile.d/conda.sh && {script}")

    def environments(self) -> list[str]:
        """The paths of the environments."""
        listed = self.run(str(self.home / "bin" / "conda"), "env", "list", "--json").output
        return list(json.loads(listed)["envs"])


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_channel(tmp_path_factory.mktemp("channel"))


@pytest.fixture
def conda(tmp_path: Path, channel: Path, store: Store) -> Conda:
    return Conda(tmp_path, channel, store)


def test_an_environment_has_what_it_was_asked_for_and_its_python_is_the_first(conda: Conda) -> None:
    for name in ("first", "second"):
        created = conda.create(name)
        assert created.code == 0, created.output
    assert conda.environments() == [str(conda.home / "envs" / name) for name in ("first", "second")]
    seen = conda.activate("conda activate first && conda activate second && which -a python && pip list").output
    assert [line for line in seen.splitlines() if str(conda.home) in line] == [f"{conda.home}/envs/second/bin/python"]
    assert [line.split()[0] for line in seen.splitlines() if line.startswith(("greeting", "mlflow"))] == ["greeting"]


def test_a_python_that_the_channel_lacks_is_named(conda: Conda) -> None:
    conda.ask("3.99")
    created = conda.create("demo")
    assert created.code == 1
    assert "No candidates were found for python 3.99" in created.output
    assert conda.environments() == []


def test_another_channel_is_refused(conda: Conda) -> None:
    conda.file.write_text(conda.file.read_text(encoding="utf-8").replace("conda-forge", "elsewhere"), encoding="utf-8")
    created = conda.create("demo")
    assert created.code == 1
    assert created.output.startswith("conda: error: ")
    assert "elsewhere" in created.output


def test_activation_of_an_unknown_environment_stops_the_command(conda: Conda) -> None:
    shell = conda.activate("conda activate absent 1>&2 && echo went on")
    assert shell.code == 1
    assert shell.output == "conda: error: could not find the environment absent\n"
