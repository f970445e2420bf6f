"""The bundled table, regenerated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from running import COLLECTION

CLUSTERING = COLLECTION / "clustering"


def test_regenerating_the_bundled_table_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_customers.py"
    script.write_bytes((CLUSTERING / "data" / "make_customers.py").read_bytes())
    subprocess.run([sys.executable, script], check=True, env=dict(os.environ))
    assert (tmp_path / "customers.csv").read_bytes() == (CLUSTERING / "data" / "customers.csv").read_bytes()
