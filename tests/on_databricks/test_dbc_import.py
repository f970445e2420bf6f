"""The `.dbc` archives go into a workspace through the unmodified Databricks SDK, and come out as they went in."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, ResourceAlreadyExists
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType
from running import COLLECTION

EXAMPLES = ["classification", "clustering", "git_project", "registry_deploy"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("archives")
    subprocess.run([sys.executable, COLLECTION / "on_databricks" / "notebooks.py", output], check=True)
    return output


@pytest.fixture
def client(workspace: Any) -> WorkspaceClient:
    return WorkspaceClient(host=workspace.url, token=workspace.token)


def import_archive(client: WorkspaceClient, archive: Path, folder: str) -> None:
    content = base64.b64encode(archive.read_bytes()).decode()
    client.workspace.import_(folder, format=ImportFormat.DBC, content=content)


def notebooks_below(client: WorkspaceClient, folder: str) -> dict[str, str]:
    """The path of each notebook below a folder, and its text as Databricks writes it."""
    found = {}
    for each in client.workspace.list(folder, recursive=True):
        assert each.path
        assert each.object_type == ObjectType.NOTEBOOK
        assert each.language == Language.PYTHON
        content = client.workspace.export(each.path, format=ExportFormat.SOURCE).content
        assert content
        found[each.path.removeprefix(f"{folder}/")] = base64.b64decode(content).decode()
    return found


def sources(*examples: str) -> dict[str, str]:
    return {
        path.stem: path.read_text(encoding="utf-8")
        for example in examples
        for path in (COLLECTION / example / "on_databricks").glob("*.py")
    }


def test_the_archive_of_all(archives: Path, client: WorkspaceClient) -> None:
    folder = "/Shared/imported collection"
    import_archive(client, archives / "mlproject-collection.dbc", folder)
    found = notebooks_below(client, folder)
    assert {path.rpartition("/")[2]: text for path, text in found.items()} == sources(*EXAMPLES)
    assert {path.split("/")[-2] for path in found} == set(EXAMPLES)
    with pytest.raises(ResourceAlreadyExists):
        import_archive(client, archives / "mlproject-collection.dbc", folder)


# The keys of a command in notebooks/LearningSparkv2.dbc of github.com/databricks/LearningSparkV2, 65 notebooks that
# Databricks wrote, which was imported by hand. Its manifest, folders, names and order are those of the archive below.
KEYS = """bindings collapsed command commandTitle commandType commandVersion commentThread commentsVisible
customPlotOptions datasetPreviewNameToCmdIdMap diffDeletes diffInserts displayType error errorSummary errorTraceType
finishTime globalVars guid height hideCommandCode hideCommandResult iPythonMetadata inputWidgets isLockedInExamMode
latestUser latestUserId nuid origId parentHierarchy pivotAggregation pivotColumns position results showCommandTitle
startTime state streamStates submitTime subtype tableResultIndex tableResultSubCmdIds useConsistentColors version width
workflows xColumns yColumns"""


def in_the_form_of_a_public_archive(language: str = "scala") -> bytes:
    """An archive as Databricks itself exports them: manifest, folders, all its keys, another language beside Python."""
    manifest = {"version": "Manifest", "guid": "6a2f", "origId": -1, "name": "manifest.mf"}
    commands = [
        {"command": "\n%md\n# Lesson", "position": 1.0},
        {"command": "x = 1", "position": 3.0, "commandTitle": "One", "showCommandTitle": True},
        {"command": "%sql\nselect 1", "position": 2.5},
    ]
    keys: dict[str, Any] = {**dict.fromkeys(KEYS.split()), "version": "CommandV1", "commandVersion": 9, "bindings": {}}
    notebook = {"version": "NotebookV1", "origId": 42, "language": "python", "dashboards": [], "guid": "a3"}
    notebook |= {"notebookMetadata": {}, "iPythonMetadata": None, "globalVars": {}, "inputWidgets": {}}
    both = [{**keys, **command} for command in commands]
    other = {**notebook, "language": language, "name": "Version-1.1.0", "commands": [{**keys, "command": "val x = 1"}]}
    entries = {"manifest.mf": json.dumps(manifest), "Course/": "", "Course/Deep/": ""}
    entries["Course/Deep/01 Start.python"] = json.dumps({**notebook, "name": "01 Start", "commands": both})
    entries[f"Course/Version-1.1.0.{language}"] = json.dumps(other)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_an_archive_that_databricks_has_written(client: WorkspaceClient) -> None:
    client.workspace.upload("/Shared/public", in_the_form_of_a_public_archive(), format=ImportFormat.DBC)
    found = {each.path: each.language for each in client.workspace.list("/Shared/public", recursive=True)}
    start, setup = "/Shared/public/Course/Deep/01 Start", "/Shared/public/Course/Version-1.1.0"
    assert found == {start: Language.PYTHON, setup: Language.SCALA}
    cells = client.workspace.download(start).read().decode().split("\n\n# COMMAND ----------\n\n")
    assert cells == [
        "# Databricks notebook source\n# MAGIC %md\n# MAGIC # Lesson",
        "# MAGIC %sql\n# MAGIC select 1",
        "# DBTITLE 1,One\nx = 1\n",
    ]


def test_a_notebook_in_another_language_is_named_and_leaves_nothing(client: WorkspaceClient) -> None:
    with pytest.raises(DatabricksError, match="A notebook in R: not in this local workspace"):
        client.workspace.upload("/Shared/in R", in_the_form_of_a_public_archive("r"), format=ImportFormat.DBC)
    assert "/Shared/in R" not in {each.path for each in client.workspace.list("/Shared")}
