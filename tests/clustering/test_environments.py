"""The entry points in an environment that MLflow makes itself with uv; the bundled table, regenerated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mlflow.entities import Run
from running import COLLECTION, Store, model_uri

CLUSTERING = COLLECTION / "clustering"


def test_uv_manager(store: Store, penguins: Path, tmp_path: Path) -> None:
    made = {"MLFLOW_ENV_ROOT": str(tmp_path / "environments"), "UV_COMPILE_BYTECODE": "1"}

    def run(entry_point: str, parameters: dict[str, object]) -> Run:
        outcome = store.mlflow_run(CLUSTERING, entry_point, parameters, env_manager="uv", environment=made)
        assert outcome.code == 0, outcome.output
        return outcome.run

    columns = "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g"
    model = run("kmeans", {"data": penguins, "columns": columns, "missing": "impute"})
    predicted = run("predict", {"model_uri": model_uri(model), "data": penguins})
    assert predicted.data.metrics["instances"] == 344
    assert list((tmp_path / "environments").iterdir())


def test_regenerating_the_bundled_table_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_customers.py"
    script.write_bytes((CLUSTERING / "data" / "make_customers.py").read_bytes())
    subprocess.run([sys.executable, script], check=True, env=dict(os.environ))
    assert (tmp_path / "customers.csv").read_bytes() == (CLUSTERING / "data" / "customers.csv").read_bytes()
