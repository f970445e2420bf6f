"""The page of `on_databricks/`, every command of it typed to the letter, by a newcomer with two terminals.

The Databricks CLI, which no package index has, is a stand-in; what it creates really runs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
from git_server import copy_collection, git
from local_workspace import Workspace
from pages import steps
from running import COLLECTION, wait_until

PAGE = COLLECTION / "on_databricks" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
OWN = "/Users/you@example.test/mlproject-collection"


def rows(beginning: str) -> list[str]:
    """The commands in the first column of the tables of the page that begin so."""
    return re.findall(rf"^\| `({beginning} .*?)` \|", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The workspace of the page, in a clone of the collection; its own port and folder."""
    clone = tmp_path_factory.mktemp("newcomer")
    copy_collection(clone)
    git("init", "--quiet", folder=clone)
    workspace = Workspace(clone / "databricks-workspace", steps(PAGE)[1].command)
    workspace.start()
    yield workspace
    assert workspace.process
    workspace.process.kill()


@pytest.fixture
def clone(workspace: Workspace) -> Path:
    return workspace.folder.parent


def succeeded(workspace: Workspace, number: int) -> None:
    """The last jobs, so many, end well."""
    for run in workspace.runs()[:number]:
        assert workspace.wait(run["run_id"])["state"]["result_state"] == "SUCCESS", workspace.log(run["run_id"])


def ended(workspace: Workspace, experiment: str) -> dict[str, Any]:
    """The first run of an experiment, which is FINISHED."""
    found = workspace.client.get_experiment_by_name(experiment)
    assert found
    run = workspace.client.search_runs([found.experiment_id])[-1]
    assert run.info.status == "FINISHED"
    return {**run.data.params, **run.data.metrics, "run_id": run.info.run_id}


def test_the_backend_is_installed(workspace: Workspace, clone: Path) -> None:
    venv = clone / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    # Its packages are in the environment of this test already.
    workspace.typed(f"{steps(PAGE)[0].command} --no-deps", clone, VIRTUAL_ENV=str(venv))
    asked = "from importlib.metadata import entry_points; print(*entry_points(group='mlflow.project_backend').names)"
    assert workspace.typed(f'{venv}/bin/python -c "{asked}"', clone).strip() == "databricks-jobs"


def test_a_newcomer_without_an_account(workspace: Workspace, clone: Path) -> None:
    exports = dict(re.findall(r"^export (\w+)=(.*)$", workspace.printed, re.MULTILINE))
    assert set(exports) == {"DATABRICKS_HOST", "DATABRICKS_TOKEN", "MLFLOW_TRACKING_URI"}
    _, _, run, stage, twin, notebooks, table = [step.command for step in steps(PAGE)]
    workspace.typed(stage, clone)
    assert "Launched MLflow run as Databricks job run" in workspace.typed(twin, clone)
    printed = workspace.typed(run, clone)
    assert "Model: runs:/" in printed  # the log of the job
    assert workspace.token not in printed
    workspace.typed(notebooks, clone)
    assert len(list((clone / "dist").glob("*.dbc"))) == 5
    workspace.typed(table, clone)
    header = (clone / "classification" / "data" / "churn.csv").read_text().splitlines()[0]
    assert {",".join(json.loads(line)) for line in (clone / "churn.jsonl").read_text().splitlines()} == {header}
    succeeded(workspace, 2)
    assert "chosen_k" in ended(workspace, "/Shared/clustering")
    assert "roc_auc" in ended(workspace, "/Shared/churn")
    assert "clustering" in workspace.call("GET", "/", token="").text


def test_what_is_generated_is_what_is_committed(workspace: Workspace, clone: Path) -> None:
    for script in ("clusters.py", "bundle.py"):
        assert f"`python on_databricks/{script}`" in TEXT
        workspace.typed(f"python on_databricks/{script}", clone)
    for kind in ("*/cluster*.json", "on_databricks/resources/*.yml"):
        for file in COLLECTION.glob(kind):
            assert (clone / file.relative_to(COLLECTION)).read_bytes() == file.read_bytes()


