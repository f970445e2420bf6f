"""`-b databricks-jobs` against the local workspace: what runs, what is refused, and that nothing is left over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from git_server import HERMETIC, GitServer, Repository
from local_workspace import CLUSTER, EXISTING, Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException
from mlflow.projects import SubmittedRun
from running import COLLECTION, Store, metrics_without_times

HERE = Path(__file__).parent
EXPERIMENT = "/Shared/jobs"
Submit = Callable[..., SubmittedRun]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with files that Git would not commit."""
    folder = tmp_path_factory.mktemp("projects") / "small"
    shutil.copytree(HERE / "small", folder)
    (folder / "password.secret").write_text("hunter2")
    return folder


@pytest.fixture
def submit(connected: Workspace, small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submit]:
    """Runs an entry point of the small project; afterwards no job is active and no run is RUNNING."""
    monkeypatch.setattr("mlflow_databricks_jobs.backend.PATIENCE", 3)  # looked up now: the plugin as it is loaded

    def call(entry_point: str = "main", project: object = small, **more: Any) -> SubmittedRun:
        given = {"parameters": {}, "experiment_name": EXPERIMENT, **more}
        return mlflow.projects.run(str(project), entry_point, backend="databricks-jobs", **given)

    yield call
    connected.heal()
    nothing_left(connected)


def nothing_left(workspace: Workspace) -> None:
    assert [run["run_id"] for run in workspace.runs() if "result_state" not in run["state"]] == []
    assert [run.info.run_id for run in all_runs() if run.info.status == "RUNNING"] == []


def all_runs() -> list[Run]:
    """Every run of every experiment."""
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments)) if experiments else []


def begun(workspace: Workspace) -> tuple[int, int]:
    """How many jobs and how many runs there are."""
    return len(workspace.runs()), len(all_runs())


def last_run() -> Run:
    return max(all_runs(), key=lambda run: run.info.start_time)


# What runs.


