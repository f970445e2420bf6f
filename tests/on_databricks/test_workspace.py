"""The local workspace: what it refuses, as Databricks does; the unmodified SDK on it; that it keeps and ends things."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import click
import mlflow
import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError, NotFound, ResourceAlreadyExists
from databricks.sdk.service.workspace import ImportFormat, Language, ObjectType
from examples import module
from local_workspace import EXISTING, Workspace
from running import COLLECTION, wait_until

serve = module("on_databricks/workspace", "serve")

SUBMIT = "/api/2.2/jobs/runs/submit"


@pytest.fixture
def sdk(connected: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=Config(retry_timeout_seconds=300))


# Starting.


def test_the_token_is_random_and_for_its_owner_alone(workspace: Workspace) -> None:
    path = workspace.folder / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == workspace.token
    assert len(workspace.token) > 32
    assert workspace.printed.count(workspace.token) == 1
    assert "It is not Databricks." in workspace.printed.splitlines()[0]


def test_what_it_cannot_start_with_is_said_in_one_line(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = workspace.url.rpartition(":")[2]
    words = ["--port", port, "--folder", str(tmp_path / "workspace")]
    with pytest.raises(click.BadParameter, match=f"port {port} is taken; give another."):
        serve.serve.main(words, standalone_mode=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match="bwrap is missing"):
        serve.serve.main(words, standalone_mode=False)
    assert not (tmp_path / "workspace").exists()


# What it refuses.


ABSENT = {"json": {"run_id": 987654}}, "400 Run 987654 does not exist."
EXPERIMENTS = "/api/2.0/mlflow/experiments"
OUTSIDE = [{"path": path} for path in ("/../token", "/a/../../token")]
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [  # method, path, what is given, status and message
    ("GET", f"{EXPERIMENTS}/search", {"token": ""}, "401 Credential was not sent"),
    ("GET", f"{EXPERIMENTS}/search", {"token": "wrong"}, "401 Invalid access token."),
    ("GET", "/api/2.1/jobs/runs/list", {"token": "wrong"}, "401 Invalid access token."),
    ("POST", SUBMIT, {"data": '{"new_cluster": {},}'}, "400 Invalid JSON"),
    ("GET", "/api/2.0/secrets/list", {}, "404 No API found for 'GET /api/2.0/secrets/list': not in this local work"),
    ("GET", f"{EXPERIMENTS}/get", {"params": {"experiment_id": "987654"}}, "404 No Experiment with id=987654"),
    ("POST", f"{EXPERIMENTS}/create", {"json": {"name": "churn"}}, "400 Got an invalid experiment name 'churn'"),
    *(("GET", f"/api/2.1/jobs/runs/{action}", *ABSENT) for action in ("get", "get-output")),
    ("POST", "/api/2.1/jobs/runs/cancel", *ABSENT),
    *(("GET", "/api/2.0/dbfs/get-status", {"json": path}, "400 The path leaves its folder") for path in OUTSIDE),
    *(("GET", "/api/2.0/workspace/export", {"params": path}, "400 The path leaves its folder") for path in OUTSIDE),
]


@pytest.mark.parametrize(("method", "path", "given", "line"), REFUSED)
def test_a_request_that_a_workspace_refuses(
    method: str, path: str, given: dict[str, Any], line: str, workspace: Workspace
) -> None:
    answer = workspace.call(method, path, **given)
    assert f"{answer.status_code} {answer.json()['message']}".startswith(line)
    assert answer.json()["error_code"]


def test_the_name_of_another_host_is_refused(workspace: Workspace) -> None:
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
    answer = workspace.call("GET", where, params={"run_id": job["run_id"]})
    assert (answer.status_code, "each individual task" in answer.text) == (400, True)
    assert (workspace.folder / "volumes" / "out.txt").read_text() == "out"
    assert not Path("/databricks").exists()
    assert not Path("/tmp/x-of-the-job").exists()
    link = workspace.call("GET", "/ml/experiments/1/runs/abc", token="", allow_redirects=False).headers["Location"]
    assert link.endswith("/#/experiments/1/runs/abc"), "what MLflow prints leads to its UI"
    page = workspace.call("GET", "/", token="").text
    assert "It is not Databricks" in page
    assert f'id="run-{job["run_id"]}"' in page
    assert "<&>" not in page
    assert workspace.token not in page


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


# The Databricks SDK.


def test_the_sdk_finds_the_cluster_and_keeps_files_in_a_volume(sdk: WorkspaceClient) -> None:
    assert [cluster.cluster_id for cluster in sdk.clusters.list()] == [EXISTING]
    assert "17.3.x-scala2.13" in {version.key for version in sdk.clusters.spark_versions().versions or []}
    folder = "/Volumes/main/default/tables/by year"
    sdk.files.upload(f"{folder}/a.csv", io.BytesIO(b"x\n1\n"), overwrite=False)
    with pytest.raises(DatabricksError, match="already exists"):
        sdk.files.upload(f"{folder}/a.csv", io.BytesIO(b"x\n2\n"), overwrite=False)
    downloaded = sdk.files.download(f"{folder}/a.csv").contents
    assert downloaded
    assert downloaded.read() == b"x\n1\n"
    [entry] = sdk.files.list_directory_contents(folder)
    assert (entry.path, entry.file_size, entry.is_directory) == (f"{folder}/a.csv", 4, False)
    sdk.files.delete(f"{folder}/a.csv")
    with pytest.raises(NotFound):
        sdk.files.download(f"{folder}/a.csv")
    sdk.files.delete_directory(folder)
    with pytest.raises(NotFound):
        sdk.files.get_directory_metadata(folder)


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
    with pytest.raises(DatabricksError, match="too large"):
        sdk.workspace.upload("/Shared/large", b"#" * (10 * 2**20 + 1), format=ImportFormat.AUTO)
    with pytest.raises(DatabricksError, match="not empty"):
        sdk.workspace.delete("/Users/you@example.test/a")
    sdk.workspace.delete("/Users/you@example.test/a", recursive=True)
    with pytest.raises(NotFound):
        sdk.workspace.get_status(path)


# Archives of notebooks.


def test_our_archive_comes_out_as_it_went_in(sdk: WorkspaceClient, tmp_path: Path) -> None:
    notebooks = module("on_databricks", "notebooks")
    examples = sorted(path.parent.parent for path in COLLECTION.glob("*/on_databricks/*.fr.md"))
    archive = tmp_path / "all.dbc"
    notebooks.write_archive(archive, [each for example in examples for each in notebooks.notebooks_of(example)])
    sdk.workspace.upload("/Shared/ours", archive.read_bytes(), format=ImportFormat.DBC)
    found = [str(each.path) for each in sdk.workspace.list("/Shared/ours", recursive=True)]
    assert len(found) == 8
    for path in found:
        _, _, _, example, name = path.split("/")
        source = COLLECTION / example / "on_databricks" / f"{name}.py"
        assert sdk.workspace.download(path).read() == source.read_bytes()
    with pytest.raises(ResourceAlreadyExists):
        sdk.workspace.upload("/Shared/ours", archive.read_bytes(), format=ImportFormat.DBC)


# The keys of a command in notebooks/LearningSparkv2.dbc of github.com/databricks/LearningSparkV2, 65 notebooks that
# Databricks wrote, which was imported by hand. Its manifest, folders, names and order are those of the archive below.
KEYS = """bindings collapsed command commandTitle commandType commandVersion commentThread commentsVisible
customPlotOptions datasetPreviewNameToCmdIdMap diffDeletes diffInserts displayType error errorSummary errorTraceType
finishTime globalVars guid height hideCommandCode hideCommandResult iPythonMetadata inputWidgets isLockedInExamMode
latestUser latestUserId nuid origId parentHierarchy pivotAggregation pivotColumns position results showCommandTitle
startTime state streamStates submitTime subtype tableResultIndex tableResultSubCmdIds useConsistentColors version width
workflows xColumns yColumns"""


def in_the_form_of_a_public_archive(language: str) -> bytes:
    """An archive as Databricks itself exports them: manifest, folders, all its keys, another language beside Python."""
    given = [
        {"command": "\n%md\n# Lesson", "position": 1.0},
        {"command": "x = 1", "position": 3.0, "commandTitle": "One", "showCommandTitle": True},
        {"command": "%sql\nselect 1", "position": 2.5},
    ]
    commands = [{**dict.fromkeys(KEYS.split()), "version": "CommandV1", "commandVersion": 9, **each} for each in given]
    notebook = {"version": "NotebookV1", "origId": 42, "dashboards": [], "guid": "a3", "globalVars": {}}
    entries: dict[str, Any] = {
        "manifest.mf": {"version": "Manifest", "guid": "6a2f", "origId": -1, "name": "manifest.mf"},
        "Course/Deep/01 Start.python": {**notebook, "language": "python", "name": "01 Start", "commands": commands},
        f"Course/Version-1.1.0.{language}": {**notebook, "language": language, "name": "Version-1.1.0"},
    }
    entries[f"Course/Version-1.1.0.{language}"]["commands"] = commands[1:2]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("Course/", "Course/Deep/"):
            archive.writestr(folder, "")
        for name, said in entries.items():
            archive.writestr(name, json.dumps(said))
    return content.getvalue()


def test_an_archive_that_databricks_has_written(sdk: WorkspaceClient) -> None:
    sdk.workspace.upload("/Shared/public", in_the_form_of_a_public_archive("scala"), format=ImportFormat.DBC)
    found = {each.path: each.language for each in sdk.workspace.list("/Shared/public", recursive=True)}
    start, setup = "/Shared/public/Course/Deep/01 Start", "/Shared/public/Course/Version-1.1.0"
    assert found == {start: Language.PYTHON, setup: Language.SCALA}
    cells = sdk.workspace.download(start).read().decode().split("\n\n# COMMAND ----------\n\n")
    assert cells == [
        "# Databricks notebook source\n# MAGIC %md\n# MAGIC # Lesson",
        "# MAGIC %sql\n# MAGIC select 1",
        "# DBTITLE 1,One\nx = 1\n",
    ]
    with pytest.raises(DatabricksError, match="A notebook in R: not in this local workspace"):
        sdk.workspace.upload("/Shared/in R", in_the_form_of_a_public_archive("r"), format=ImportFormat.DBC)
    assert "/Shared/in R" not in {each.path for each in sdk.workspace.list("/Shared")}


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
