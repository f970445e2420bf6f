"""`-b databricks-jobs` against the local workspace: what runs, what is refused, and that nothing is left over."""

from __future__ import annotations

import json
import re
import shlex
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
from click.testing import CliRunner
from git_server import HERMETIC, GitServer, Repository
from local_workspace import CLUSTER, EXISTING, Fault, Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException
from mlflow.projects import SubmittedRun
from mlflow_databricks_jobs.backend import RUNNER
from running import COLLECTION, PATIENCE, Store, metrics_without_times, wait_until
from same_model import files_of, models_of

HERE = Path(__file__).parent
SMALL = HERE / "small"
EXPERIMENT = "/Shared/jobs"
WORDS = "two  words, 'one' \"quoted\""
Submit = Callable[..., SubmittedRun]
Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def clean(connected: Workspace, faults: list[Fault], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test no job is active and no run is RUNNING."""
    monkeypatch.setattr("mlflow_databricks_jobs.backend.PATIENCE", 30)  # looked up now: the plugin as it is loaded
    monkeypatch.setattr("mlflow_databricks_jobs.backend.KNOCKING", 5)
    yield
    faults.clear()
    nothing_left(connected)


@pytest.fixture
def submit(clean: None) -> Submit:
    """Runs an entry point of the small project, or of another."""

    def call(entry_point: str = "main", project: object = SMALL, **more: Any) -> SubmittedRun:
        given = {"parameters": {}, "experiment_name": EXPERIMENT, **more}
        return mlflow.projects.run(str(project), entry_point, backend="databricks-jobs", **given)

    return call


@pytest.fixture
def typed(clean: None) -> Typed:
    """Exit code and words of `mlflow run small -b databricks-jobs ...`, the command itself in this process."""
    from mlflow.cli import cli  # takes more than a second, in each worker that only collects this file as well

    def call(*words: str) -> tuple[int, str]:
        where = [] if "--experiment-id" in words else ["--experiment-name", EXPERIMENT]  # a later one wins
        done = CliRunner().invoke(cli, ["run", str(SMALL), "-b", "databricks-jobs", *where, *words])
        error = done.exception if done.exception and not isinstance(done.exception, SystemExit) else ""
        return done.exit_code, f"{done.output}{error}"

    return call


def nothing_left(workspace: Workspace) -> None:
    wait_until(lambda: all("result_state" in run["state"] for run in workspace.runs()))
    assert [run.info.run_id for run in all_runs() if run.info.status == "RUNNING"] == []


def all_runs() -> list[Run]:
    """Every run of every experiment."""
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments)) if experiments else []


def begun(workspace: Workspace) -> tuple[int, int, int]:
    """How many jobs, runs and uploads there are."""
    uploads = [*workspace.folder.rglob(".mlflow-projects/*"), *workspace.folder.rglob("mlflow-projects/*")]
    return len(workspace.runs()), len(all_runs()), len(uploads)


def last_run() -> Run:
    return max(all_runs(), key=lambda run: run.info.start_time)


# What runs.


def test_serverless_by_default_and_any_text_arrives_unharmed_in_a_busy_workspace(
    submit: Submit, connected: Workspace, faults: list[Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    before = begun(connected)
    faults += [Fault("/api/2.2/jobs/runs/submit", 429, times=3), Fault("/api/2.2/jobs/runs/get", 503, times=3)]
    text = "$HOME {{job.id}} {x} `ls` | ;"
    job = submit(parameters={"letter": text}, run_name="said")
    assert (job.wait(), job.get_status()) == (True, "FINISHED")
    printed = capsys.readouterr().out
    assert f"SAID {['--said', WORDS, '--nothing', '', '--letter', text]}" in printed
    run = mlflow.get_run(job.run_id)
    assert (run.info.status, run.info.run_name, run.data.metrics) == ("FINISHED", "said", {"words": 6})
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert run.data.tags["mlflow.databricks.runURL"] in printed
    [task] = connected.runs()[0]["tasks"]
    assert task["environment_key"] == "project"
    assert begun(connected) == (before[0] + 1, before[1] + 1, before[2]), "the upload is removed"


def test_what_fails_fails_and_several_run_at_a_time(submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    existing = {"existing_cluster_id": EXISTING}
    lasting, fails = (submit(name, backend_config=dict(existing), synchronous=False) for name in ("waits", "fails"))
    assert fails.wait() is False
    assert "ValueError: this is how it failed" in capsys.readouterr().out
    assert lasting.get_status() == "RUNNING"
    lasting.cancel()
    assert {mlflow.get_run(job.run_id).info.status for job in (lasting, fails)} == {"FAILED"}


def test_what_a_configuration_says_reaches_the_job_which_is_ended_in_time(
    typed: Typed, connected: Workspace, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "new_cluster": CLUSTER,
        "libraries": [{"pypi": {"package": "click"}}],
        "max_retries": 1,
        "timeout_seconds": 1,
        "tags": {"team": "retention"},
        "volume": "/Volumes/main/default/projects",
        "run_as": {"service_principal_name": "0a1b"},
    }
    (tmp_path / "cluster.json").write_text(json.dumps(config))
    uploads = begun(connected)[2]
    code, printed = typed("-e", "waits", "--backend-config", str(tmp_path / "cluster.json"))
    job, run = connected.runs()[0], last_run()
    assert (code, job["state"]["result_state"]) == (1, "TIMEDOUT"), printed
    assert f"The run {run.info.run_id} failed." in printed
    [task] = job["tasks"]
    assert task["new_cluster"] == {**CLUSTER, "custom_tags": {"team": "retention"}}
    assert (task["libraries"], task["max_retries"]) == (config["libraries"], 1)
    assert task["spark_python_task"]["python_file"].startswith("/Volumes/main/default/projects/mlflow-projects/")
    assert run.data.tags["team"] == "retention"
    assert begun(connected)[2] == uploads


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Git server with the examples and the foreign projects."""
    with pytest.MonkeyPatch.context() as patch, GitServer(tmp_path_factory.mktemp("served")) as server:
        for name, value in HERMETIC.items():
            patch.setenv(name, value)
        repository = Repository(server.folder, tmp_path_factory.mktemp("tree"), "collection")
        for name in PROJECTS:
            ignored = shutil.ignore_patterns("__pycache__", "mlruns", ".mypy_cache")
            shutil.copytree(folder_of(name), repository.tree / name, ignore=ignored)
        repository.commit("All of it", tag="v1")
        yield server.url("collection")


def folder_of(project: str) -> Path:
    return next(place / project for place in (COLLECTION, HERE) if (place / project).exists())


NEW, THERE = {"new_cluster": CLUSTER, "libraries": []}, {"existing_cluster_id": EXISTING}
# Entry point, parameters, configuration, whether from Git; each form at least twice. The last registers what the first
# has trained.
PROJECTS: dict[str, tuple[str, dict[str, str], dict[str, Any], bool]] = {
    "classification": ("gaussian_nb", {}, {}, True),
    "git_project": (
        "main",
        {"repo": "{git}", "version": "v1", "runs": "gaussian_nb", "env_manager": "local"},
        NEW,
        True,
    ),
    "clustering": ("kmeans", {"n_init": "1", "sample_size": "1000"}, {}, False),
    "foreign": ("main", {"alpha": "0.7"}, {}, True),
    "foreign_conda": ("main", {"alpha": "0.7"}, NEW, True),
    "registry_deploy": (
        "register",
        {"experiment": "/Shared/classification", "name": "main.default.churn"},
        THERE,
        False,
    ),
}


def content_of(run: Run, children: list[Run], artifacts: Path) -> list[tuple[Any, ...]]:
    """Parameters, metrics and logged models of a run, and of those below it."""
    return [(each.data.params, metrics_without_times(each), models_of(each, artifacts)) for each in (run, *children)]


def test_projects_give_the_same_as_on_this_machine(
    submit: Submit, connected: Workspace, git: str, store: Store
) -> None:
    """Parameters, metrics and models to the digit."""

    def begin(project: str) -> SubmittedRun:
        entry_point, parameters, config, from_git = PROJECTS[project]
        return submit(
            entry_point,
            f"{git}#{project}" if from_git else folder_of(project),
            parameters={name: value.format(git=git) for name, value in parameters.items()},
            version="v1" if from_git else None,
            backend_config=dict(config),
            experiment_name=f"/Shared/{project}",
            synchronous=False,
        )

    *others, last = PROJECTS
    jobs = {project: begin(project) for project in others}
    here = {}
    for project, (entry_point, parameters, _, _) in PROJECTS.items():
        given = {name: value.format(git=git) for name, value in parameters.items()}
        run = store.mlflow_run(folder_of(project), entry_point, given, "--experiment-name", f"/Shared/{project}").run
        here[project] = content_of(run, store.children(run), Path(run.info.artifact_uri).parents[2])
        _, metrics, models = here[project][-1]
        assert project == last or (metrics and models)
    for project in PROJECTS:
        job = jobs[project] if project in jobs else begin(project)
        assert job.wait()
        there = mlflow.get_run(job.run_id)
        asked = f"tags.`mlflow.parentRunId` = '{there.info.run_id}'"
        children = list(MlflowClient().search_runs([there.info.experiment_id], asked))
        assert content_of(there, children, connected.folder / "tracking" / "artifacts") == here[project], project
        assert {each.info.status for each in (there, *children)} == {"FINISHED"}
    trained = jobs["classification"].run_id
    tags = mlflow.get_run(trained).data.tags
    assert tags["mlflow.source.name"] == f"{git}#classification"
    assert len(tags["mlflow.source.git.commit"]) == 40
    name, alias = "main.default.churn", "challenger"
    registered = MlflowClient(registry_uri="databricks-uc").get_model_version_by_alias(name, alias)
    assert (registered.version, registered.run_id) == ("1", trained)
    ours, local = registered.tags, store.client.get_model_version_by_alias(name, alias).tags
    said = {
        key.replace("__2E__", "."): value for key, value in ours.items()
    }  # Unity Catalog takes no full stop in a key
    kept = [key for key in local if key == "dataset" or (key.startswith("metric.") and not key.endswith("_seconds"))]
    assert {key: said.get(key) for key in kept} == {key: local[key] for key in kept}
    [model], files = here["classification"][0][2], files_of(connected.folder / "models/main/default/churn/1")
    del files["registered_model_meta"]  # what MLflow adds to the files of a version
    assert files
    assert {**model, **files} == model


def test_the_commands_of_the_page_submit_what_it_says(
    clean: None, connected: Workspace, git: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed to the letter but for two names; the jobs are not waited for: what they run is compared above."""
    from mlflow.cli import cli

    monkeypatch.chdir(COLLECTION)
    monkeypatch.setattr("mlflow_databricks_jobs.submitted_job.SubmittedJob.wait", lambda job: not job.cancel())
    page = (COLLECTION / "on_databricks" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\| `(mlflow run \S+ .*-b databricks-jobs .*?)` \|", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        for name, ours in {"0101-120000-abcdefgh": EXISTING, "https://git.example.com/you/collection.git": git}.items():
            command = command.replace(name, ours)
        done = CliRunner().invoke(cli, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
    here, new, serverless = [run["tasks"][0] for run in connected.runs()[:3]]
    assert serverless["environment_key"] == "project"
    assert new["new_cluster"]["spark_version"].startswith("17.3")
    assert new["libraries"]
    assert here["existing_cluster_id"] == EXISTING


# What is refused before there is a run.

OLD: dict[str, Any] = {"new_cluster": {**CLUSTER, "spark_version": "15.4.x-scala2.12"}}
OLD["libraries"] = [{"pypi": {"package": "numpy==2.5.0"}}]

# Words of the command, exit code and line; the last four are refused by MLflow itself.
REFUSED = [
    ("""--backend-config '{"existing_cluster_id": "1-2-x"}'""", 1, "names the cluster 1-2-x, which does not"),
    ("""--backend-config '{"new_cluster": {"num_workers": 0}}'""", 1, "lacks new_cluster.spark_version"),
    ("""--backend-config '{"new_cluster": {"spark_version": "17.3.x-scala2.13"}}'""", 1, "Missing required field"),
    ("--version main", 1, "give a Git URL"),
    ("-e nothing", 1, "Could not find nothing among entry points"),
    ("--experiment-name ''", 1, "Give the experiment, a path of the workspace: --experiment-name /Shared/churn"),
    ("--experiment-id 987654", 1, "987654"),
    ("""--backend-config '{"new_cluster": 1'""", 2, "line 1 column 18"),
    ("--backend-config cluster.yaml", 2, "Invalid backend config JSON"),
    ("--backend-config cluster.json", 1, "line 1 column 23"),
    ("--experiment-name churn", 1, "An experiment name must be an absolute path"),
]


@pytest.mark.parametrize(("words", "code", "line"), REFUSED)
def test_a_call_that_would_fail_later_is_refused(
    words: str,
    code: int,
    line: str,
    typed: Typed,
    connected: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.json").write_text('{"timeout_seconds": 1,}')
    before = begun(connected)
    done = typed(*shlex.split(words))
    assert done[0] == code, done
    assert line in done[1]
    assert begun(connected) == before


CLOSED = {"DATABRICKS_TOKEN": ("wrong", "Invalid access token")}
CLOSED["DATABRICKS_HOST"] = ("http://127.0.0.1:9", "127.0.0.1:9 does not answer")


@pytest.mark.parametrize("name", CLOSED)
def test_a_workspace_that_cannot_be_entered_is_named_in_one_line(
    name: str, submit: Submit, connected: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, line = CLOSED[name]
    before = begun(connected)
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        with pytest.raises(ExecutionException, match=f"^[^\\n]*{line}[^\\n]*$"):
            submit(experiment_name=None, experiment_id="0")
    assert begun(connected) == before


def test_a_deleted_experiment_and_a_runtime_whose_python_cannot_install_the_pins_are_refused(
    submit: Submit, connected: Workspace
) -> None:
    experiment, before = mlflow.create_experiment("/Shared/deleted"), begun(connected)
    mlflow.delete_experiment(experiment)
    with pytest.raises(ExecutionException, match="The experiment /Shared/deleted was deleted"):
        submit(experiment_name=None, experiment_id=experiment)
    right = r"numpy==2.5.0 needs Python 3.12, and the runtime 15.4.x-scala2.12 has Python 3.11: take the runtime 16.4"
    with pytest.raises(ExecutionException, match=right):
        submit(backend_config=dict(OLD))
    assert begun(connected) == before


# What goes wrong later: one line, exit code 1, no job that goes on, no run RUNNING.

FAULTS: list[tuple[str, str, int, str]] = [
    ("main", "/api/2.0/workspace/import", 403, "A fault."),
    ("main", "/api/2.2/jobs/runs/submit", 403, "A fault."),
    ("main", "/api/2.2/jobs/runs/submit", 429, "Timed out after"),
    ("main", "/api/2.0/mlflow/runs/create", 403, "A fault."),
    ("main", "/api/2.0/mlflow/runs/log-batch", 403, "A fault."),
    ("waits", "/api/2.2/jobs/runs/get", 403, "A fault."),
]


@pytest.mark.parametrize(("entry_point", "route", "status", "line"), FAULTS)
def test_a_workspace_that_refuses_leaves_nothing_running(
    entry_point: str, route: str, status: int, line: str, typed: Typed, connected: Workspace, faults: list[Fault]
) -> None:
    before = begun(connected)
    faults.append(Fault(route, status))
    code, printed = typed("-e", entry_point)
    assert (code, printed.count(line)) == (1, 1), printed
    assert "Traceback" not in printed
    faults.clear()
    _, runs, uploads = begun(connected)
    assert uploads == before[2], "the upload is removed"
    if route.endswith(("/import", "/submit", "/create")):
        assert runs == before[1]
    else:
        assert last_run().info.status == "FAILED"


def test_a_job_that_dies_before_it_begins_fails_its_run(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mlflow_databricks_jobs.backend.check_pins", lambda *given: None
    )  # so that the workspace finds it
    code, printed = typed("--backend-config", json.dumps(OLD))
    assert code == 1
    assert "The job failed: Library installation failed: numpy==2.5.0 needs Python 3.12" in printed
    assert last_run().info.status == "FAILED"


@pytest.mark.parametrize(
    ("request_", "result", "runs"), [("create_run", "FAILED", []), ("log_batch", "SUCCESS", ["FINISHED"])]
)
def test_a_command_killed_while_it_begins_the_run_leaves_none_running(
    request_: str,
    result: str,
    runs: list[str],
    submit: Submit,
    connected: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job is there already: it ends the run that it finds, and itself where there is none."""
    runner, before = tmp_path / RUNNER.name, {run.info.run_id for run in all_runs()}
    runner.write_text(RUNNER.read_text().replace("PATIENCE = 300 ", "PATIENCE = 2 "))
    monkeypatch.setattr("mlflow_databricks_jobs.backend.RUNNER", runner)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, request_, killed)
        patch.setattr("mlflow_databricks_jobs.submitted_job.SubmittedJob.cancel", lambda job: None)
        with pytest.raises(KeyboardInterrupt):
            submit("waits", parameters={"seconds": "0.1"})
    job = connected.wait(connected.runs()[0]["run_id"])
    assert job["state"]["result_state"] == result, job
    assert [run.info.status for run in all_runs() if run.info.run_id not in before] == runs


def killed(*given: object, **more: object) -> None:
    raise KeyboardInterrupt


# The command itself.


def test_ctrl_c_cancels_the_job(connected: Workspace) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "run", str(SMALL), "-b", "databricks-jobs", "-e", "waits"],
        env={**connected.environment, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    lines = iter(process.stdout)
    assert any("WAITING" in line for line in lines)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)  # while the first is answered, or, on a fast machine, after it
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, printed
    assert connected.token not in printed
    assert connected.wait(connected.runs()[0]["run_id"])["state"]["result_state"] == "CANCELED"
    nothing_left(connected)
