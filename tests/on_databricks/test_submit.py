"""submit.py: what it refuses before a run exists, and that nothing is left when Databricks, job or user fail."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from running import COLLECTION
from submitting import CLUSTER, FILES, Submitted, Submitter, start, write_json, write_project

EXPERIMENT = "/Shared/submitted"
Submit = Callable[..., Submitted]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project and the descriptions of clusters that it is submitted with."""
    folder = tmp_path_factory.mktemp("submit")
    write_project(folder / "small")
    write_json(folder / "cluster.json", {"new_cluster": CLUSTER})
    write_json(folder / "flat.json", CLUSTER)
    return folder


@pytest.fixture(scope="module")
def submitter(folder: Path) -> Iterator[Submitter]:
    submitter = Submitter(folder)
    yield submitter
    submitter.end()


@pytest.fixture
def submit(submitter: Submitter, folder: Path, workspace: Any) -> Iterator[Submit]:
    """`submit.py small --backend_config cluster.json --experiment_name ... ARGUMENTS`, patient for seconds.

    Afterwards no job is active, no run is RUNNING, and no output has held the token.
    """
    printed = []

    def call(*arguments: object, project: object = "small", **environment: str | None) -> Submitted:
        own = ["--experiment_name", EXPERIMENT] if "--experiment_id" not in arguments else []
        config = [] if "--backend_config" in arguments else ["--backend_config", "cluster.json"]
        patience = [] if "--patience" in arguments else ["--patience", 3]
        variables = {**workspace.environment, **environment}
        done = submitter(
            *[project, *config, *own, *patience, *arguments],
            environment={name: value for name, value in variables.items() if value is not None},
        )
        printed.append(done.output)
        return done

    yield call
    workspace.heal()
    nothing_left(workspace)
    assert not any(workspace.token in output for output in printed)


def nothing_left(workspace: Any) -> None:
    """No job goes on, and no run is RUNNING."""
    assert [run["run_id"] for run in workspace.runs() if "result_state" not in run["state"]] == []
    experiments = [experiment.experiment_id for experiment in workspace.client.search_experiments()]
    assert list(workspace.client.search_runs(experiments, "attributes.status = 'RUNNING'")) == []


def run_of(workspace: Any, done: Submitted) -> Run:
    found = re.search(r"^Run: .*/runs/([0-9a-f]{32})$", done.output, re.MULTILINE)
    assert found, done.output
    run = workspace.client.get_run(found[1])
    assert isinstance(run, Run)
    return run


def begun(workspace: Any) -> tuple[int, int]:
    """How many jobs and how many runs there are."""
    experiment = workspace.client.get_experiment_by_name(EXPERIMENT)
    runs = workspace.client.search_runs([experiment.experiment_id]) if experiment else []
    return len(workspace.runs()), len(runs)


# Before a run is created.

CONFIGS: list[tuple[str, Any, str]] = [
    ("gone.json", None, "cannot be read: No such file or directory"),
    ("cluster.yaml", "new_cluster: {}", "must end in .json"),
    ("comma.json", '{\n  "new_cluster": {\n    "num_workers": 1,\n  }\n}', "is malformed JSON at line 4, column 3"),
    ("list.json", [], "must be a JSON object"),
    ("existing.json", {"existing_cluster_id": "1-2-x"}, "a project runs on a new cluster only"),
    ("inside.json", {"new_cluster": {**CLUSTER, "existing_cluster_id": "x"}}, "names an existing_cluster_id"),
    ("runtime.json", {"new_cluster": {**CLUSTER, "spark_version": None}}, "lacks new_cluster.spark_version"),
    ("node.json", {"new_cluster": {**CLUSTER, "node_type_id": ""}}, "lacks new_cluster.node_type_id"),
    ("size.json", {**CLUSTER, "num_workers": None}, "lacks new_cluster.num_workers or new_cluster.autoscale"),
    ("text.json", {"new_cluster": {**CLUSTER, "num_workers": "two"}}, 'no whole number: "two"'),
    (
        "scale.json",
        {"new_cluster": {**CLUSTER, "autoscale": {"min_workers": 2}}},
        "without min_workers and max_workers",
    ),
    ("beside.json", {"new_cluster": CLUSTER, "num_workers": 1}, "holds num_workers beside new_cluster"),
    ("libraries.json", {"new_cluster": CLUSTER, "libraries": ["skops"]}, "holds libraries that are no list of objects"),
]


