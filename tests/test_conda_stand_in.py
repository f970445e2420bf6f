"""The conda stand-in: `mlflow run` with its default manager creates, reuses and activates conda environments."""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conda_stand_in import install_conda, make_channel
from running import Outcome, Store

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

CONDA_YAML = """name: demo
channels:
  - conda-forge
dependencies:
  - python={python}
  - pip
  - pip:
      - -r requirements.txt
"""

MLPROJECT = """name: demo
conda_env: conda.yaml
entry_points:
  main:
    command: python report.py
"""

REPORT = """import importlib.metadata, importlib.util, json, os, pathlib, sys
import greeting
pathlib.Path("report.json").write_text(json.dumps({
    "prefix": sys.prefix,
    "active": os.environ["CONDA_PREFIX"],
    "python": sys.version.split()[0],
    "packages": sorted(d.name for d in importlib.metadata.distributions()),
    "greeting": greeting.__file__,
}))
"""

WHEEL = "greeting-1.0-py3-none-any.whl"


@dataclass
class Workplace:
    """A project that wants one wheel beside it, and the conda that MLflow is told to use."""

    project: Path
    home: Path
    store: Store

    @property
    def environment(self) -> dict[str, str]:
        """Has MLflow find this conda, and uv no network."""
        return {"MLFLOW_CONDA_HOME": str(self.home), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(self.home / "uv")}

    def run(self, *command: str) -> Outcome:
        """Run a command with this conda and no network."""
        return self.store.run(list(command), environment=self.environment)

    def mlflow_run(self) -> Outcome:
        """Run the project as a user would, with the manager that MLflow takes by itself."""
        return self.store.mlflow_run(self.project, env_manager=None, environment=self.environment)

    def conda(self, *arguments: str) -> Outcome:
        """Run the stand-in itself."""
        return self.run(str(self.home / "bin" / "conda"), *arguments)

    def environments(self) -> list[str]:
        """List the paths of the conda environments that exist."""
        paths: list[str] = json.loads(self.conda("env", "list", "--json").output)["envs"]
        return paths

    def report(self) -> dict[str, Any]:
        """Take away what the project's command saw of its environment."""
        file = self.project / "report.json"
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        file.unlink()
        return report


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_channel(tmp_path_factory.mktemp("channel"))


@pytest.fixture
def workplace(tmp_path: Path, channel: Path) -> Workplace:
    project = tmp_path / "project"
    project.mkdir()
    (project / "MLproject").write_text(MLPROJECT, encoding="utf-8")
    (project / "conda.yaml").write_text(CONDA_YAML.format(python=PYTHON), encoding="utf-8")
    (project / "requirements.txt").write_text(f"./{WHEEL}\n", encoding="utf-8")
    (project / "report.py").write_text(REPORT, encoding="utf-8")
    with zipfile.ZipFile(project / WHEEL, "w") as wheel:
        wheel.writestr("greeting.py", "")
        about = "greeting-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    # A store of its own: MLflow leaves a run RUNNING for ever when its environment cannot be made.
    own = tmp_path / "store"
    own.mkdir()
    return Workplace(project, install_conda(tmp_path / "conda", channel), Store(own))


def test_default_manager_runs_the_command_in_a_conda_environment_and_reuses_it(workplace: Workplace) -> None:
    first = workplace.mlflow_run()
    assert first.code == 0, first.output
    assert "=== Creating conda environment mlflow-" in first.output
    report = workplace.report()
    assert workplace.environments() == [report["prefix"]]
    assert Path(report["prefix"]).parent == workplace.home / "envs"
    assert report["active"] == report["prefix"]
    assert report["python"] == platform.python_version()
    assert report["packages"] == ["greeting", "pip"], "the environment is not isolated"
    assert Path(report["greeting"]).is_relative_to(report["prefix"])

    (workplace.project / WHEEL).unlink()  # a second installation would miss it
    second = workplace.mlflow_run()
    assert second.code == 0, second.output
    assert "already exists" in second.output
    assert workplace.report() == report


def test_a_python_that_the_channel_lacks_fails_with_its_version(workplace: Workplace) -> None:
    (workplace.project / "conda.yaml").write_text(CONDA_YAML.format(python="3.99"), encoding="utf-8")
    outcome = workplace.mlflow_run()
    assert outcome.code != 0
    assert "No candidates were found for python 3.99" in outcome.output
    assert workplace.environments() == []


def test_a_requirement_that_cannot_be_installed_leaves_no_environment(workplace: Workplace) -> None:
    (workplace.project / WHEEL).unlink()
    outcome = workplace.mlflow_run()
    assert outcome.code != 0
    assert WHEEL in outcome.output
    assert workplace.environments() == []


def test_another_channel_is_refused(workplace: Workplace) -> None:
    file = workplace.project / "conda.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("conda-forge", "elsewhere"), encoding="utf-8")
    creation = workplace.conda("env", "create", "-n", "demo", "--file", str(file))
    assert creation.code == 1
    assert creation.output.startswith("conda: error: ")
    assert "elsewhere" in creation.output


def test_activation_of_an_unknown_environment_stops_the_command(workplace: Workplace) -> None:
    script = f"source {workplace.home}/bin/../etc/profile.d/conda.sh && conda activate absent 1>&2 && echo went on"
    shell = workplace.run("bash", "-c", script)
    assert shell.code == 1
    assert shell.output == "conda: error: could not find the environment absent\n"


def test_activation_leaves_the_environment_that_was_active(workplace: Workplace) -> None:
    for name in ("first", "second"):
        workplace.conda("env", "create", "-n", name, "--file", str(workplace.project / "conda.yaml"))
    script = f"source {workplace.home}/etc/profile.d/conda.sh && conda activate first && conda activate second && "
    pythons = workplace.run("bash", "-c", f"{script} which -a python").output.splitlines()
    ours = [path for path in pythons if path.startswith(str(workplace.home))]
    assert ours == pythons[:1] == [str(workplace.home / "envs" / "second" / "bin" / "python")]