def test_serverless_by_default_and_any_text_arrives_unharmed(
    submit: Submit, connected: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "$HOME {{job.id}} {x} `ls` | ;"
    job = submit(parameters={"letter": text}, run_name="said")
    assert (job.wait(), job.get_status()) == (True, "FINISHED")
    printed = capsys.readouterr().out
    words = ["--said", "two  words, 'one' \"quoted\"", "--nothing", "", "--letter", text]
    assert f"SAID {words}" in printed
    run = mlflow.get_run(job.run_id)
    assert (run.info.status, run.info.run_name, run.data.metrics) == ("FINISHED", "said", {"words": 6})
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert run.data.tags["mlflow.databricks.runURL"] in printed
    [task] = connected.runs()[0]["tasks"]
    assert task["environment_key"] == "project"
    assert not list((connected.folder / "workspace").rglob(".mlflow-projects/*")), "the upload is removed"


@pytest.mark.parametrize(
    ("entry_point", "said"), [("module", "NAME __main__"), ("shell", "THERE")], ids=["module", "shell"]
)
def test_other_forms_of_commands(
    entry_point: str, said: str, submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(entry_point, backend_config={"existing_cluster_id": EXISTING})
    assert mlflow.get_run(job.run_id).info.status == "FINISHED"
    assert said in capsys.readouterr().out


def test_what_a_configuration_says_reaches_the_job(submit: Submit, connected: Workspace) -> None:
    config = {
        "new_cluster": CLUSTER,
        "libraries": [{"pypi": {"package": "click"}}],
        "max_retries": 1,
        "timeout_seconds": 600,
        "tags": {"team": "retention"},
        "volume": "/Volumes/main/default/projects",
        "run_as": {"service_principal_name": "0a1b"},
    }
    job = submit(backend_config=config)
    [task] = connected.runs()[0]["tasks"]
    assert task["new_cluster"] == {**CLUSTER, "custom_tags": {"team": "retention"}}
    assert task["libraries"] == config["libraries"]
    assert task["max_retries"] == 1
    assert task["spark_python_task"]["python_file"].startswith("/Volumes/main/default/projects/mlflow-projects/")
    assert mlflow.get_run(job.run_id).data.tags["team"] == "retention"
    assert not list((connected.folder / "volumes").rglob("*.py"))


def test_several_at_a_time(submit: Submit) -> None:
    jobs = [submit("waits", parameters={"seconds": seconds}, synchronous=False) for seconds in ("0.1", "300")]
    assert jobs[0].wait()
    assert jobs[1].get_status() == "RUNNING"
    jobs[1].cancel()
    statuses = [mlflow.get_run(job.run_id).info.status for job in jobs]
    assert statuses == ["FINISHED", "FAILED"]


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Git server with the examples and a foreign project."""
    with pytest.MonkeyPatch.context() as patch, GitServer(tmp_path_factory.mktemp("served")) as server:
        for name, value in HERMETIC.items():
            patch.setenv(name, value)
        repository = Repository(server.folder, tmp_path_factory.mktemp("tree"), "collection")
        for example in ("classification", "clustering", "git_project"):
            ignored = shutil.ignore_patterns("__pycache__", "mlruns", ".mypy_cache")
            shutil.copytree(COLLECTION / example, repository.tree / example, ignore=ignored)
        shutil.copytree(HERE / "foreign", repository.tree / "foreign")
        repository.commit("All of it", tag="v1")
        yield server.url("collection")


ON_A_CLUSTER = {"new_cluster": CLUSTER, "libraries": []}
SAME: dict[str, tuple[str, str, dict[str, str], str | None, dict[str, Any]]] = {
    "classification": ("{git}#classification", "gaussian_nb", {}, "v1", ON_A_CLUSTER),
    "clustering": (str(COLLECTION / "clustering"), "kmeans", {"n_init": "1"}, None, {}),
    "foreign": ("{git}#foreign", "main", {"alpha": "0.7"}, None, {"existing_cluster_id": EXISTING}),
    "small": (str(HERE / "small"), "main", {"said": "a b", "letter": "2"}, None, {}),
}


def test_projects_give_the_same_as_on_this_machine(submit: Submit, git: str, store: Store) -> None:
    """From a folder and from a Git URL, serverless, on a new cluster and on one that is there; four of them at once."""
    jobs = {}
    for name, (uri, entry_point, parameters, version, config) in SAME.items():
        jobs[name] = submit(
            *[entry_point, uri.format(git=git)],
            parameters=parameters,
            version=version,
            backend_config=dict(config),
            synchronous=False,
        )
    from_git = {"repo": git, "version": "v1", "runs": "gaussian_nb", "env_manager": "local"}
    runs_others = submit(*["main", f"{git}#git_project"], parameters=from_git, synchronous=False)
    here = {}
    for name, (_, entry_point, parameters, _, _) in SAME.items():
        folder = COLLECTION / name if (COLLECTION / name).exists() else HERE / name
        here[name] = store.mlflow_run(folder, entry_point, parameters).run
        assert jobs[name].wait()
        there = mlflow.get_run(jobs[name].run_id)
        assert there.data.params == here[name].data.params
        assert metrics_without_times(there) == metrics_without_times(here[name]) != {}
    trained = jobs["classification"].run_id
    assert mlflow.get_run(trained).data.tags["mlflow.source.name"] == f"{git}#classification"
    assert runs_others.wait()
    [child] = [run for run in all_runs() if run.data.tags.get("mlflow.parentRunId") == runs_others.run_id]
    assert metrics_without_times(child) == metrics_without_times(here["classification"])

    name = "main.default.churn"
    words = {"model_uri": f"runs:/{trained}/model", "name": name, "description": "Who leaves, by naive Bayes"}
    submit("register", COLLECTION / "registry_deploy", parameters=words)
    assert MlflowClient().get_model_version_by_alias(name, "challenger").run_id == trained


# What is refused before there is a run.

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"backend_config": {"existing_cluster_id": "1-2-x"}}, "names the cluster 1-2-x, which does not exist"),
    ({"version": "main"}, "give a Git URL"),
    ({"entry_point": "nothing"}, "Could not find nothing among entry points"),
    ({"experiment_name": None, "experiment_id": "987654"}, "987654"),
]


@pytest.mark.parametrize(("call", "line"), REFUSED)
def test_a_call_that_would_fail_later_is_refused(
    call: dict[str, Any], line: str, submit: Submit, connected: Workspace
) -> None:
    before = begun(connected)
    with pytest.raises(ExecutionException, match=line):
        submit(**call)
    assert begun(connected) == before


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("DATABRICKS_TOKEN", "wrong", "Invalid access token"),
        ("DATABRICKS_HOST", "http://127.0.0.1:9", "127.0.0.1:9 does not answer"),
    ],
)
def test_a_workspace_that_cannot_be_entered_is_named_in_one_line(
    name: str, value: str, line: str, submit: Submit, connected: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = begun(connected)
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        with pytest.raises(ExecutionException, match=line) as caught:
            submit(experiment_name=None, experiment_id="0")
    assert "\n" not in str(caught.value)
    assert begun(connected) == before


def test_a_deleted_experiment_is_refused(submit: Submit) -> None:
    experiment = mlflow.create_experiment("/Shared/deleted")
    mlflow.delete_experiment(experiment)
    with pytest.raises(ExecutionException, match="The experiment /Shared/deleted was deleted"):
        submit(experiment_name=None, experiment_id=experiment)


def test_a_runtime_whose_python_cannot_install_the_pins_is_refused(submit: Submit, connected: Workspace) -> None:
    before = begun(connected)
    old = {**CLUSTER, "spark_version": "15.4.x-scala2.12"}
    config = {"new_cluster": old, "libraries": [{"pypi": {"package": "numpy==2.5.0"}}]}
    right = r"numpy==2.5.0 needs Python 3.12, and the runtime 15.4.x-scala2.12 has Python 3.11: take the runtime 16.4"
    with pytest.raises(ExecutionException, match=right):
        submit(backend_config=config)
    assert begun(connected) == before


# What goes wrong later.

FAULTS: list[tuple[str, str, int, str]] = [
    ("main", "/api/2.0/workspace/import", 403, "A fault that was asked for"),
    ("main", "/api/2.2/jobs/runs/submit", 403, "A fault that was asked for"),
    ("main", "/api/2.2/jobs/runs/submit", 429, "Timed out after"),
    ("main", "/api/2.0/mlflow/runs/log-batch", 403, "A fault that was asked for"),
    ("waits", "/api/2.2/jobs/runs/get", 403, "A fault that was asked for"),
]


@pytest.mark.parametrize(("entry_point", "route", "status", "line"), FAULTS)
def test_a_workspace_that_refuses_leaves_nothing_running(
    entry_point: str, route: str, status: int, line: str, submit: Submit, connected: Workspace
) -> None:
    connected.fail(route=route, status=status)
    with pytest.raises(ExecutionException, match=line):
        submit(entry_point)
    connected.heal()
    assert last_run().info.status == "FAILED"


def test_a_busy_workspace_costs_time_only(submit: Submit, connected: Workspace) -> None:
    connected.fail(route="/api/2.2/jobs/runs/submit", status=429, times=1)
    connected.fail(route="/api/2.2/jobs/runs/get", status=503, times=1)
    jobs, _ = begun(connected)
    submit("waits", parameters={"seconds": "0.1"})
    assert begun(connected)[0] == jobs + 1


def test_a_job_that_dies_before_it_begins_fails_its_run(
    submit: Submit, connected: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    connected.job_dies()
    with pytest.raises(ExecutionException):
        submit()
    assert "The job failed: Could not reach driver of cluster" in capsys.readouterr().err
    assert last_run().info.status == "FAILED"


@pytest.mark.parametrize(
    ("entry_point", "line"), [("fails", "ValueError: this is how it failed"), ("refuses", "Error: nothing to do")]
)
def test_an_entry_point_that_fails_shows_its_log_and_closes_every_run(
    entry_point: str, line: str, submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExecutionException):
        submit(entry_point)
    assert line in capsys.readouterr().out


def test_a_job_that_takes_too_long_is_ended(submit: Submit, connected: Workspace) -> None:
    with pytest.raises(ExecutionException):
        submit("waits", backend_config={"timeout_seconds": 1})
    assert connected.runs()[0]["state"]["result_state"] == "TIMEDOUT"


# The command itself.


def command(workspace: Workspace, small: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "run", str(small), "-b", "databricks-jobs", *words],
        env={**workspace.environment, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if word in line:
            return printed
    raise AssertionError(printed)


def test_the_command_waits_and_ctrl_c_cancels_once_and_for_all(connected: Workspace, small: Path) -> None:
    process = command(connected, small, "-e", "waits")
    read_until(process, "WAITING")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)  # while the first is answered, or, on a fast machine, after it
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0, printed
    assert connected.runs()[0]["state"]["result_state"] == "CANCELED"
    assert connected.token not in printed
    nothing_left(connected)


def test_a_job_ends_its_run_when_the_command_was_killed(connected: Workspace, small: Path) -> None:
    process = command(connected, small, "-e", "waits", "-P", "seconds=3")
    read_until(process, "WAITING")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    job = connected.wait(connected.runs()[0]["run_id"])
    assert job["state"]["result_state"] == "SUCCESS"
    assert last_run().info.status == "FINISHED"


def test_a_malformed_configuration_is_named_by_line_and_column(connected: Workspace, small: Path) -> None:
    """By MLflow, which reads the file itself."""
    process = command(connected, small, "--backend-config", json.dumps({"new_cluster": 1})[:-1])
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "line 1 column 18" in printed
