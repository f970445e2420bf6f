"""The local workspace: what it refuses, as Databricks does; the unmodified SDK on it; that it keeps and ends things."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError, NotFound, ResourceAlreadyExists
from databricks.sdk.service.workspace import ImportFormat, Language, ObjectType
from local_workspace import EXISTING, SERVE, Workspace
from running import PATIENCE, wait_until

SUBMIT = "/api/2.2/jobs/runs/submit"


@pytest.fixture
def sdk(connected: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=Config(retry_timeout_seconds=300))


def refused(workspace: Workspace, method: str, path: str, **arguments: Any) -> tuple[int, str, str]:
    """How a request is refused: status, code, message."""
    answer = workspace.call(method, path, **arguments)
    assert not answer.ok, answer.text
    return answer.status_code, answer.json()["error_code"], answer.json()["message"]


# Starting.


def test_the_token_is_random_and_for_its_owner_alone(workspace: Workspace) -> None:
    path = workspace.folder / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == workspace.token
    assert len(workspace.token) > 32
    assert workspace.printed.count(workspace.token) == 1
    assert "It is not Databricks." in workspace.printed.splitlines()[0]


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


def run(action: str, method: str = "GET") -> tuple[str, str, dict[str, Any], str]:
    return method, f"/api/2.1/jobs/runs/{action}", {"json": {"run_id": 987654}}, "400 Run 987654 does not exist."


EXPERIMENTS = "/api/2.0/mlflow/experiments"
OUTSIDE = [{"path": path} for path in ("/../token", "/a/../../token")]
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [  # method, path, what is given, status and message
    ("GET", f"{EXPERIMENTS}/search", {"token": ""}, "401 Credential was not sent"),
    ("GET", f"{EXPERIMENTS}/search", {"token": "wrong"}, "401 Invalid access token."),
    ("GET", "/api/2.1/jobs/runs/list", {"token": "wrong"}, "401 Invalid access token."),
    ("POST", SUBMIT, {"data": '{"new_cluster": {},}'}, "400 Invalid JSON"),
    (
        "GET",
        "/api/2.0/secrets/list",
        {},
        "404 No API found for 'GET /api/2.0/secrets/list': not in this local workspace.",
    ),
    ("GET", f"{EXPERIMENTS}/get", {"params": {"experiment_id": "987654"}}, "404 No Experiment with id=987654"),
    ("POST", f"{EXPERIMENTS}/create", {"json": {"name": "churn"}}, "400 Got an invalid experiment name 'churn'"),
    *(run(action) for action in ("get", "get-output")),
    run("cancel", "POST"),
    *(("GET", "/api/2.0/dbfs/get-status", {"json": path}, "400 The path leaves its folder") for path in OUTSIDE),
    *(("GET", "/api/2.0/workspace/export", {"params": path}, "400 The path leaves its folder") for path in OUTSIDE),
]


@pytest.mark.parametrize(("method", "path", "given", "line"), REFUSED)
def test_a_request_that_a_workspace_refuses(
    method: str, path: str, given: dict[str, Any], line: str, workspace: Workspace
) -> None:
    status, _, message = refused(workspace, method, path, **given)
    assert f"{status} {message}".startswith(line)


def test_the_name_of_another_host(workspace: Workspace) -> None:
    assert workspace.call("GET", "/").ok
    rebound = requests.get(workspace.url, headers={"Host": "evil.example"})
    assert rebound.json()["error_code"] == "PERMISSION_DENIED"


# Jobs.

PROGRAM = """
import os, sys
open("/Volumes/out.txt", "w").write("out")
open("/databricks/x", "w"), open("/tmp/x-of-the-job", "w")
print("working in", os.getcwd())
try:
    open(os.path.expanduser("~/left-by-a-job"), "w")
except OSError as error:
    sys.exit(f"Error: {error.strerror} " + "x" * 3000 + "<&>")
