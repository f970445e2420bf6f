"""`-b databricks-jobs` against the local workspace: what runs, what is refused, and that nothing is left over."""

from __future__ import annotations

import json
import os
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
import mlflow.cli
import pytest
from click.testing import CliRunner
from git_server import HERMETIC, GitServer, Repository
from local_workspace import CLUSTER, EXISTING, Fault, Workspace
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import ExecutionException
from mlflow.projects import SubmittedRun
from running import COLLECTION, PATIENCE, Store, metrics_without_times, wait_until
from same_model import files_of, models_of

HERE = Path(__file__).parent
EXPERIMENT = "/Shared/jobs"
Submit = Callable[..., SubmittedRun]
Typed = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with files that Git would not commit."""
    folder = tmp_path_factory.mktemp("projects") / "small"
    shutil.copytree(HERE / "small", folder)
    (folder / "password.secret").write_text("hunter2")
    return folder


@pytest.fixture
def clean(connected: Workspace, faults: list[Fault], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test no job is active and no run is RUNNING."""
    monkeypatch.setattr("mlflow_databricks_jobs.backend.PATIENCE", 30)  # looked up now: the plugin as it is loaded
    yield
    faults.clear()
    nothing_left(connected)


@pytest.fixture
def submit(clean: None, small: Path) -> Submit:
    """Runs an entry point of the small project, or of another."""

    def call(entry_point: str = "main", project: object = small, **more: Any) -> SubmittedRun:
        given = {"parameters": {}, "experiment_name": EXPERIMENT, **more}
        return mlflow.projects.run(str(project), entry_point, backend="databricks-jobs", **given)

    return call


@pytest.fixture
def typed(clean: None, small: Path) -> Typed:
    """Exit code and words of `mlflow run small -b databricks-jobs ...`, the command itself in this process."""

    def call(*words: str, experiment: str = EXPERIMENT) -> tuple[int, str]:
        where = ["--experiment-name", experiment] if experiment else []
        done = CliRunner().invoke(mlflow.cli.cli, ["run", str(small), "-b", "databricks-jobs", *where, *words])
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


FORMS = {  # what an entry point prints, and how it ends
    "module": ("NAME __main__", "FINISHED"),
    "shell": ("THERE", "FINISHED"),
    "fails": ("ValueError: this is how it failed", "FAILED"),
    "refuses": ("Error: nothing to do", "FAILED"),
}


