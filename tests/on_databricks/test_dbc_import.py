"""The `.dbc` archives go into a workspace through the unmodified Databricks SDK, and come out as they went in."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import ResourceAlreadyExists
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


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_archive_of_an_example(example: str, archives: Path, client: WorkspaceClient) -> None:
    folder = f"/Shared/imported {example}"
    import_archive(client, archives / f"{example}.dbc", folder)
    found = notebooks_below(client, folder)
    assert {path.rpartition("/")[2]: text for path, text in found.items()} == sources(example)
    with pytest.raises(ResourceAlreadyExists):
        import_archive(client, archives / f"{example}.dbc", folder)


def test_the_archive_of_all(archives: Path, client: WorkspaceClient) -> None:
    import_archive(client, archives / "mlproject-collection.dbc", "/Shared/imported collection")
    found = notebooks_below(client, "/Shared/imported collection")
    assert {path.rpartition("/")[2]: text for path, text in found.items()} == sources(*EXAMPLES)
    assert {path.split("/")[-2] for path in found} == set(EXAMPLES)
