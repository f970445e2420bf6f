"""Run an example's script as a task of a job: `python run_entry_point.py EXPERIMENT_ID SCRIPT [ARGUMENT ...]`.

A Python task of Databricks has no experiment, cannot set environment variables on serverless compute, knows no folder
of its own, and counts every `sys.exit`, also that of success, as a failure. So this stands between it and the script.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def run_entry_point(experiment_id: str, script: str, arguments: list[str]) -> None:
    """Run a script in this process, from its own folder, with its runs in an experiment (empty: the default one).

    In this process, because a Spark session and the workspace's credentials belong to it.

    Raises SystemExit with the exit code of the script where that is not 0.
    """
    path = Path(script).resolve()
    if experiment_id:
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
    os.chdir(path.parent)
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    run_entry_point(sys.argv[1], sys.argv[2], sys.argv[3:])