@pytest.mark.parametrize(("name", "said", "line"), CONFIGS)
def test_a_backend_configuration_that_would_fail_later_is_refused(
    name: str, said: Any, line: str, submit: Submit, folder: Path
) -> None:
    if isinstance(said, str):
        (folder / name).write_text(said)
    elif said is not None:
        write_json(folder / name, said)
    done = submit("--backend_config", name)
    assert done.code == 2
    assert name in done.error
    assert line in done.error


CALLS: list[tuple[tuple[str, ...], str]] = [
    (("--form", "project"), "does not run on the runtime 17.3.x-cpu-ml-scala2.13: Databricks ended that with 13.0"),
    (("-e", "nothing"), "There is no entry point 'nothing'; there are main, needs, fails, refuses, waits."),
    (("-P", "word=1"), "The entry point main has no parameter 'word'; it has said, nothing, letter."),
    (("-P", "said"), "-P 'said' must have the form NAME=VALUE."),
    (("-P", "said=1", "-P", "said=2"), "The parameter said is given twice."),
    (("-e", "needs"), "The parameter value of needs needs a value: -P value=VALUE."),
    (("-v", "main"), "give its Git address instead"),
    (("--experiment_name", "churn"), "must be a path of the workspace, such as /Shared/churn"),
    (("--form", "docker"), "Invalid value for '--form'"),
    (("--experiment_id", "987654"), "The experiment 987654 cannot be used"),
    (("--experiment_name", ""), "Give the experiment, such as --experiment_name /Shared/churn."),
]


@pytest.mark.parametrize(("arguments", "line"), CALLS)
def test_a_call_that_would_fail_later_is_refused(
    arguments: tuple[str, ...], line: str, submit: Submit, workspace: Any
) -> None:
    before = begun(workspace)
    done = submit(*arguments)
    assert done.code == 2
    assert line in done.error
    assert begun(workspace) == before


def test_a_deleted_experiment_is_refused(submit: Submit, workspace: Any) -> None:
    workspace.client.delete_experiment(workspace.client.create_experiment("/Shared/deleted"))
    assert "The experiment /Shared/deleted was deleted" in submit("--experiment_name", "/Shared/deleted").error


def test_a_project_that_is_not_there_or_cannot_be_sent_is_refused(submit: Submit, folder: Path) -> None:
    assert "neither a folder here nor a Git address" in submit(project="nowhere").error
    assert "has no MLproject file" in submit(project=folder).error
    done = submit(project="https://ada:s3cret@git.example.test/acme/demo.git")
    assert "holds a password" in done.error
    assert "s3cret" not in done.output
    address = "http://127.0.0.1:9/acme/demo.git"
    assert f"The project {address} cannot be fetched: fatal: unable to access" in submit(project=address).error
    write_project(folder / "shell", {"MLproject": "entry_points: {main: {command: bash run.sh}}", "run.sh": ""})
    assert "is not of the form `python FILE ...`" in submit(project="shell").error


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of a host that accepts a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_workspace_that_is_not_to_be_had_is_refused_within_seconds(submit: Submit, silent: str, folder: Path) -> None:
    started = time.monotonic()
    nowhere = {"DATABRICKS_CONFIG_FILE": str(folder / "none.cfg"), "DATABRICKS_TOKEN": None}
    assert "Nothing says which Databricks workspace" in submit(DATABRICKS_HOST=None, **nowhere).error
    assert "cannot configure default credentials" in submit(**nowhere).error
    assert "There is no profile work" in submit(MLFLOW_TRACKING_URI="databricks://work", **nowhere).error
    done = submit(DATABRICKS_HOST="http://127.0.0.1:9")
    assert (done.code, done.error) == (2, "http://127.0.0.1:9 cannot be reached: Connection refused.")
    assert "cannot be reached" in submit(DATABRICKS_HOST="https://workspace.example.invalid").error
    assert "does not answer within 5 seconds" in submit(DATABRICKS_HOST=silent).error
    assert "cannot be reached from a cluster" in submit(MLFLOW_TRACKING_URI="sqlite:///mlflow.db").error
    assert time.monotonic() - started < 60