def test_every_form_of_command_ends_as_it_should_several_at_a_time(
    submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    existing = {"existing_cluster_id": EXISTING}
    jobs = {name: submit(name, backend_config=dict(existing), synchronous=False) for name in FORMS}
    lasting = submit("waits", synchronous=False)
    capsys.readouterr()
    for name, (line, status) in FORMS.items():
        assert jobs[name].wait() is (status == "FINISHED")
        assert line in capsys.readouterr().out
        assert mlflow.get_run(jobs[name].run_id).info.status == status
    assert lasting.get_status() == "RUNNING"
    lasting.cancel()
    assert mlflow.get_run(lasting.run_id).info.status == "FAILED"


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
    job = submit("waits", parameters={"seconds": "0.1"}, backend_config=config)
    [task] = connected.runs()[0]["tasks"]
    assert task["new_cluster"] == {**CLUSTER, "custom_tags": {"team": "retention"}}
    assert task["libraries"] == config["libraries"]
    assert task["max_retries"] == 1
    assert task["spark_python_task"]["python_file"].startswith("/Volumes/main/default/projects/mlflow-projects/")
    assert mlflow.get_run(job.run_id).data.tags["team"] == "retention"
    assert not list((connected.folder / "volumes").rglob("*.py"))


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


PROJECTS: dict[str, tuple[str, dict[str, str]]] = {  # entry point and parameters
    "git_project": ("main", {"repo": "{git}", "version": "v1", "runs": "gaussian_nb", "env_manager": "local"}),
    "clustering": ("kmeans", {"n_init": "1", "sample_size": "1000"}),
    "classification": ("gaussian_nb", {}),
    "foreign": ("main", {"alpha": "0.7"}),
    "foreign_conda": ("main", {"alpha": "0.7"}),
    "registry_deploy": ("register", {"experiment": "/Shared/classification", "name": "main.default.churn"}),
}
NUMPY = [{"pypi": {"package": "numpy==2.5.0"}}]
NEW, THERE = {"new_cluster": CLUSTER, "libraries": []}, {"existing_cluster_id": EXISTING}
# Each project once; each form at least twice: serverless or on a cluster, from a folder or from a Git URL.
CHOSEN: list[tuple[str, dict[str, Any], bool]] = [
    ("git_project", NEW, True),
    ("classification", {}, True),
    ("clustering", {}, False),
    ("foreign", {}, True),
    ("foreign_conda", NEW, True),
    ("registry_deploy", THERE, False),
]


def content_of(run: Run, children: list[Run], artifacts: Path) -> list[dict[str, Any]]:
    """Parameters, metrics and logged models of a run, and of those below it."""
    return [
        {
            "params": each.data.params,
            "metrics": metrics_without_times(each),
            "models": models_of(each, artifacts),
        }
        for each in (run, *children)
    ]


def test_projects_give_the_same_as_on_this_machine(
    submit: Submit, connected: Workspace, git: str, store: Store
) -> None:
    """Parameters, metrics and models to the digit."""
    jobs = []

    def begin(project: str, config: dict[str, Any], from_git: bool) -> None:
        entry_point, parameters = PROJECTS[project]
        jobs.append(
            submit(
                entry_point,
                f"{git}#{project}" if from_git else folder_of(project),
                parameters={name: value.format(git=git) for name, value in parameters.items()},
                version="v1" if from_git else None,
                backend_config=dict(config),
                experiment_name=f"/Shared/{project}",
                synchronous=False,
            )
        )

    *others, (last, config, from_git) = CHOSEN
    for chosen in others:
        begin(*chosen)
    here = {}
    for project, (entry_point, parameters) in PROJECTS.items():
        given = {name: value.format(git=git) for name, value in parameters.items()}
        experiment = ["--experiment-name", f"/Shared/{project}"]
        run = store.mlflow_run(
            folder_of(project), entry_point, given, *experiment, environment={"INFER_ANEW": "as the job does"}
        ).run
        here[project] = content_of(run, store.children(run), Path(run.info.artifact_uri).parents[2])
        assert here[project][-1]["metrics"] or project == last
        assert here[project][-1]["models"] or project == last
    for position, (project, _, _) in enumerate(CHOSEN):
        if project == last:
            begin(last, config, from_git)  # it registers what classification has trained
        assert jobs[position].wait()
        there = mlflow.get_run(jobs[position].run_id)
        asked = f"tags.`mlflow.parentRunId` = '{there.info.run_id}'"
        children = list(MlflowClient().search_runs([there.info.experiment_id], asked))
        found = content_of(there, children, connected.folder / "tracking" / "artifacts")
        assert found == here[project], CHOSEN[position]
        assert {each.info.status for each in (there, *children)} == {"FINISHED"}
        if project == "classification":
            assert there.data.tags["mlflow.source.name"] == f"{git}#classification"
    name, alias = "main.default.churn", "challenger"
    registered = MlflowClient(registry_uri="databricks-uc").get_model_version_by_alias(name, alias)
    assert (registered.version, registered.run_id) == ("1", jobs[1].run_id)
    assert measured(registered) == measured(store.client.get_model_version_by_alias(name, alias))
    trained = here["classification"][0]["models"][0]
    files = files_of(connected.folder / "models/main/default/churn/1")
    del files["registered_model_meta"]  # what MLflow adds to the files of a version
    assert files
    assert {**trained, **files} == trained


def measured(version: ModelVersion) -> dict[str, str]:
    """What a registered version says of its data and metrics; Unity Catalog takes no full stop in a key."""
    tags = {key.replace("__2E__", "."): value for key, value in version.tags.items()}
    kept = [key for key in tags if key == "dataset" or key.startswith("metric.")]
    return {key: tags[key] for key in kept if not key.endswith("_seconds")}


def test_the_commands_of_the_page_submit_what_it_says(
    clean: None, connected: Workspace, git: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed to the letter but for two names; the jobs are not waited for: what they run is compared above."""
    monkeypatch.chdir(COLLECTION)
    monkeypatch.setattr("mlflow_databricks_jobs.submitted_job.SubmittedJob.wait", lambda job: not job.cancel())
    page = (COLLECTION / "on_databricks" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\| `(mlflow run \S+ .*-b databricks-jobs .*?)` \|", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        for name, ours in {"0101-120000-abcdefgh": EXISTING, "https://git.example.com/you/collection.git": git}.items():
            command = command.replace(name, ours)
        done = CliRunner().invoke(mlflow.cli.cli, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
    here, new, serverless = [run["tasks"][0] for run in connected.runs()[:3]]
    assert serverless["environment_key"] == "project"
    assert new["new_cluster"]["spark_version"].startswith("17.3")
    assert new["libraries"]
    assert here["existing_cluster_id"] == EXISTING


# What is refused before there is a run.

# Words of the command, its experiment, exit code and line; the last four are refused by MLflow itself.
REFUSED: list[tuple[list[str], str, int, str]] = [
    (
        ["--backend-config", '{"existing_cluster_id": "1-2-x"}'],
        EXPERIMENT,
        1,
        "names the cluster 1-2-x, which does not",
    ),
    (["--backend-config", '{"new_cluster": {"num_workers": 0}}'], EXPERIMENT, 1, "lacks new_cluster.spark_version"),
    (["--version", "main"], EXPERIMENT, 1, "give a Git URL"),
    (["-e", "nothing"], EXPERIMENT, 1, "Could not find nothing among entry points"),
    ([], "", 1, "Give the experiment, a path of the workspace: --experiment-name /Shared/churn"),
    (["--experiment-id", "987654"], "", 1, "987654"),
    (["--backend-config", '{"new_cluster": 1'], EXPERIMENT, 2, "line 1 column 18"),
    (["--backend-config", "cluster.yaml"], EXPERIMENT, 2, "Invalid backend config JSON"),
    (["--backend-config", "{comma}"], EXPERIMENT, 1, "line 1 column 23"),
    ([], "churn", 1, "An experiment name must be an absolute path"),
]


@pytest.mark.parametrize(("words", "experiment", "code", "line"), REFUSED)
def test_a_call_that_would_fail_later_is_refused(
    words: list[str], experiment: str, code: int, line: str, typed: Typed, connected: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.json"
    file.write_text('{"timeout_seconds": 1,}')
    before = begun(connected)
    done = typed(*[word.replace("{comma}", str(file)) for word in words], experiment=experiment)
    assert done[0] == code, done
    assert line in done[1]
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
    config = {"new_cluster": old, "libraries": NUMPY}
    right = r"numpy==2.5.0 needs Python 3.12, and the runtime 15.4.x-scala2.12 has Python 3.11: take the runtime 16.4"
    with pytest.raises(ExecutionException, match=right):
        submit(backend_config=config)
    assert begun(connected) == before


# What goes wrong later: one line, exit code 1, no job that goes on, no run RUNNING.

FAULTS: list[tuple[str, str, int, str]] = [
    ("main", "/api/2.0/workspace/import", 403, "A fault."),
    ("main", "/api/2.2/jobs/runs/submit", 403, "A fault."),
    ("main", "/api/2.2/jobs/runs/submit", 429, "Timed out after"),
    ("main", "/api/2.0/mlflow/runs/log-batch", 403, "A fault."),
    ("waits", "/api/2.2/jobs/runs/get", 403, "A fault."),
]


@pytest.mark.parametrize(("entry_point", "route", "status", "line"), FAULTS)
def test_a_workspace_that_refuses_leaves_nothing_running(
    entry_point: str, route: str, status: int, line: str, typed: Typed, connected: Workspace, faults: list[Fault]
) -> None:
    _, runs = begun(connected)
    faults.append(Fault(route, status))
    code, printed = typed("-e", entry_point)
    assert (code, printed.count(line)) == (1, 1), printed
    assert "Traceback" not in printed
    faults.clear()
    assert not list((connected.folder / "workspace").rglob(".mlflow-projects/*")), "the upload is removed"
    if route.endswith("/import"):  # a command that is killed meanwhile leaves no run that stays RUNNING
        assert begun(connected)[1] == runs
    else:
        assert last_run().info.status == "FAILED"


def test_a_busy_workspace_costs_time_only(typed: Typed, connected: Workspace, faults: list[Fault]) -> None:
    faults += [Fault("/api/2.2/jobs/runs/submit", 429, times=3), Fault("/api/2.2/jobs/runs/get", 503, times=3)]
    jobs, _ = begun(connected)
    code, printed = typed("-e", "waits", "-P", "seconds=0.1")
    assert (code, begun(connected)[0]) == (0, jobs + 1), printed


def test_a_job_that_dies_before_it_begins_fails_its_run(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mlflow_databricks_jobs.backend.check_pins", lambda *given: None
    )  # so that the workspace finds it
    old = {"new_cluster": {**CLUSTER, "spark_version": "15.4.x-scala2.12"}, "libraries": NUMPY}
    code, printed = typed("--backend-config", json.dumps(old))
    assert code == 1
    assert "The job failed: Library installation failed: numpy==2.5.0 needs Python 3.12" in printed
    assert last_run().info.status == "FAILED"


def test_a_job_that_takes_too_long_is_ended(typed: Typed, connected: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({"existing_cluster_id": EXISTING, "timeout_seconds": 1}))
    code, printed = typed("-e", "waits", "--backend-config", str(file))
    job = connected.runs()[0]
    assert (code, job["state"]["result_state"]) == (1, "TIMEDOUT"), printed
    assert job["tasks"][0]["existing_cluster_id"] == EXISTING
    assert f"The run {last_run().info.run_id} failed." in printed


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
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, printed
    assert connected.wait(connected.runs()[0]["run_id"])["state"]["result_state"] == "CANCELED"
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
