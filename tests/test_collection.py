"""What holds for the collection and takes a process: its style, its types, its lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