"""


def test_a_job_has_its_own_machine_and_says_why_it_failed(workspace: Workspace) -> None:
    """It leaves nothing on this one, which it can only read; and the page keeps its shape."""
    job = workspace.wait(workspace.submit(PROGRAM))
    [task] = job["tasks"]
    assert len({job["job_id"], job["run_id"], task["run_id"]}) == 3
    assert job["state"]["result_state"] == "FAILED"
    assert "Exit code 1. Error: Read-only file system" in job["state"]["state_message"]
    where = "/api/2.2/jobs/runs/get-output"
    output = workspace.call("GET", where, params={"run_id": task["run_id"]}).json()
    assert "working in /databricks\n" in output["logs"]
    assert "Read-only file system" in output["error"]
    message = refused(workspace, "GET", where, params={"run_id": job["run_id"]})[2]
    assert "retrieve the output of each individual task" in message
    assert (workspace.folder / "volumes" / "out.txt").read_text() == "out"
    assert not Path("/databricks").exists()
    assert not Path("/tmp/x-of-the-job").exists()
    page = workspace.call("GET", "/", token="").text
    assert "It is not Databricks" in page
    assert f'id="run-{job["run_id"]}"' in page
    assert "<&>" not in page
    assert workspace.token not in page


def test_a_token_of_an_earlier_submission_begins_no_second_job(workspace: Workspace) -> None:
    task = {"task_key": "a", "existing_cluster_id": EXISTING, "notebook_task": {"notebook_path": "/Shared/none"}}
    said = {"tasks": [task], "idempotency_token": "once"}
    answers = [workspace.call("POST", SUBMIT, json=said).json() for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_machine_gets_a_token_by_oauth(connected: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_TOKEN")
    machine = WorkspaceClient(host=connected.url, client_id="local", client_secret=connected.token)
    assert machine.current_user.me().user_name == "you@example.test"
    assert [cluster.cluster_id for cluster in machine.clusters.list()] == [EXISTING]
    assert "17.3.x-scala2.13" in {version.key for version in machine.clusters.spark_versions().versions or []}
    with pytest.raises(ValueError, match="invalid_client"):
        WorkspaceClient(host=connected.url, client_id="local", client_secret="wrong").current_user.me()


def test_cancelling_ends_every_process_of_a_job(workspace: Workspace) -> None:
    mark = f"3600.{os.getpid()}"
    script = f"trap '' TERM; (setsid sleep {mark} &) ; sleep {mark}; sleep {mark}"
    run_id = workspace.submit(f"import subprocess; subprocess.run(['bash', '-c', {script!r}])")
    wait_until(lambda: len(sleeping(mark)) == 2)
    workspace.call("POST", "/api/2.1/jobs/runs/cancel", json={"run_id": run_id}).raise_for_status()
    assert workspace.wait(run_id)["state"]["result_state"] == "CANCELED"
    wait_until(lambda: not sleeping(mark))


def sleeping(seconds: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]


def test_a_link_that_mlflow_prints_leads_to_the_ui(workspace: Workspace) -> None:
    answer = workspace.call("GET", "/ml/experiments/1/runs/abc", token="", allow_redirects=False)
    assert answer.headers["Location"] == f"http://127.0.0.1:{workspace.ui_port}/#/experiments/1/runs/abc"


# The Databricks SDK.


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


def test_an_import_of_more_than_ten_megabytes_is_refused(sdk: WorkspaceClient) -> None:
    large = b"# Databricks notebook source\n" + b"#" * 10 * 1024 * 1024
    with pytest.raises(DatabricksError, match="too large"):
        sdk.workspace.upload("/Shared/large", large, format=ImportFormat.SOURCE, language=Language.PYTHON)


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

SLEEP = "import subprocess; subprocess.run(['sleep', '{mark}'])"


def test_what_it_holds_survives_a_restart_and_a_job_does_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.start()
    assert workspace.process
    mark = f"7200.{os.getpid()}"
    try:
        first = workspace.token
        created = workspace.call("POST", "/api/2.0/mlflow/experiments/create", json={"name": "/Shared/kept"}).json()
        done, going = workspace.submit("print('kept')"), workspace.submit(SLEEP.format(mark=mark))
        workspace.wait(done)
        wait_until(lambda: sleeping(mark))
        mine = psutil.Process(workspace.process.pid).children(recursive=True)
        assert workspace.stop() == 0
        assert psutil.wait_procs(mine, timeout=PATIENCE)[1] == []

        workspace.start()
        assert workspace.token == first
        found = workspace.call("GET", "/api/2.0/mlflow/experiments/get", params=created).json()
        assert found["experiment"]["name"] == "/Shared/kept"
        assert workspace.log(done).endswith("kept\n")
        assert workspace.wait(going)["state"]["result_state"] == "CANCELED"

        mine = psutil.Process(workspace.process.pid).children(recursive=True)
        workspace.process.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(mine, timeout=PATIENCE)[1] == []
    finally:
        workspace.process.kill()