def test_a_wrong_token_is_refused_and_not_shown(submit: Submit, workspace: Any) -> None:
    before = begun(workspace)
    done = submit(DATABRICKS_TOKEN="dapi-not-the-right-one")
    assert (done.code, begun(workspace)) == (2, before)
    assert "refused the token: Invalid access token. Set DATABRICKS_HOST" in done.error
    assert "dapi-not" not in done.output


def test_a_profile_is_as_good_as_variables(submit: Submit, workspace: Any, folder: Path) -> None:
    """The bad parameter shows that the check of the experiment, the last one, was reached."""
    profiles = folder / "profiles.cfg"
    profiles.write_text(f"[work]\nhost = {workspace.url}\ntoken = {workspace.token}\n")
    done = submit(
        "--experiment_id",
        "987654",
        DATABRICKS_HOST=None,
        DATABRICKS_TOKEN=None,
        DATABRICKS_CONFIG_FILE=str(profiles),
        MLFLOW_TRACKING_URI="databricks://work",
    )
    assert "The experiment 987654 cannot be used" in done.error


@pytest.mark.parametrize(
    ("route", "status", "line"),
    [
        ("/dbfs/", 403, "cannot be written to"),
        ("/api/2.0/dbfs/", 429, "did not answer for 3 seconds"),
        ("/api/2.0/mlflow/experiments", 403, f"The experiment {EXPERIMENT} cannot be used"),
    ],
)
def test_a_workspace_that_refuses_is_found_out_before_a_run_exists(
    route: str, status: int, line: str, submit: Submit, workspace: Any
) -> None:
    before = begun(workspace)
    workspace.fail(route=route, status=status)
    done = submit()
    assert done.code == 2
    assert line in done.error
    workspace.heal()
    assert begun(workspace) == before


# A run that ends well.


def test_a_busy_workspace_costs_time_only(submit: Submit, workspace: Any) -> None:
    """429 and 503 before and after the submission: one job, whose words arrive as they were given."""
    workspace.fail(route="/api/2.0/jobs/runs/submit", status=429, times=1)
    workspace.fail(route="/api/2.0/jobs/runs/get", status=503, times=1)
    jobs, _ = begun(workspace)
    done = submit("-P", "letter=$HOME {x}", "--backend_config", "flat.json", "--run_name", "busy", "--patience", 30)
    assert done.code == 0, done.output
    assert begun(workspace)[0] == jobs + 1
    assert "is staged as a Spark job" in done.output
    assert done.output.count("is busy or away, trying again") == 2
    words = ["--said", "two  words, 'one' \"quoted\"", "--nothing", "", "--letter", "$HOME {x}"]
    assert f"SAID {words}" in done.output
    run = run_of(workspace, done)
    assert (run.info.status, run.info.run_name, run.data.metrics) == ("FINISHED", "busy", {"words": 6})
    assert run.data.tags["mlflow.source.name"].endswith("small")
    assert run.data.tags["mlflow.databricks.runURL"] in done.output
    sent = workspace.runs()[0]["cluster_spec"]["new_cluster"]
    assert sent == CLUSTER


# A run that does not.


def test_a_job_that_dies_before_it_begins_fails_its_run(submit: Submit, workspace: Any) -> None:
    workspace.job_dies()
    done = submit()
    assert done.code == 1
    assert "failed: Could not reach driver of cluster" in done.error
    assert run_of(workspace, done).info.status == "FAILED"


