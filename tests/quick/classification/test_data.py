"""The bundled table comes from a script."""

from __future__ import annotations

import runpy
from pathlib import Path

from examples import COLLECTION

DATA = COLLECTION / "classification" / "data"


def test_regenerating_the_bundled_table_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_churn.py"
    script.write_bytes((DATA / "make_churn.py").read_bytes())
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "churn.csv").read_bytes() == (DATA / "churn.csv").read_bytes()
