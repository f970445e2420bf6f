"""The local workspace: what it refuses, as Databricks does; the unmodified SDK on it; that it keeps and ends things."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError, NotFound, PermissionDenied, ResourceAlreadyExists, Unauthenticated
from databricks.sdk.service.compute import ClusterSpec
from databricks.sdk.service.jobs import RunResultState, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType
from local_workspace import CLUSTER, SERVE, Workspace

SUBMIT = "/api/2.0/jobs/runs/submit"


@pytest.fixture
def sdk(connected: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=Config(retry_timeout_seconds=20))


def refused(workspace: Workspace, method: str, path: str, **arguments: Any) -> tuple[int, str, str]:
    """How a request is refused: status, code, message."""
    answer = workspace.call(method, path, **arguments)
    assert not answer.ok, answer.text
    return answer.status_code, answer.json()["error_code"], answer.json()["message"]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CLUSTER.items() if name not in names}


# Starting.


def test_the_start_says_what_it_is_and_what_to_export(workspace: Workspace) -> None:
    assert "It is not Databricks." in workspace.printed.splitlines()[0]
    assert f"export DATABRICKS_HOST=http://127.0.0.1:{workspace.port}" in workspace.printed
    assert "export MLFLOW_TRACKING_URI=databricks" in workspace.printed
    assert f"Jobs: {workspace.url}" in workspace.printed


def test_the_token_is_random_and_for_its_owner_alone(workspace: Workspace) -> None:
    path = workspace.folder / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == workspace.token
    assert len(workspace.token) > 32
    assert workspace.printed.count(workspace.token) == 1


def test_a_machine_without_bubblewrap_is_told_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SERVE), "--folder", str(tmp_path / "workspace")]
    done = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: bwrap is missing")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "workspace").exists()


def test_a_taken_port_is_named_in_one_line(workspace: Workspace, tmp_path: Path) -> None:
    command = [sys.executable, str(SERVE), "--port", str(workspace.port), "--folder", str(tmp_path / "workspace")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"Error: Invalid value for '--port': port {workspace.port} is taken; give another.\n"


# What it refuses.


@pytest.mark.parametrize("path", ["/api/2.0/mlflow/experiments/search", "/api/2.1/jobs/runs/list", "/local/faults"])
@pytest.mark.parametrize("token", ["", "wrong"])
def test_no_or_a_wrong_token(workspace: Workspace, path: str, token: str) -> None:
    status, code, _ = refused(workspace, "GET", path, token=token)
    assert (status, code) == (401, "UNAUTHENTICATED")


def test_the_name_of_another_host(workspace: Workspace) -> None:
    answer = workspace.call("GET", "/")
    assert answer.ok
    rebound = requests.get(workspace.url, headers={"Host": "evil.example"})
    assert rebound.json()["error_code"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        (without("spark_version"), "new_cluster.spark_version"),
        (without("node_type_id"), "new_cluster.node_type_id"),
        (without("num_workers"), "new_cluster.size"),
        ({**CLUSTER, "spark_version": "latest"}, "Invalid spark version latest."),
        ({**CLUSTER, "num_workers": -1}, "num_workers"),
        ({**CLUSTER, "autoscale": {"min_workers": 3, "max_workers": 1}}, "autoscale"),
        (None, "new_cluster"),
    ],
)
def test_an_incomplete_cluster(workspace: Workspace, cluster: Any, complaint: str) -> None:
    task = {"new_cluster": cluster, "shell_command_task": {"command": ["true"]}}
    status, code, message = refused(workspace, "POST", SUBMIT, json=task)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert complaint in message


@pytest.mark.parametrize(
    "task",
    [
        {"existing_cluster_id": "1234-567890-abcde123", "shell_command_task": {"command": ["true"]}},
        {"new_cluster": CLUSTER},
        {"new_cluster": CLUSTER, "notebook_task": {"notebook_path": "/Shared/x"}},
        {"new_cluster": CLUSTER, "shell_command_task": {"command": "true"}},
        {"new_cluster": CLUSTER, "spark_python_task": {"python_file": "/etc/passwd"}},
        {"environment_key": "missing", "spark_python_task": {"python_file": "dbfs:/x.py"}},
    ],
)
def test_a_task_that_it_cannot_run(workspace: Workspace, task: dict[str, Any]) -> None:
    before = len(workspace.runs())
    assert refused(workspace, "POST", SUBMIT, json=task)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert len(workspace.runs()) == before


def test_a_body_that_is_no_json(workspace: Workspace) -> None:
    status, code, message = refused(workspace, "POST", SUBMIT, data='{"new_cluster": {},}')
    assert (status, code) == (400, "MALFORMED_REQUEST")
    assert "Invalid JSON" in message


@pytest.mark.parametrize("action", ["get", "get-output", "cancel"])
def test_an_unknown_run(workspace: Workspace, action: str) -> None:
    method = "POST" if action == "cancel" else "GET"
    answer = refused(workspace, method, f"/api/2.1/jobs/runs/{action}", json={"run_id": 987654})
    assert answer == (400, "INVALID_PARAMETER_VALUE", "Run 987654 does not exist.")


def test_an_unknown_experiment_and_a_name_that_is_no_path(connected: Workspace) -> None:
    api = "/api/2.0/mlflow/experiments"
    assert refused(connected, "GET", f"{api}/get", params={"experiment_id": "987654"})[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )
    status, code, message = refused(connected, "POST", f"{api}/create", json={"name": "churn"})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "must be an absolute path" in message


def test_what_is_not_there(workspace: Workspace) -> None:
    assert refused(workspace, "GET", "/api/2.0/clusters/list")[:2] == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize("path", ["/../token", "/a/../../token"])
def test_a_path_that_leaves_its_folder(workspace: Workspace, path: str) -> None:
    assert refused(workspace, "GET", "/api/2.0/dbfs/read", json={"path": path})[0] == 400
    assert refused(workspace, "GET", "/api/2.0/workspace/export", params={"path": path})[0] == 400


# Faults.


def test_a_route_fails_as_often_as_asked(workspace: Workspace) -> None:
    workspace.fail("/api/2.1/jobs/runs/list", 429, times=2)
    answers = [workspace.call("GET", "/api/2.1/jobs/runs/list").status_code for _ in range(3)]
    assert answers == [429, 429, 200]


@pytest.mark.parametrize(("status", "code"), [(403, "PERMISSION_DENIED"), (503, "TEMPORARILY_UNAVAILABLE")])
def test_a_route_fails_until_it_is_healed(workspace: Workspace, status: int, code: str) -> None:
    workspace.fail("/api/2.0/dbfs", status)
    for _ in range(3):
        assert refused(workspace, "GET", "/api/2.0/dbfs/list", json={"path": "/"})[:2] == (status, code)
    workspace.heal()
    assert workspace.call("GET", "/api/2.0/dbfs/list", json={"path": "/"}).ok


def test_a_job_dies_before_its_command(workspace: Workspace) -> None:
    workspace.job_dies()
    run = workspace.wait(workspace.submit("bash", "-c", "echo begun"))
    assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("INTERNAL_ERROR", "FAILED")
    assert "begun\n" not in workspace.log(run["run_id"]).replace("echo begun", "")
    assert workspace.wait(workspace.submit("true"))["state"]["result_state"] == "SUCCESS"


# Jobs.


def test_a_job_sees_its_own_machine_and_leaves_nothing_on_this_one(workspace: Workspace) -> None:
    workspace.call("POST", "/api/2.0/dbfs/put", json={"path": "/in.txt", "contents": base64.b64encode(b"in").decode()})
    script = "cat /dbfs/in.txt && echo -n out > /dbfs/out.txt && touch /databricks/x /tmp/x-of-the-job && pwd && id -u"
    run = workspace.wait(workspace.submit("bash", "-c", script))
    assert run["state"]["result_state"] == "SUCCESS"
    assert workspace.log(run["run_id"]).endswith(f"in/databricks\n{os.getuid()}\n")
    assert (workspace.folder / "dbfs" / "out.txt").read_text() == "out"
    assert not Path("/databricks").exists()
    assert not Path("/tmp/x-of-the-job").exists()


def test_the_machine_is_read_only_for_a_job(workspace: Workspace) -> None:
    left = Path.home() / "left-by-a-job"
    run = workspace.wait(workspace.submit("touch", str(left)))
    assert run["state"]["result_state"] == "FAILED"
    assert not left.exists()


def test_a_job_that_fails_says_why(workspace: Workspace) -> None:
    run_id = workspace.submit("bash", "-c", "echo working; echo 'Error: no such column' >&2; exit 3")
    run = workspace.wait(run_id)
    assert run["state"]["result_state"] == "FAILED"
    assert "Exit code 3. Error: no such column" in run["state"]["state_message"]
    output = workspace.call("GET", "/api/2.1/jobs/runs/get-output", params={"run_id": run_id}).json()
    assert output["logs"].endswith("working\nError: no such column\n")
    assert "no such column" in output["error"]


def test_a_log_is_followed_from_an_offset(workspace: Workspace) -> None:
    run_id = workspace.submit("bash", "-c", "echo one; sleep 60")
    deadline = time.monotonic() + 30
    while "one\n" not in (log := workspace.log(run_id)).replace("echo one", ""):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    rest = workspace.call("GET", f"/local/runs/{run_id}/log", params={"offset": len(log.encode()) - 4}).text
    assert rest == "one\n"
    workspace.call("POST", "/api/2.1/jobs/runs/cancel", json={"run_id": run_id})


def test_cancelling_ends_every_process_of_a_job(workspace: Workspace) -> None:
    mark = "61.25"
    script = f"trap '' TERM; (setsid sleep {mark} &) ; sleep {mark}; sleep {mark}"
    run_id = workspace.submit("bash", "-c", script)
    deadline = time.monotonic() + 30
    while len(sleeping(mark)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workspace.call("POST", "/api/2.1/jobs/runs/cancel", json={"run_id": run_id}).raise_for_status()
    assert workspace.wait(run_id)["state"]["result_state"] == "CANCELED"
    while sleeping(mark):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def sleeping(seconds: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]


def test_the_page_shows_the_jobs(workspace: Workspace) -> None:
    run = workspace.wait(workspace.submit("echo", "<shown & escaped>"))
    page = workspace.call("GET", "/", token="").text
    assert "It is not Databricks" in page
    assert f'id="run-{run["run_id"]}"' in page
    assert "echo &lt;shown &amp; escaped&gt;" in page
    assert f'href="/local/runs/{run["run_id"]}/log"' in page
    assert run["run_page_url"] == f"{workspace.url}/#run-{run['run_id']}"
    assert workspace.token not in page


def test_a_link_that_mlflow_prints_leads_to_the_ui(workspace: Workspace) -> None:
    answer = workspace.call("GET", "/ml/experiments/1/runs/abc", token="", allow_redirects=False)
    assert answer.headers["Location"] == f"http://127.0.0.1:{workspace.ui_port}/#/experiments/1/runs/abc"


# The Databricks SDK.


def test_the_sdk_knows_a_wrong_token(sdk: WorkspaceClient, connected: Workspace) -> None:
    assert sdk.current_user.me().user_name
    with pytest.raises((Unauthenticated, PermissionDenied)):
        WorkspaceClient(host=connected.url, token="wrong").current_user.me()


def downloaded(sdk: WorkspaceClient, path: str) -> bytes:
    """The content of a file of a volume."""
    contents = sdk.files.download(path).contents
    assert contents
    return contents.read()


def test_the_sdk_keeps_files_in_a_volume(sdk: WorkspaceClient) -> None:
    folder = "/Volumes/main/default/tables/by year"
    sdk.files.upload(f"{folder}/a.csv", io.BytesIO(b"x\n1\n"), overwrite=False)
    with pytest.raises(DatabricksError, match="already exists"):
        sdk.files.upload(f"{folder}/a.csv", io.BytesIO(b"x\n2\n"), overwrite=False)
    assert downloaded(sdk, f"{folder}/a.csv") == b"x\n1\n"
    [entry] = sdk.files.list_directory_contents(folder)
    assert (entry.path, entry.file_size, entry.is_directory) == (f"{folder}/a.csv", 4, False)
    sdk.files.delete(f"{folder}/a.csv")
    with pytest.raises(NotFound):
        sdk.files.download(f"{folder}/a.csv")
    sdk.files.delete_directory(folder)
    with pytest.raises(NotFound):
        sdk.files.get_directory_metadata(folder)


def test_the_sdk_uploads_a_file_too_large_for_one_piece(sdk: WorkspaceClient) -> None:
    content = os.urandom(1024) * 52 * 1024
    sdk.files.upload("/Volumes/main/default/tables/large", io.BytesIO(content))
    assert downloaded(sdk, "/Volumes/main/default/tables/large") == content


def test_the_sdk_keeps_files_in_dbfs(sdk: WorkspaceClient) -> None:
    content = os.urandom(2_500_000)
    with sdk.dbfs.open("/sdk/a.bin", write=True) as file:
        file.write(content)
    with sdk.dbfs.open("/sdk/a.bin", read=True) as file:
        assert file.read() == content
    assert [entry.path for entry in sdk.dbfs.list("/sdk")] == ["/sdk/a.bin"]
    sdk.dbfs.delete("/sdk", recursive=True)
    assert not sdk.dbfs.exists("/sdk")


def test_the_sdk_imports_and_exports_notebooks(sdk: WorkspaceClient) -> None:
    sdk.workspace.mkdirs("/Users/you@example.test/a")
    path = "/Users/you@example.test/a/notebook"
    sdk.workspace.upload(path, b"print(1)\n", format=ImportFormat.SOURCE, language=Language.PYTHON)
    status = sdk.workspace.get_status(path)
    assert (status.object_type, status.language) == (ObjectType.NOTEBOOK, Language.PYTHON)
    assert sdk.workspace.download(path).read() == b"# Databricks notebook source\nprint(1)\n"
    content = base64.b64encode(b"# Databricks notebook source\nprint(2)\n").decode()
    with pytest.raises(ResourceAlreadyExists):
        sdk.workspace.import_(path, content=content, format=ImportFormat.SOURCE, language=Language.PYTHON)
    sdk.workspace.import_(path, content=content, format=ImportFormat.SOURCE, language=Language.PYTHON, overwrite=True)
    assert b"print(2)" in base64.b64decode(sdk.workspace.export(path).content or "")
    with pytest.raises(DatabricksError, match="not empty"):
        sdk.workspace.delete("/Users/you@example.test/a")
    sdk.workspace.delete("/Users/you@example.test/a", recursive=True)
    with pytest.raises(NotFound):
        sdk.workspace.get_status(path)


def test_the_sdk_imports_an_archive_once(sdk: WorkspaceClient) -> None:
    cells = ["%md\n# Title", "print(1)"]
    commands = [{"version": "CommandV1", "position": i, "command": cell} for i, cell in enumerate(cells)]
    notebook = {"version": "NotebookV1", "name": "first", "language": "python", "commands": commands}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("lessons/first.python", json.dumps(notebook))
    sdk.workspace.upload("/Shared/archive", archive.getvalue(), format=ImportFormat.DBC)
    [found] = sdk.workspace.list("/Shared/archive", recursive=True)
    assert (found.path, found.object_type) == ("/Shared/archive/lessons/first", ObjectType.NOTEBOOK)
    with pytest.raises(ResourceAlreadyExists):
        sdk.workspace.upload("/Shared/archive", archive.getvalue(), format=ImportFormat.DBC)
    with pytest.raises(DatabricksError, match="no DBC archive"):
        sdk.workspace.upload("/Shared/broken", b"PK broken", format=ImportFormat.DBC)
    exported = sdk.workspace.download("/Shared/archive/lessons", format=ExportFormat.DBC).read()
    with zipfile.ZipFile(io.BytesIO(exported)) as file:
        back = json.loads(file.read("lessons/first.python"))
    assert [command["command"] for command in back["commands"]] == cells


def test_an_import_of_more_than_ten_megabytes_is_refused(sdk: WorkspaceClient) -> None:
    large = b"# Databricks notebook source\n" + b"#" * 10 * 1024 * 1024
    with pytest.raises(DatabricksError, match="too large"):
        sdk.workspace.upload("/Shared/large", large, format=ImportFormat.SOURCE, language=Language.PYTHON)


def test_the_sdk_runs_a_python_file_of_a_volume(sdk: WorkspaceClient) -> None:
    script = "import os, sys\nprint(sys.argv[1:], os.environ['MLFLOW_TRACKING_URI'])\n"
    sdk.files.upload("/Volumes/main/default/code/task.py", io.BytesIO(script.encode()), overwrite=True)
    file = SparkPythonTask(python_file="/Volumes/main/default/code/task.py", parameters=["a b", "--x"])
    task = SubmitTask(task_key="only", new_cluster=ClusterSpec.from_dict(CLUSTER), spark_python_task=file)
    run = sdk.jobs.submit(run_name="a task", tasks=[task]).result()
    assert run.state
    assert run.state.result_state == RunResultState.SUCCESS
    [ran] = run.tasks or []
    output = sdk.jobs.get_run_output(ran.run_id or 0)
    assert (output.logs or "").endswith("['a b', '--x'] databricks\n")
    assert run.run_id in [each.run_id for each in sdk.jobs.list_runs(completed_only=True)]


# Unity Catalog.


def test_models_in_unity_catalog_have_three_names_and_aliases(connected: Workspace) -> None:
    client = mlflow.MlflowClient("databricks", "databricks-uc")
    with pytest.raises(mlflow.MlflowException, match=r"<catalog>\.<schema>\.<model>"):
        client.create_registered_model("churn")
    client.create_registered_model("main.shop.churn", description="who leaves")
    assert client.get_registered_model("main.shop.churn").description == "who leaves"
    with pytest.raises(mlflow.MlflowException, match="may not hold"):
        client.set_registered_model_tag("main.shop.churn", "a.b", "1")
    client.set_registered_model_tag("main.shop.churn", "a_b", "1")
    client.rename_registered_model("main.shop.churn", "main.shop.leaving")
    assert client.get_registered_model("main.shop.leaving").tags == {"a_b": "1"}
    assert "main.shop.leaving" in {model.name for model in client.search_registered_models()}
    client.delete_registered_model("main.shop.leaving")
    assert "main.shop.leaving" not in {model.name for model in client.search_registered_models()}


# Ending.


def test_what_it_holds_survives_a_restart_and_a_job_does_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.start()
    assert workspace.process
    try:
        first = workspace.token
        workspace.call("POST", "/api/2.0/dbfs/mkdirs", json={"path": "/kept"}).raise_for_status()
        created = workspace.call("POST", "/api/2.0/mlflow/experiments/create", json={"name": "/Shared/kept"}).json()
        done, going = workspace.submit("echo", "kept"), workspace.submit("sleep", "62.5")
        workspace.wait(done)
        deadline = time.monotonic() + 30
        while not sleeping("62.5"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        mine = psutil.Process(workspace.process.pid).children(recursive=True)
        assert workspace.stop() == 0
        assert psutil.wait_procs(mine, timeout=10)[1] == []

        workspace.start()
        assert workspace.token == first
        assert workspace.call("GET", "/api/2.0/dbfs/get-status", json={"path": "/kept"}).json()["is_dir"]
        found = workspace.call("GET", "/api/2.0/mlflow/experiments/get", params=created).json()
        assert found["experiment"]["name"] == "/Shared/kept"
        assert workspace.log(done).endswith("kept\n")
        assert workspace.wait(going)["state"]["result_state"] == "CANCELED"

        mine = psutil.Process(workspace.process.pid).children(recursive=True)
        workspace.process.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(mine, timeout=10)[1] == []
    finally:
        workspace.process.kill()
