"""The project trains and predicts, as `mlflow run` starts it: `python -m unittest`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


class TestProject(unittest.TestCase):
    def mlflow_run(self, *arguments: str) -> str:
        """What `mlflow run` prints, with the packages of this environment."""
        command = [sys.executable, "-m", "mlflow", "run", str(FOLDER), "--env-manager", "local", *arguments]
        python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": python, "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}/mlflow.db"}
        done = subprocess.run(command, cwd=self.store, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test_it_trains_and_predicts(self) -> None:
        with tempfile.TemporaryDirectory() as self.store:
            trained = self.mlflow_run("-P", "max_iter=5")
            [model_uri] = set(re.findall(r"runs:/\w+/model", trained))
            predicted = self.mlflow_run("-e", "predict", "-P", f"model_uri={model_uri}")
            assert "/predictions.csv" in predicted


if __name__ == "__main__":
    unittest.main()
