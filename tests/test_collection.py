"""What holds for every example: self-contained, one lock, one set of defaults, two languages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from running import COLLECTION

EXAMPLES = sorted(path.parent for path in COLLECTION.glob("*/MLproject"))
NAMES = [example.name for example in EXAMPLES]


def entry_points(example: Path) -> dict[str, dict]:
    return yaml.safe_load((example / "MLproject").read_text(encoding="utf-8"))["entry_points"]


def test_regenerating_the_requirements_changes_nothing(tmp_path: Path) -> None:
    kept = [COLLECTION / name for name in ("pyproject.toml", "conda.yaml", "lock.py")]
    kept += [*COLLECTION.glob("requirements*.txt"), *COLLECTION.glob("*/requirements*.txt")]
    kept += [example / "conda.yaml" for example in EXAMPLES]
    for path in kept:
        copy = tmp_path / path.relative_to(COLLECTION)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    subprocess.run([sys.executable, tmp_path / "lock.py"], check=True)
    for path in kept:
        assert (tmp_path / path.relative_to(COLLECTION)).read_text() == path.read_text(), f"run make lock: {path}"


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_an_example_pins_what_the_collection_pins(example: Path) -> None:
    def pins(path: Path) -> set[str]:
        lines = path.read_text().splitlines()
        return {line.split(" ;")[0].strip() for line in lines if "==" in line and not line.strip().startswith("#")}

    assert pins(example / "requirements.txt") <= pins(COLLECTION / "requirements.txt")


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_conda_environment_is_python_pip_and_the_requirements(example: Path) -> None:
    conda = yaml.safe_load((example / "conda.yaml").read_text())
    assert conda == {
        "name": example.name,
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "pip", {"pip": ["-r requirements.txt"]}],
    }


def test_a_program_ends_without_looking_for_garbage_in_all_that_it_imported() -> None:
    last = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))"  # registered first, done last
    ended = subprocess.run(
        [sys.executable, "-c", f"{last}; import support.entry_point, pandas"],
        cwd=COLLECTION / "classification",
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stdout) > 10_000


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_no_module_or_folder_shadows_an_importable_one(example: Path) -> None:
    ours = {path.stem for path in example.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not ours & sys.stdlib_module_names
    assert not ours & {name for name in packages_distributions() if name != "tests"}


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_parameters_reach_their_command(example: Path) -> None:
    for name, entry_point in entry_points(example).items():
        for parameter in entry_point.get("parameters", {}):
            assert f"{{{parameter}}}" in entry_point["command"], f"{name}: {parameter}"


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_readme_stands_in_two_languages(example: Path) -> None:
    assert "(README.fr.md)" in (example / "README.md").read_text(encoding="utf-8")
    assert "(README.md)" in (example / "README.fr.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_readme_names_every_entry_point_and_parameter(example: Path) -> None:
    for page in ("README.md", "README.fr.md"):
        text = (example / page).read_text(encoding="utf-8")
        for name, entry_point in entry_points(example).items():
            for word in (name, *entry_point.get("parameters", {})):
                assert f"`{word}`" in text, f"{page}: {word}"
