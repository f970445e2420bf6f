"""Run an entry point as a task of a Databricks job, in the process to which Spark and the credentials belong.

    run_entry_point.py FOLDER EXPERIMENT_ID             the backend: what FOLDER/project.tar.gz holds, as job.json says
    run_entry_point.py task EXPERIMENT_ID SCRIPT ...    the bundle: a script with its arguments, from its own folder
    run_entry_point.py unknown NAME KNOWN ...           the bundle: the parameter `entry_point` names none
    run_entry_point.py twin FILE ...                    the twin: a file of the working directory, quoted for a shell

A Python task of Databricks has no experiment, cannot set environment variables on serverless compute, knows no folder
of its own, and counts every `sys.exit`, also that of success, as a failure. The backend's job finds its MLflow run by a
tag, and ends it itself, whatever has become of the machine that submitted it.

MLflow pastes the twin's script behind a few lines of its own, which takes away its place, its name and its neighbours:
so this file is what is pasted, it has no `from __future__`, and it runs the real one.
"""

import json
import os
import runpy
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any

UPLOAD = "databricks_jobs.upload"  # the tag of a run that names the folder of its job
PATIENCE = 300  # seconds after which a command that has submitted a job must have begun the run


def begun_run(folder: str, experiment_id: str) -> str:
    """The id of the run of this job; empty on a runtime without MLflow, where the command ends the run.

    Raises SystemExit where there is none: the command was ended before it began it.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        return ""

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = MlflowClient().search_runs([experiment_id], f"tags.`{UPLOAD}` = '{os.path.basename(folder)}'")
        if found:
            if found[0].info.status != "RUNNING":  # the job is tried again
                MlflowClient().update_run(found[0].info.run_id, "RUNNING")
            return str(found[0].info.run_id)
        time.sleep(1)
    sys.exit(
        "Error: this job has no MLflow run: the command that submitted it was ended before it began one, "
        "or the run was deleted."
    )


def end_run(run_id: str, status: str) -> None:
    """End the MLflow run as `mlflow run` does, whether the file has begun it or not, and what it left open below it."""
    if not run_id:
        return
    import mlflow
    from mlflow import MlflowClient

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


def run_and_end(job: "dict[str, Any]", run_id: str) -> None:
    """Run the command of an entry point, then end its MLflow run."""
    try:
        if "python" in job:
            run_python(job["python"])
        else:
            run_shell(job["shell"])
    except BaseException:
        end_run(run_id, "FAILED")
        raise
    end_run(run_id, "FINISHED")


def run_packed(folder: str, experiment_id: str) -> None:
    """Run the entry point that the backend has uploaded."""
    os.environ.update(MLFLOW_TRACKING_URI="databricks", MLFLOW_EXPERIMENT_ID=experiment_id)
    run_id, place = begun_run(folder, experiment_id), tempfile.mkdtemp()
    if run_id:
        os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        with tarfile.open(os.path.join(folder, "project.tar.gz")) as archive:
            archive.extractall(place, filter="data")
        with open(os.path.join(place, "job.json"), encoding="utf-8") as file:
            job = json.load(file)
        os.chdir(os.path.join(place, "project"))
    except BaseException:
        end_run(run_id, "FAILED")
        raise
    run_and_end(job, run_id)


def run_task(experiment_id: str, script: str, *arguments: str) -> None:
    """Run a script from its own folder, with its runs in an experiment (empty: the default one)."""
    if experiment_id:
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
    path = os.path.abspath(script)
    os.chdir(os.path.dirname(path))
    run_python([path, *arguments])


def run_twin(*words: str) -> None:
    """Run a file of the working directory; MLflow has quoted each word for a shell and then split all at spaces."""
    run_and_end({"python": shlex.split(" ".join(words))}, os.environ["MLFLOW_RUN_ID"])


def unknown(name: str, *known: str) -> None:
    sys.exit(f"Error: {name!r} is no value of entry_point; choose from: {', '.join(known)}.")


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    ways: "dict[str, Any]" = {"task": run_task, "twin": run_twin, "unknown": unknown}
    ways[first](*rest) if first in ways else run_packed(first, *rest)