def test_an_entry_point_that_fails_is_shown_with_its_log(submit: Submit, workspace: Any) -> None:
    """The run below it, which it left RUNNING, is closed too."""
    done = submit("-e", "fails")
    assert done.code == 1
    assert "ValueError: this is how it failed" in done.output
    run = run_of(workspace, done)
    below = workspace.client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert [run.info.status, *[child.info.status for child in below]] == ["FAILED", "FAILED"]


def test_an_entry_point_that_refuses_fails_its_run(submit: Submit, workspace: Any) -> None:
    """Though the file itself had not begun it."""
    done = submit("-e", "refuses")
    assert done.code == 1
    assert "Error: nothing to do" in done.output
    assert run_of(workspace, done).info.status == "FAILED"


@pytest.mark.parametrize(
    ("route", "status", "line"),
    [
        ("/api/2.0/jobs/runs/submit", 429, "did not answer for 3 seconds"),
        ("/api/2.0/jobs/runs/submit", 403, "A fault that was asked for"),
        ("/dbfs/mlflow-experiments/{experiment}/", 403, "A fault that was asked for"),
    ],
)
def test_a_job_that_cannot_be_submitted_fails_its_run(
    route: str, status: int, line: str, submit: Submit, workspace: Any
) -> None:
    jobs, _ = begun(workspace)
    experiment = workspace.client.get_experiment_by_name(EXPERIMENT).experiment_id
    workspace.fail(route=route.format(experiment=experiment), status=status)
    done = submit("-P", f"said={route} {status}")  # other files than before, which DBFS would have already
    assert done.code == 1
    assert line in done.error
    assert run_of(workspace, done).info.status == "FAILED"
    assert begun(workspace)[0] == jobs


def test_a_cluster_that_databricks_refuses_fails_its_run(submit: Submit, workspace: Any, folder: Path) -> None:
    write_json(folder / "unknown.json", {"new_cluster": {**CLUSTER, "spark_version": "17.3.x-unheard-of"}})
    done = submit("--backend_config", "unknown.json")
    assert done.code == 1
    assert "Invalid spark version 17.3.x-unheard-of" in done.error
    assert run_of(workspace, done).info.status == "FAILED"


def test_a_run_that_cannot_be_described_is_closed(submit: Submit, workspace: Any) -> None:
    """MLflow creates a run and then logs its parameters; in between its id is known to nobody."""
    jobs, runs = begun(workspace)
    workspace.fail(route="/api/2.0/mlflow/runs/log-batch", status=403)
    done = submit()
    assert done.code == 1
    assert begun(workspace) == (jobs, runs + 1)


def test_a_job_whose_state_is_not_to_be_had_is_cancelled(submit: Submit, workspace: Any) -> None:
    workspace.fail(route="/api/2.0/jobs/runs/get", status=429)
    done = submit("-e", "waits")
    assert done.code == 1
    assert "did not answer for 3 seconds" in done.error
    assert run_of(workspace, done).info.status == "FAILED"
    assert workspace.runs()[0]["state"]["result_state"] == "CANCELED"


