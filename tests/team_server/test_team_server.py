"""A team works on one server: who may do what, every example on it, and what happens when a part of it is away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import click
import mlflow
import mlflow.db
import pandas as pd
import psutil
import psycopg
import pytest
import requests
import sqlalchemy
import yaml
from click.testing import CliRunner
from examples import module
from git_server import HERMETIC, GitServer, Repository, copy_collection
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from pages import assert_quoted, steps
from running import COLLECTION, PATIENCE, Outcome, Store, model_logged, wait_until
from team import FEW_RETRIES, TEAM_SERVER, Command, StoreOfUser, User, free_ports

SMALL = {"models": "logistic_regression,decision_tree"}


def accounts_script(server: Any, users: dict[str, User], accounts: Path) -> str:
    """What accounts.py prints for a file, run by the administrator."""
    command = ["python", str(TEAM_SERVER / "accounts.py"), "--accounts", str(accounts)]
    command += ["--passwords", str(server.folder / "passwords.yaml")]
    done = subprocess.run(command, env=users["admin"].in_experiment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def registered(server: Any, users: dict[str, User], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the page says has been done: Alice has trained, and the gate has trained and made its model the champion."""
    home = tmp_path_factory.mktemp("home")
    (home / "mlflow-team-server").symlink_to(server.folder)
    blocks = re.findall(r"```sh\n(.*?)```", (TEAM_SERVER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for user, block in zip(("alice", "gate"), blocks, strict=False):
        commands = block.replace("http://127.0.0.1:5000", server.uri)
        environment = {name: value for name, value in users[user].in_experiment().items() if "MLFLOW_" not in name}
        environment |= {"HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=COLLECTION, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "churn version 1 is the champion now" in done.stdout + done.stderr
    return str(users["gate"].client.get_model_version("churn", "1").source)


def test_rights_follow_the_file_and_who_is_gone_from_it_has_no_account(
    server: Any, users: dict[str, User], tmp_path: Path
) -> None:
    """Applied a second and a third time, accounts.py does what has changed in the file and nothing else."""
    before = TEAM_SERVER / "accounts.yaml"
    content = yaml.safe_load(before.read_text())
    content["users"].remove("bob")
    content["experiments"] |= {"team": {"alice": "READ"}, "bob": {"gate": "MANAGE"}}
    content["registered_models"]["churn"]["alice"] = "EDIT"
    after = tmp_path / "accounts.yaml"
    after.write_text(yaml.safe_dump(content))
    assert set(accounts_script(server, users, after).splitlines()[:-1]) == {
        "account bob: removed",
        "alice: READ on experiment team",
        "gate: MANAGE on experiment bob",
        "alice: EDIT on registered model churn",
    }
    with pytest.raises(MlflowException, match="not authenticated"):
        users["bob"].client.search_experiments()
    users["alice"].client.set_registered_model_tag("churn", "tried", "once")
    assert set(accounts_script(server, users, before).splitlines()[:-1]) == {
        "account bob: made",
        "alice: EDIT on experiment team",
        "bob: EDIT on experiment team",
        "bob: MANAGE on experiment bob",
        "alice: no right on registered model churn any more",
        "gate: no right on experiment bob any more",
    }
    with pytest.raises(MlflowException, match="Permission denied"):
        users["alice"].client.set_registered_model_tag("churn", "tried", "twice")


WRITES: dict[str, Callable[[MlflowClient], object]] = {
    "move the alias": lambda client: client.set_registered_model_alias("churn", "champion", "1"),
    "remove the alias": lambda client: client.delete_registered_model_alias("churn", "challenger"),
    "tag the model": lambda client: client.set_registered_model_tag("churn", "color", "red"),
    "tag a version": lambda client: client.set_model_version_tag("churn", "1", "color", "red"),
    "add a version": lambda client: client.create_model_version("churn", "models:/churn/1"),
    "delete a version": lambda client: client.delete_model_version("churn", "1"),
    "describe the model": lambda client: client.update_registered_model("churn", "mine"),
    "rename the model": lambda client: client.rename_registered_model("churn", "mine"),
    "delete the model": lambda client: client.delete_registered_model("churn"),
    "run in another's experiment": lambda client: client.create_run(experiment(client, "gate")),
    "delete another's experiment": lambda client: client.delete_experiment(experiment(client, "gate")),
}


def experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    assert found
    return str(found.experiment_id)


@pytest.mark.parametrize("write", WRITES)
def test_a_data_scientist_may_not(write: str, users: dict[str, User], registered: str) -> None:
    with pytest.raises(MlflowException, match="Permission denied"):
        WRITES[write](users["bob"].client)


def test_nobody_without_an_account_reads_anything(server: Any, users: dict[str, User]) -> None:
    stranger = User("stranger", users["bob"].environment | {"MLFLOW_TRACKING_PASSWORD": "guessed"})
    with pytest.raises(MlflowException, match="not authenticated"):
        stranger.client.search_registered_models()


def test_all_read_what_the_gate_registered(users: dict[str, User], registered: str) -> None:
    bob = users["bob"]
    assert bob.client.get_model_version_by_alias("churn", "champion").version == "1"
    assert not any(name.startswith("AWS_") for name in bob.environment)  # the files come through the server
    for outcome in bob.run(
        "registry_deploy",
        ("registry list", {"name": "churn"}),
        ("registry describe", {"model_uri": "models:/churn@champion"}),
        ("registry history", {"name": "churn"}),
        ("dossier", {"name": "churn", "version": 1}),
    ):
        assert outcome.code == 0, outcome.output
    assert "The tag dossier of churn 1 is not set: it needs the right EDIT on the registered model." in outcome.output


def test_a_data_scientist_watches_the_model_of_the_gate(
    users: dict[str, User], registered: str, tmp_path: Path
) -> None:
    """With READ on the model: its metrics are in the own run, though not on the page of the model."""
    table = pd.read_csv(COLLECTION / "watch" / "data" / "churn.csv")[:300]
    inputs = [line.dropna().to_json() for _, line in table.drop(columns="churn").iterrows()]
    shared = {"row": 0, "time": pd.Timestamp.now("UTC"), "model": "churn", "version": "1", "output": '"No"'}
    (tmp_path / "churn").mkdir()
    rows = pd.DataFrame({"request_id": [str(place) for place in table.index], "inputs": inputs, **shared})
    rows.to_parquet(tmp_path / "churn" / "rows.parquet")
    rows.assign(churn=table["churn"]).drop(columns=["version", "model"]).to_csv(tmp_path / "labels.csv", index=False)
    record, since = {"record": str(tmp_path)}, time.time()
    drift, labels = users["bob"].run(
        "watch", ("drift", record), ("labels", {**record, "labels": str(tmp_path / "labels.csv")})
    )
    assert "Drift: prediction" in drift.output, drift.output  # all answers were No
    assert "300 of 300 rows are labelled." in labels.output, labels.output
    assert all(run.data.metrics for run in runs_of(users["bob"], since))


def test_two_users_work_on_it_at_the_same_time(users: dict[str, User]) -> None:
    alice, bob, since = users["alice"], users["bob"], time.time()
    both = [
        begun(alice, "classification", "train.py", "decision_tree"),
        begun(bob, "clustering", "sweep.py", "--k_max=3"),
    ]
    printed = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert [run.info.run_name for run in runs_of(alice, since)] == ["decision_tree"]
    assert "sweep" in {run.info.run_name for run in runs_of(bob, since)}
    assert {run.info.status for user in (alice, bob) for run in runs_of(user, since)} == {"FINISHED"}


def test_a_project_from_git_runs_on_it_and_is_reproduced(users: dict[str, User], tmp_path: Path) -> None:
    bob = users["bob"]
    served = tmp_path / "served"
    served.mkdir()
    repository = Repository(served, tmp_path / "tree", "demo")
    (repository.tree / "MLproject").write_text("name: demo\nentry_points: {main: {command: python train.py}}\n")
    (repository.tree / "train.py").write_text("import mlflow\nmlflow.log_metric('auc', 0.5)\n")
    repository.commit("A project")
    with GitServer(served) as git:
        run = ["run", str(COLLECTION / "git_project"), "--experiment-name", "bob", "--env-manager", "local"]
        of_demo = [f"repo={git.url('demo')}", "project=.", "runs=main", "metrics=auc"]
        bob.mlflow(*run, *(word for option in of_demo for word in ("-P", option)))
        child = next(run for run in runs_of(bob) if "auc" in run.data.metrics)
        bob.mlflow(*run, "-e", "reproduce", "-P", f"run_id={child.info.run_id}", "-P", "env_manager=local")


def test_a_line_of_cron_follows_the_champion_with_an_account_that_may_only_read(
    users: dict[str, User], registered: str, tmp_path: Path
) -> None:
    """As on the page, but for a directory and a port of the test's own."""
    page = (TEAM_SERVER / "README.md").read_text(encoding="utf-8")
    typed = re.search(r"python deploy\.py deploy --(model_uri)=(models:/churn@champion)$", page, re.MULTILINE)
    assert typed
    bob, since, place = users["bob"], time.time(), {"directory": str(tmp_path / "served")}
    deploying = ("deploy deploy", {typed[1]: typed[2], "port": -1, **place})
    first, again, ended = bob.run("registry_deploy", deploying, deploying, ("deploy undeploy", place))
    assert [outcome.code for outcome in (first, again, ended)] == [0, 0, 0], first.output + again.output + ended.output
    assert "the registry was not told of this deployment" in first.output
    address = re.search(r"http://127.0.0.1:\d+/invocations", first.output)
    assert address
    assert address[0] in again.output  # the process of before: another one would have taken another port
    assert "green" not in again.output
    assert runs_of(bob, since) == []


def test_watch_hands_a_project_what_only_the_server_can_read(users: dict[str, User]) -> None:
    with mlflow.start_run(experiment_id=experiment(users["alice"].client, "alice")):
        assert str(mlflow.get_artifact_uri()).startswith("mlflow-artifacts:")
        mlflow.log_text("churn\nyes\n", "table.csv")
        assert Path(module("watch", "origin").logged_table("table.csv")).read_text() == "churn\nyes\n"


def test_the_files_of_a_model_are_as_safe_as_its_experiment(
    server: Any, users: dict[str, User], registered: str
) -> None:
    """A user who may write to an experiment may replace the files of its models, registered or not."""
    alice = users["alice"]
    key = (alice.name, alice.environment["MLFLOW_TRACKING_PASSWORD"])
    of_gate = alice.client.get_logged_model(registered.split("/")[-1])
    of_alice = alice.client.search_logged_models([experiment(alice.client, "alice")])[0]
    answers = []
    for model in (of_gate, of_alice):
        path = f"{model.experiment_id}/models/{model.model_id}/artifacts/added.txt"
        url = f"{server.uri}/api/2.0/mlflow-artifacts/artifacts/{path}"
        answers.append(requests.put(url, data=b"", auth=key, timeout=60).status_code)
    assert answers == [403, 200]


def another_version(gate: User) -> str:
    """The number of one more version of churn, of the same model as version 1."""
    source = str(gate.client.get_model_version("churn", "1").source)
    return str(gate.client.create_model_version("churn", source, model_id=source.split("/")[-1]).version)


def refused(outcome: Outcome, user: str, right: str) -> None:
    """It ended on one line, which names the user and the right that is missing."""
    assert outcome.code == 2, outcome.output
    assert "Traceback" not in outcome.output
    assert f"user '{user}' lacks the right {right}." in outcome.error


def test_register_names_the_right_that_a_data_scientist_lacks(users: dict[str, User], registered: str) -> None:
    [registering] = users["alice"].run("registry_deploy", ("register", {"model_uri": registered, "name": "churn"}))
    refused(registering, "alice", "EDIT on the registered model")


def test_who_may_edit_but_not_manage_promotes_and_is_told_which_alias_stays(
    users: dict[str, User], registered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = users["alice"].client, users["bob"]
    alice.create_registered_model("edited")
    alice.create_model_version("edited", registered, model_id=registered.split("/")[-1])
    alice.set_registered_model_alias("edited", "challenger", "1")
    AuthServiceClient(alice.tracking_uri).grant_user_permission("bob", "registered_model", "edited", "EDIT")
    client = bob.client
    module("registry_deploy", "versions").move_champion("edited", "1", judged_against=None, run_id="0" * 32)
    aliases = client.get_registered_model("edited").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "challenger": "1"}
    assert client.get_model_version("edited", "1").tags["evaluation_run"] == "0" * 32
    assert "The alias challenger of edited stays: to remove it takes the right MANAGE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("example", "commands"),
    [
        ("classification", [("compare", SMALL), ("tune", {"n_trials": 2})]),
        ("clustering", [("sweep", {"k_max": 3}), ("fit", {})]),
        ("registry_deploy", [("dossier", {"name": "churn", "version": 1})]),
    ],
)
def test_an_example_in_an_experiment_without_rights_names_the_right(
    example: str, commands: list[Command], users: dict[str, User], registered: str
) -> None:
    for outcome in users["bob"].run(example, *commands, experiment="gate"):
        refused(outcome, "bob", "EDIT on the experiment")


def test_a_wrong_password_is_one_line(users: dict[str, User]) -> None:
    wrong = User("bob", users["bob"].environment | {"MLFLOW_TRACKING_PASSWORD": "guessed"})
    [outcome] = wrong.run("clustering", ("fit", {}))
    assert outcome.code == 2
    assert "does not know user 'bob' with this password: set MLFLOW_TRACKING_USERNAME" in outcome.error


def test_no_secret_is_in_a_log_or_readable_by_others(server: Any, users: dict[str, User], registered: str) -> None:
    known = [*server.secret.values(), *(user.environment["MLFLOW_TRACKING_PASSWORD"] for user in users.values())]
    for log in server.folder.glob("*.log"):
        text = log.read_text(errors="replace")
        assert not [secret for secret in known if secret in text], log
    for name in ("secrets.yaml", "passwords.yaml", "environment", "s3.json"):
        assert (server.folder / name).stat().st_mode & 0o077 == 0, name


# Faults


def crash(server: Any) -> None:
    """Have PostgreSQL end at once, as in a crash: it writes nothing down and closes no connection."""
    pid = int((server.folder / "postgresql" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    psutil.Process(pid).wait(PATIENCE)


def begun(user: User, example: str, *arguments: str) -> subprocess.Popen[str]:
    """A script of an example that runs beside the test, with as much patience as MLflow has by itself."""
    environment = {name: value for name, value in user.in_experiment().items() if name not in FEW_RETRIES}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    folder = COLLECTION / example
    return subprocess.Popen(["python", *arguments], cwd=folder, env=environment | {"PYTHONUNBUFFERED": "1"}, **pipes)


def read_until(process: subprocess.Popen[str], beginning: str) -> str:
    """What a process prints, as far as the line with this beginning."""
    assert process.stdout
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith(beginning):
            return text
    raise AssertionError(text)


def runs_of(user: User, since: float = 0) -> list[Run]:
    """The runs in a user's own experiment that began after a time, the newest first."""
    began = f"attributes.start_time > {int(1000 * since)}"
    return list(user.client.search_runs([experiment(user.client, user.name)], began))


def test_a_training_outlives_a_crash_of_postgresql(server: Any, users: dict[str, User]) -> None:
    alice = users["alice"]
    since = time.time()
    training = begun(alice, "classification", "compare.py", f"--models={SMALL['models']}")
    printed = read_until(training, "[1/2]")
    crash(server)
    time.sleep(1)
    server.start_postgresql()
    printed += training.communicate(timeout=PATIENCE)[0]
    assert training.returncode == 0, printed
    newest = {run.info.run_name: run for run in runs_of(alice, since)}
    assert [run.info.status for run in newest.values()] == ["FINISHED"] * 3
    for line in printed.splitlines():
        if line.startswith("["):  # [1/2] logistic_regression    roc_auc 0.8437 ...
            _, name, metric, value = line.split()[:4]
            assert newest[name].data.metrics[metric] == pytest.approx(float(value), abs=1e-4)
            assert alice.client.get_logged_model(model_logged(newest[name])).status == "READY"


def test_without_the_store_a_model_is_not_half_logged(server: Any, users: dict[str, User]) -> None:
    bob = users["bob"]
    since = time.time()
    server.stop("s3")
    try:
        [outcome] = bob.run("classification", ("train decision_tree", {}))
    finally:
        server.start_store()
    assert outcome.code == 2, outcome.output
    assert "Traceback" not in outcome.output
    assert "could not do mlflow-artifacts/artifacts" in outcome.error
    assert [run.info.status for run in runs_of(bob, since)] == ["FAILED"]
    models = bob.client.search_logged_models([experiment(bob.client, "bob")])
    assert "READY" not in {model.status for model in models if model.creation_timestamp > 1000 * since}


def test_a_store_that_fills_up_while_a_model_is_logged_registers_no_half_model(
    server: Any, users: dict[str, User], tmp_path: Path
) -> None:
    bob, since = users["bob"], time.time()
    parts = {f"part{number:02}": tmp_path / f"part{number:02}" for number in range(24)}
    for path in parts.values():
        path.write_bytes(os.urandom(2**20))
    server.stop("s3")
    server.start_store("-volume.max=9", "-master.volumeSizeLimitMB=1")  # there is room for some of the parts
    try:
        large: Any = {"name": "large", "artifacts": {name: str(path) for name, path in parts.items()}}
        large |= {"python_model": lambda model_input: model_input, "pip_requirements": []}
        with (
            pytest.raises(MlflowException, match="mlflow-artifacts"),
            mlflow.start_run(experiment_id=experiment(bob.client, "bob")) as run,
        ):
            mlflow.pyfunc.log_model(**large, registered_model_name="large")
        [training] = bob.run("classification", ("train decision_tree", {}))
    finally:
        server.stop("s3")
        server.start_store()
    assert training.code == 2, training.output
    assert "could not do mlflow-artifacts/artifacts" in training.error
    assert [run.info.status for run in runs_of(bob, since)] == ["FAILED"] * 2
    half = model_logged(bob.client.get_run(run.info.run_id))
    assert 0 < len(bob.client.list_logged_model_artifacts(half, "artifacts")) < len(parts)
    [registering] = bob.run("registry_deploy", ("register", {"model_uri": f"models:/{half}", "name": "large"}))
    assert registering.code == 2, registering.output
    assert "was not logged to its end" in registering.error
    assert "large" not in {model.name for model in bob.client.search_registered_models()}


def test_promote_outlives_a_restart_of_the_server(server: Any, users: dict[str, User], registered: str) -> None:
    gate = users["gate"]
    again = another_version(gate)
    options = [f"--model_uri=models:/churn/{again}", "--n_resamples=100", "--max_slowdown=1000"]
    since = time.time()
    promoting = begun(gate, "registry_deploy", "promote.py", *options)
    time.sleep(1)
    server.stop("mlflow")
    server.start_mlflow()
    printed = promoting.communicate(timeout=PATIENCE)[0]
    assert promoting.returncode == 0, printed
    aliases = gate.client.get_registered_model("churn").aliases
    assert {alias: str(version) for alias, version in aliases.items()}["champion"] == again
    assert {run.info.status for run in runs_of(gate, since)} == {"FINISHED"}


# Care


def care(server: Any, monkeypatch: pytest.MonkeyPatch, command: click.Command, *arguments: str) -> str:
    """What a command prints in the environment that the server keeps for its administrator."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    outcome = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that is not below pytest's own, from which a new session of pytest shuts PostgreSQL out."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_ctrl_c_ends_all_of_it_even_while_it_starts(outside: Path) -> None:
    folder, port = outside / "team", free_ports()

    def left() -> list[list[str]]:
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [words for words in commands if str(folder) in " ".join(words) or str(port) in words]

    command = [sys.executable, str(TEAM_SERVER / "server.py"), f"--folder={folder}", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until((folder / "mlflow.log").exists)
    wait_until(lambda: len(left()) >= 4)  # PostgreSQL, SeaweedFS and MLflow besides it
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    wait_until(lambda: left() == [])


@pytest.fixture
def empty(outside: Path) -> Iterator[Any]:
    """A second PostgreSQL and a second store, with nothing in them."""
    from server import TeamServer

    made = TeamServer(outside / "empty", free_ports())
    made.start_stores()
    yield made
    made.stop()


def test_a_backup_is_restored_run_by_run_into_an_empty_place_only(
    server: Any, empty: Any, registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backup import backup

    saved = str(tmp_path / "saved")
    printed = care(server, monkeypatch, backup, "save", saved)
    assert care(empty, monkeypatch, backup, "restore", saved) == printed.replace(
        f"are in {saved}.", "are restored, all as they were saved."
    )
    stores = [each.environment["MLFLOW_BACKEND_STORE_URI"] for each in (server, empty)]
    before, after = (MlflowClient(uri, uri) for uri in stores)
    found = [
        {run.info.run_id: (dict(run.info), run.data.to_dictionary()) for run in all_runs(client)}
        for client in (before, after)
    ]
    assert len(found[0]) > 5
    assert found[0] == found[1]
    assert before.get_registered_model("churn").aliases == after.get_registered_model("churn").aliases
    again = CliRunner().invoke(backup, ["restore", saved])
    assert again.exit_code == 2
    assert "is not empty: nothing is restored." in again.output


def all_runs(client: MlflowClient) -> list[Run]:
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


RELEASE_BEFORE = "b7e2c1a4d9f3"  # the schema of MLflow 3.16.0


def test_mlflow_db_upgrade_keeps_the_runs_of_the_release_before(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = server.environment["MLFLOW_BACKEND_STORE_URI"].replace("/postgres?", "/before?")
    with psycopg.connect(uri.replace("+psycopg", "").replace("/before?", "/postgres?"), autocommit=True) as connection:
        connection.execute("create database before")
    first = sqlalchemy.create_engine(uri)
    InitialBase.metadata.create_all(first)
    first.dispose()
    alembic.command.upgrade(_get_alembic_config(uri), RELEASE_BEFORE)
    with psycopg.connect(uri.replace("+psycopg", "")) as connection:
        connection.execute("insert into experiments (name, lifecycle_stage) values ('old', 'active')")
        connection.execute(
            "insert into runs (run_uuid, name, status, source_type, user_id, lifecycle_stage, experiment_id,"
            " artifact_uri, start_time, end_time) select %s, 'old', 'FINISHED', 'LOCAL', 'alice', 'active',"
            " experiment_id, 's3://mlflow/old', 1, 2 from experiments",
            ["0" * 32],
        )
        connection.execute(
            "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " values ('auc', 0.5, 1, 0, false, %s)",
            ["0" * 32],
        )
    care(server, monkeypatch, mlflow.db.commands, "upgrade", uri)
    run = MlflowClient(uri, uri).get_run("0" * 32)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"auc": 0.5})
    with psycopg.connect(uri.replace("+psycopg", "")) as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() != (RELEASE_BEFORE,)


def test_mlflow_gc_reclaims_the_files_of_a_deleted_run(
    server: Any, users: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.cli import gc

    alice = users["alice"]
    run = alice.client.create_run(experiment(alice.client, "alice")).info.run_id
    alice.client.log_text(run, "large", "file.txt")
    alice.client.delete_run(run)
    for name, value in users["admin"].environment.items():
        monkeypatch.setenv(name, value)
    database = ["--backend-store-uri", server.environment["MLFLOW_BACKEND_STORE_URI"]]
    care(server, monkeypatch, gc, *database, "--run-ids", run, "--tracking-uri", server.uri)
    with pytest.raises(MlflowException, match="not found"):
        users["admin"].client.get_run(run)
    from backup import Stores

    keys = Stores().keys()
    assert not [key for key in keys if run in key]


MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"]


@pytest.fixture(scope="module")
def alices(users: dict[str, User], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The server as Alice sees it."""
    return StoreOfUser(tmp_path_factory.mktemp("store"), users["alice"])


@pytest.fixture(scope="module")
def told(alices: Store, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The story of watch, from a Git server, by a data scientist; its commit is named on every run."""
    served, folder = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("tmp")
    repository = Repository(served, tmp_path_factory.mktemp("tree"), "collection")
    copy_collection(repository.tree)
    repository.commit("The collection")
    with GitServer(served) as server:
        environment = {**HERMETIC, "TMPDIR": str(folder), "NO_PROXY": "127.0.0.1"}
        outcome = alices.mlflow_run(
            f"{server.url('collection')}#watch", "main", {}, "--experiment-name", "alice", environment=environment
        )
    assert outcome.code == 0, outcome.output
    assert not list(folder.rglob("endpoint"))
    return outcome


def test_every_month_is_told_and_the_page_quotes_it(told: Outcome) -> None:
    found = re.findall(r"^\[(\w+)\]", told.output, re.MULTILINE)
    assert found == [*MONTHS[:9], "September", *MONTHS[9:], "December"]
    assert_quoted(steps(COLLECTION / "watch" / "README.md")[0].quoted, told.output)


def test_a_quiet_half_year_is_quiet_and_the_shift_is_noticed(told: Outcome, alices: Store) -> None:
    verdicts = {run.info.run_name: run.data.tags.get("verdict") for run in alices.children(told.run)}
    assert [verdicts[f"drift 2025-{month:02}"] for month in (1, 2, 3, 5, 6)] == ["none"] * 5
    assert verdicts["drift 2025-04"] == verdicts["drift 2025-07"] == "drift"


def test_of_a_month_of_broken_data_nothing_comes(told: Outcome, alices: Store) -> None:
    runs = {run.info.run_name: run for run in alices.children(told.run)}
    april = runs["retrain 2025-04"]
    assert april.data.tags["decision"] == "broken data"
    assert "as in another unit" in april.data.tags["mlflow.note.content"]
    assert not alices.children(april)
    assert len(alices.client.search_model_versions("name = 'churn_watch'")) == 2


def test_the_new_champion_comes_from_the_commit_of_the_first_and_serves_alone(told: Outcome, alices: Store) -> None:
    retrained = [run for run in alices.children(told.run) if run.info.run_name == "retrain 2025-08"]
    assert [run.data.tags["decision"] for run in retrained] == ["promoted", "nothing to do"]
    steps_ = {run.info.run_name: run for run in alices.children(retrained[0])}
    assert list(steps_) == ["retrain", "register", "promote", "deploy 30 %"]
    first = next(run for run in alices.children(told.run) if run.info.run_name == "first champion")
    for tag in ("mlflow.source.git.commit", "mlflow.source.name"):
        assert steps_["retrain"].data.tags[tag] == first.data.tags[tag]
    assert first.data.tags["mlflow.source.name"].startswith("http://127.0.0.1")
    model = alices.client.get_registered_model("churn_watch")
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"champion": "2", "previous": "1"}
    assert "canary_concluded" in alices.client.get_model_version("churn_watch", "2").tags
    assert "350 rows answered by version 2" in told.output
