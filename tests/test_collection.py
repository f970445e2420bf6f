"""What holds for the collection and takes a process: its style, its types, its lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import COLLECTION

import lock


def test_ruff_and_mypy_have_nothing_to_say() -> None:
    done = subprocess.run(
        ["make", "check"], cwd=COLLECTION, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


def test_regenerating_the_requirements_changes_nothing(tmp_path: Path) -> None:
    conda = [path.relative_to(COLLECTION) for path in lock.digests()]
    kept = [Path("pyproject.toml"), Path("lock.py"), *map(Path, lock.files()), *conda]
    for name in kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(COLLECTION / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "lock.py"], check=True)
    for name in kept:
        assert (tmp_path / name).read_text() == (COLLECTION / name).read_text(), f"run make lock: {name}"


def test_a_program_ends_without_looking_for_garbage_in_all_that_it_imported() -> None:
    last = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))"  # registered first, done last
    ended = subprocess.run(
        [sys.executable, "-c", f"{last}; import support.entry_point, pandas"],
        cwd=COLLECTION,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stdout) > 10_000


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make ARGUMENT ...`, as in a clone that nothing was installed in yet."""
    for name in ("Makefile", "classification/MLproject", "classification/requirements.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(COLLECTION / name, folder / name)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}  # of `make test`
    return subprocess.run(["make", *arguments], cwd=folder, env=own, capture_output=True, text=True)


@pytest.mark.parametrize("python", ["/nowhere/python3", "false"])
def test_a_python_that_does_not_fit_is_named_and_nothing_is_made(python: str, tmp_path: Path) -> None:
    done = make(tmp_path, "run", f"PYTHON={python}")
    assert done.returncode == 2
    assert done.stdout == (
        f"Python 3.11, 3.12 or 3.13 is needed, and {python} is another: make run PYTHON=/path/to/python3.11\n"
    )
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_another_python_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/uv", "classification.installed"):
        (tmp_path / ".venv" / name).touch()
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.9")
    assert "-m venv --clear .venv" in make(tmp_path, "-n", "run").stdout
    (tmp_path / ".venv" / "bin" / "python").unlink()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert "-m venv" not in make(tmp_path, "-n", "run").stdout


def test_what_the_tests_need_of_the_system_is_said_in_one_line(tmp_path: Path) -> None:
    done = make(tmp_path, "test", "LACKING=bubblewrap")
    assert done.returncode == 2
    assert (
        done.stdout == "make test needs more than Python packages. On Debian and Ubuntu: apt-get install bubblewrap\n"
    )
