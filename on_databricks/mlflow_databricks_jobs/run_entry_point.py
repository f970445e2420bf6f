"""The script of a job: `run_entry_point.py FOLDER` unpacks FOLDER/project.tar.gz and runs what its job.json says.

A Python file is run in this very process, because the Spark session and the workspace's credentials belong to it. The
job ends its MLflow run itself, whatever has become of the machine that submitted it.
"""

import json
import os
import runpy
import subprocess
import sys
import tarfile
import tempfile


def end_run(run_id: str, status: str) -> None:
    """End the MLflow run as `mlflow run` does, whether the file has begun it or not, and what it left open below it."""
    try:
        import mlflow
        from mlflow import MlflowClient
    except ImportError:  # a runtime without MLflow, and a project that does not ask for it: the client ends the run
        return

    while mlflow.active_run():  # left open, it would be FINISHED when this process ends
        mlflow.end_run(status)
    client = MlflowClient()
    now = client.get_run(run_id).info.status
    if now in ("RUNNING", "SCHEDULED") or (status == "FAILED" and now == "FINISHED"):
        client.set_terminated(run_id, status)


def run_python(words: "list[str]") -> None:
    """Run what stands after `python` in a command, in this process.

    Raises SystemExit where its exit code is not 0: Databricks takes every other one for a failure as well.
    """
    is_module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if is_module else (os.path.abspath(words[0]), words[1:])
    sys.path.insert(0, os.getcwd() if is_module else os.path.dirname(name))
    sys.argv = [name, *arguments]
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def run_shell(command: str) -> None:
    """Run a command by bash, with the Python of this process first on the path; raises SystemExit if it fails."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    code = subprocess.run(["bash", "-c", command], env={**os.environ, "PATH": path}).returncode
    if code:
        sys.exit(code)


def main(folder: str) -> None:
    place = tempfile.mkdtemp()
    with tarfile.open(os.path.join(folder, "project.tar.gz")) as archive:
        archive.extractall(place, filter="data")
    with open(os.path.join(place, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    os.environ.update(job["environment"])
    os.chdir(os.path.join(place, "project"))
    run_id = job["environment"]["MLFLOW_RUN_ID"]
    try:
        if "python" in job:
            run_python(job["python"])
        else:
            run_shell(job["shell"])
    except BaseException:
        end_run(run_id, "FAILED")
        raise
    end_run(run_id, "FINISHED")


if __name__ == "__main__":
    main(sys.argv[1])
