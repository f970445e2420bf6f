"""Start an entry point of a project that stage.py staged: `FILE ARGUMENT ...`, quoted as for a shell.

MLflow pastes this file behind a few lines that unpack the project and enter its folder, and what is pasted has neither
its place nor its name, so that it cannot import its neighbours or begin with `from __future__`. Therefore this file is
what is pasted, and it runs the real one, in the same process, to which Spark and the workspace's credentials belong.
"""

import os
import runpy
import shlex
import sys


def end_run(run_id: str, status: str) -> None:
    """End the MLflow run as `mlflow run` does, whether the file has begun it or not."""
    if not run_id:
        return
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import RunStatus

    while mlflow.active_run():  # left open, it would be FINISHED when this process ends
        mlflow.end_run(status)
    client = MlflowClient()
    now = client.get_run(run_id).info.status
    if now != status and (status == "FAILED" or not RunStatus.is_terminated(RunStatus.from_string(now))):
        client.set_terminated(run_id, status)


def start(arguments: list[str], run_id: str) -> None:
    """Run a file of the working directory and end its MLflow run.

    arguments: the words of the command after `python`. MLflow has quoted each for a shell and then split all at
        spaces, so that joined again they are what a shell would have read.

    run_id: of the MLflow run; empty where there is none.

    Raises SystemExit with the exit code of the file where that is not 0: Databricks takes all of them for failures.
    """
    file, *rest = shlex.split(" ".join(arguments))
    path = os.path.abspath(file)
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path, *rest]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code:
            end_run(run_id, "FAILED")
            raise
    except BaseException:
        end_run(run_id, "FAILED")
        raise
    end_run(run_id, "FINISHED")


if __name__ == "__main__":
    start(sys.argv[1:], os.environ.get("MLFLOW_RUN_ID", ""))  # read now: the first start_run() deletes it