def test_an_interrupted_submission_cancels_its_job(folder: Path, workspace: Any) -> None:
    """Ctrl-C, Ctrl-C twice, and SIGTERM, while the job runs; and Ctrl-C while there is none yet."""
    ends = {"once": ([signal.SIGINT], 130), "twice": ([signal.SIGINT] * 2, 130), "term": ([signal.SIGTERM], 143)}
    arguments = ["small", "-e", "waits", "--backend_config", "cluster.json", "--experiment_name", EXPERIMENT]
    processes: dict[str, subprocess.Popen[str]] = {}
    for name in ends:
        processes[name] = start(*arguments, environment=workspace.environment, folder=folder)
    printed = {name: "" for name in ends}
    for name, process in processes.items():
        assert process.stdout
        while "WAITING" not in printed[name].splitlines():
            line = process.stdout.readline()
            assert line, printed[name]
            printed[name] += line
    workspace.fail(route="/api/2.0/jobs/runs/cancel", status=503, times=3)  # time for the second Ctrl-C
    for name, (numbers, _) in ends.items():
        for number in numbers:
            processes[name].send_signal(number)
            stdout = processes[name].stdout
            assert stdout
            printed[name] += stdout.readline()
    for name, (_, code) in ends.items():
        printed[name] += processes[name].communicate(timeout=120)[0]
        assert processes[name].returncode == code, printed[name]
        assert "Interrupted: cancelling the job." in printed[name]
        assert run_of(workspace, Submitted(code, printed[name])).info.status == "KILLED"
    assert "Already cancelling; please wait." in printed["twice"]
    assert [run["state"]["result_state"] for run in workspace.runs()[:3]] == ["CANCELED"] * 3

    jobs, _ = begun(workspace)
    workspace.fail(route="/api/2.0/jobs/runs/submit", status=429)
    early = start(*arguments, environment=workspace.environment, folder=folder)
    assert early.stdout
    for line in early.stdout:
        if "is busy or away, trying again" in line:
            early.send_signal(signal.SIGINT)
            break
    early.communicate(timeout=60)
    workspace.heal()
    assert early.returncode == 130
    assert begun(workspace)[0] == jobs
    nothing_left(workspace)


def test_a_signal_that_comes_at_any_moment_is_heeded() -> None:
    """While the program waits, looks, or heeds the one before."""
    waiting = (
        "import time\nfrom submit import Stop\nstop, end = Stop(), time.monotonic() + 4\nstop.listen()\nprint()\n"
        "while time.monotonic() < end:\n    stop.wait(0.0002)\n    stop._set = False\nprint('ended')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", waiting],
        cwd=COLLECTION / "on_databricks",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    for number in [signal.SIGINT, signal.SIGTERM] * 500:
        process.send_signal(number)
        time.sleep(0.002)
    assert process.communicate(timeout=30)[0] == "ended\n"


def test_a_launcher_that_is_killed_outright_leaves_a_job_that_ends_its_own_run(folder: Path, workspace: Any) -> None:
    """Nobody is there to cancel it: the job goes on, and the run does not stay RUNNING."""
    brief = "import time\nprint('WAITING', flush=True)\ntime.sleep(5)\n"
    write_project(folder / "brief", {**FILES, "wait.py": brief})
    arguments = ["brief", "-e", "waits", "--backend_config", "cluster.json", "--experiment_name", EXPERIMENT]
    process = start(*arguments, environment=workspace.environment, folder=folder)
    assert process.stdout
    printed = ""
    while "WAITING" not in printed.splitlines():
        line = process.stdout.readline()
        assert line, printed
        printed += line
    process.kill()
    process.communicate(timeout=30)
    ended = workspace.wait(workspace.runs()[0]["run_id"])
    assert ended["state"]["result_state"] == "SUCCESS"
    assert run_of(workspace, Submitted(process.returncode, printed)).info.status == "FINISHED"
    nothing_left(workspace)


def test_a_project_of_that_kind_is_sent_as_it_is(submit: Submit, workspace: Any, folder: Path) -> None:
    files = {name: text for name, text in FILES.items() if name in ("say.py", "sibling.py")}
    said = "databricks_spark_job: {}\nentry_points: {main: {command: python quick.py}}"
    write_project(
        folder / "spark",
        {**files, "MLproject": said, "quick.py": "import os\nprint('AS IT IS', os.environ['DATABRICKS_TOKEN'])"},
    )
    done = submit(project="spark")
    assert done.code == 0, done.output
    assert "AS IT IS ***" in done.output
    assert "staged" not in done.output
    assert run_of(workspace, done).info.status == "FINISHED"
    assert "it is sent by --form spark_job or auto" in submit("--form", "project", project="spark").error