# The bundle.


@pytest.fixture
def databricks(workspace: Workspace, clone: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Types a command of the Databricks CLI, here, and answers yes where it is asked."""
    import databricks_stand_in
    from click.testing import CliRunner

    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, workspace.environment[name])
    monkeypatch.chdir(clone)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("databricks")

    def typed(command: str, code: int = 0) -> str:
        done = CliRunner().invoke(databricks_stand_in.cli, shlex.split(command)[1:], input="y\n")
        assert done.exit_code == code, (command, done.output, done.exception)
        return f"{done.output}{done.exception}"

    yield typed
    mlflow.set_tracking_uri(before)


def job_of(workspace: Workspace, target: str, example: str) -> dict[str, Any]:
    """The settings of a deployed job."""
    numbers = json.loads(Path(".databricks", "bundle", target, "resources.json").read_text())
    job = workspace.call("GET", "/api/2.2/jobs/get", params={"job_id": numbers[f"jobs.{example}"]}).json()
    return dict(job["settings"])


def test_the_bundle(databricks: Any, workspace: Workspace) -> None:
    """Every job is run once, on serverless compute or on the cluster."""
    deploy, run, on_a_cluster, production, destroy = rows("databricks bundle")
    databricks(deploy)
    databricks(on_a_cluster)
    [cluster] = job_of(workspace, "cluster", "clustering")["job_clusters"]
    assert cluster["new_cluster"]["node_type_id"] == "m5d.xlarge"

    begin = "databricks bundle run --no-wait"
    databricks(f"{begin} -t cluster classification -- --entry_point=gaussian_nb")
    databricks(run)
    assert ended(workspace, f"{OWN}-serverless-clustering")["n_clusters"] == "3"
    succeeded(workspace, 2)
    trained = ended(workspace, f"{OWN}-cluster-classification")
    databricks(f"databricks bundle run git_project -- --entry_point=predict --run_id={trained['run_id']}")
    assert ended(workspace, f"{OWN}-serverless-git_project")["instances"] > 0
    databricks("databricks bundle run clustering -- --entry_point=kmean", code=1)
    wrong = workspace.log(workspace.runs()[0]["run_id"])
    assert "'kmean' is no value of entry_point; choose from: main, kmeans, predict" in wrong
    assert "'n_cluster' is not defined" in databricks("databricks bundle run clustering -- --n_cluster=3", code=1)

    # The endpoint needs a version, which a job of the first deployment registers.
    production = production.replace("<application id>", "0a1b-2c3d")
    assert "does not exist" in databricks(production, code=1)
    register = f"--entry_point=register --experiment={OWN}-cluster-classification"
    databricks(f"databricks bundle run -t prod --var catalog=production registry_deploy -- {register}")
    databricks(production)
    weekly = job_of(workspace, "prod", "classification")
    assert (weekly["schedule"]["pause_status"], weekly["max_concurrent_runs"]) == ("PAUSED", 1)
    assert weekly["run_as"] == {"service_principal_name": "0a1b-2c3d"}
    endpoint = "/api/2.0/serving-endpoints/mlproject-collection-churn"
    [entity] = wait_until(lambda: workspace.call("GET", endpoint).json().get("config"))["served_entities"]
    assert (entity["entity_name"], entity["scale_to_zero_enabled"]) == ("production.default.churn", True)
    databricks(destroy)
    assert not list((workspace.folder / "workspace").glob("Users/*/.bundle/*/serverless"))


# Model Serving and access.


def test_model_serving(workspace: Workspace, clone: Path) -> None:
    deploy, status, rollback, undeploy = rows("mlflow run registry_deploy")
    workspace.environment |= re.findall(r"`export (MLFLOW_EXPERIMENT_NAME)=(.*?)`", TEXT)
    register = "mlflow run registry_deploy -e register --env-manager local -P name=main.default.churn -P experiment="
    for version, experiment in (("1", "/Shared/churn"), ("2", f"{OWN}-cluster-classification")):
        workspace.typed(f"{register}{experiment}", clone)
        workspace.client.set_registered_model_alias("main.default.churn", "champion", version)
        printed = workspace.typed(deploy, clone)
    assert "answers 10 % of the requests" in printed
    assert re.search(r"green +main.default.churn +2 +10 %", workspace.typed(status, clone))
    assert re.search(r"blue +main.default.churn +1 +100 %", workspace.typed(rollback, clone))
    workspace.typed(undeploy, clone)
    assert workspace.call("GET", "/api/2.0/serving-endpoints/churn").status_code == 404


def test_each_way_of_access(
    databricks: Any, workspace: Workspace, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the table, then a command; a profile of the CLI is for jobs and not for local runs."""
    import databricks_stand_in

    [login] = re.findall(r"`(databricks auth login .*?)`", TEXT)[:1]
    monkeypatch.setenv("HOME", str(clone))
    monkeypatch.setenv("STAND_IN_TOKEN", workspace.token)
    databricks_stand_in.install(clone / "installed" / "bin")
    databricks(login.replace("https://…", workspace.url))
    [always] = re.findall(r"With all of them: `(export .*?)`", TEXT)
    lines = re.findall(r"^\| (a person|a service principal|a token, last) \|(.*)\|$", TEXT, re.MULTILINE)
    values = {"DATABRICKS_HOST": workspace.url, "DATABRICKS_TOKEN": workspace.token}
    values |= {"DATABRICKS_CLIENT_ID": "local", "DATABRICKS_CLIENT_SECRET": workspace.token}
    nothing = dict.fromkeys(("DATABRICKS_HOST", "DATABRICKS_TOKEN", "MLFLOW_TRACKING_URI"), "")
    nothing |= {"HOME": str(clone), "STAND_IN_TOKEN": workspace.token}
    path = f"export PATH={clone}/installed/bin:$PATH"
    assert len(lines) == 3
    run = f"mlflow run {Path(__file__).parent / 'small'} -e waits -P seconds=0.1 --experiment-name /Shared/access"
    for who, cell in lines:
        exports = [line.replace("…", values.get(line[7:-2], "")) for line in re.findall("`(export .*?)`", cell)]
        assert exports, who
        typed = " && ".join([path, *exports, always, "mlflow experiments search"])
        assert "/Shared/churn" in workspace.typed(typed, clone, **nothing)
        if who == "a person":
            wait = """--backend-config '{"wait": false}'"""
            workspace.typed(f"{path} && {exports[0]} && {always} && {run} -b databricks-jobs {wait}", clone, **nothing)
            here = f"{path} && {exports[0]} && {always} && ! {run} --env-manager local"
            assert "Reading Databricks credential configuration failed" in workspace.typed(here, clone, **nothing)
    succeeded(workspace, 1)


# Ending.


def test_what_it_holds_is_kept_for_the_next_start_and_no_process_is_left(workspace: Workspace) -> None:
    first, done = workspace.token, workspace.runs()[0]["run_id"]
    mark = f"3600.{os.getpid()}"
    going = workspace.submit(f"import subprocess; subprocess.run(['sleep', '{mark}'])")
    of_the_job = wait_until(
        lambda: [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", mark]]
    )
    assert workspace.process
    mine = [*psutil.Process(workspace.process.pid).children(recursive=True), *of_the_job]
    assert workspace.stop() == 0
    assert psutil.wait_procs(mine)[1] == []

    workspace.start()
    assert workspace.token == first
    assert workspace.client.get_experiment_by_name("/Shared/churn")
    assert workspace.wait(done)["state"]["result_state"] == "SUCCESS"
    assert workspace.wait(going)["state"]["result_state"] == "CANCELED"
    mine = psutil.Process(workspace.process.pid).children(recursive=True)
    workspace.process.kill()
    assert psutil.wait_procs(mine)[1] == []
