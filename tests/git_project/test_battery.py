"""`reproduce` on projects of all kinds: each is the same again, and each is not, once one thing has changed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
from git_server import GitServer, Repository, git
from mlflow.entities import Run
from running import Store

PROJECTS = Path(__file__).with_name("projects")
REPRODUCED, NOT_REPRODUCED, NOT_TRIED = 0, 1, 3
WEAK = "The evidence is weak: "
Reproduce = Callable[..., Any]
Start = Callable[..., Run]


@pytest.fixture(scope="module")
def served(server: GitServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, str]:
    """All the projects in one repository, a folder each, and its address."""
    repository = Repository(server.folder, tmp_path_factory.mktemp("projects") / "tree", "projects")
    shutil.copytree(PROJECTS, repository.tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    repository.commit("Projects of all kinds")
    return repository, server.url("projects")


@pytest.fixture
def start(served: tuple[Repository, str], in_process: Any) -> Callable[..., Run]:
    """Runs one of the projects and returns its run."""

    def start(project: str, entry_point: str = "train.py", **options: Any) -> Run:
        uri = f"{served[1]}#{project}"
        submitted = mlflow.projects.run(uri, entry_point, env_manager="local", **options)
        return mlflow.get_run(submitted.run_id)

    return start


@dataclass(frozen=True)
class Case:
    """A project that is reproduced, and what is seen to differ once SEED, a variable of the environment, is set.

    weak: whether the verdict says that the evidence is.
    """

    project: str
    differs: set[tuple[str, str]]
    entry_point: str = "train.py"
    how: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    weak: bool = True


FILES = ["predictions.csv", "log.txt", "report.json", "scores.parquet", "scores.npy", "several.npz", "weights.pkl"]
FILES += ["bundle.zip", "blob.bin"]
PREDICTIONS = ["missing", "times", "sparse", "tuple", "twins", "nothing", "texts"]

CASES = [
    Case("dataset_names", {("dataset", "dataset")}),
    Case("no_example", {("model", "model")}),
    Case("model_names", {("model", "my model"), ("prediction", "my model")}),
    Case("history", {("metric", "loss")}),
    Case("steps", {("metric", "loss")}),
    Case("expset", {("metric", "rmse")}, how={"experiment_name": "wine"}),
    Case("grid", {("dataset", "dataset train"), ("model", "model")}, weak=False),
    Case("autolog", {("parameter", "C"), ("model", "model")}, weak=False),
    Case("alpha", {("metric", "rmse")}, "main", {"parameters": {"alpha": "0.9"}}),
    Case("alpha", {("metric", "rmse")}, "train.py", {"parameters": {"alpha": "0.9"}}),
    Case("multistep", {("metric", "score")}, "main"),
    Case("parallel", {("metric", "score")}),
    Case("folds", {("metric", "score")}),
    Case("depth", {("metric", "score")}),
    Case("failing_child", {("run", "status")}),
    Case("own_ids", {("parameter", "best")}),
    Case("noise", {("metric", "rmse")}, options={"rtol": "1e-6"}),
    Case("script", {("metric", "rmse")}, "run.sh"),
    Case("system", {("metric", "rmse")}, "main"),
    Case("loop", {("metric", "score")}),
    Case("threads", {("metric", "score")}, "main"),
    Case("old_client", {("model", "model"), ("prediction", "model")}),
    Case("forest", {("model", "forest")}, weak=False),
    Case("artifacts", {("artifact", name) for name in FILES}),
    Case("predictions", {("prediction", kind) for kind in PREDICTIONS}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.project}-{case.entry_point}")
def test_the_same_and_then_one_thing_changed(
    case: Case, start: Start, in_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = start(case.project, case.entry_point, **case.how)
    found = in_process(original, **case.options)
    assert (found.outcome.code, found.report["reproduced"]) == (REPRODUCED, "true"), found.page
    assert (WEAK in found.page) == case.weak
    monkeypatch.setenv("SEED", "1")
    changed = in_process(original, **case.options)
    assert (changed.outcome.code, changed.report["reproduced"]) == (NOT_REPRODUCED, "false"), changed.page
    assert changed.differences >= case.differs


def verdict(found: Any) -> tuple[int, str]:
    """The exit code, and the tag `reproduced` of the original: none where nothing was tried."""
    original = mlflow.get_run(found.report["original"])
    return found.outcome.code, original.data.tags.get("reproduced", "")


def test_datasets_without_names_are_each_compared(start: Start, in_process: Any) -> None:
    found = in_process(start("reported/dsname", "main"))
    assert verdict(found) == (NOT_REPRODUCED, "false")
    assert found.differences == {("dataset", "dataset")}


def test_a_model_without_example_and_signature_is_compared(start: Start, reproduce: Any, store: Store) -> None:
    """Another one each time, with a curve and a file that follow it; it registers itself, once."""
    found = reproduce(start("reported/nosig", "main"))
    assert verdict(found) == (NOT_REPRODUCED, "false")
    assert found.differences == {("metric", "loss"), ("model", "model"), ("artifact", "predictions.csv")}
    assert "The past run registered version 1 of Foreign." in found.page


@pytest.mark.parametrize(
    ("project", "entry_point", "how"),
    [
        ("expset", "main", {"experiment_name": "wine"}),
        ("grid", "main", {}),
        ("na", "main", {}),
    ],
)
def test_the_same_again_as_it_was_reported(
    project: str, entry_point: str, how: dict[str, Any], start: Start, in_process: Any
) -> None:
    """An experiment that the script sets, durations, a missing prediction."""
    found = in_process(start(f"reported/{project}", entry_point, **how))
    assert verdict(found) == (REPRODUCED, "true"), found.page


def test_a_step_that_names_its_workflow_and_the_step_before_it(start: Start, in_process: Any, store: Store) -> None:
    original = store.children(start("own_ids"))[1]
    assert original.info.run_name == "two"
    found = in_process(original)
    assert verdict(found) == (REPRODUCED, "true"), found.page
    assert {row["name"] for row in found.report["rows"] if row["kind"] == "parameter"} == {"upper", "before"}


def test_durations_by_any_name_are_left_out_as_the_report_proposes(start: Start, in_process: Any) -> None:
    original = start("durations")
    found = in_process(original)
    assert verdict(found) == (NOT_REPRODUCED, "false")
    slow = {("metric", "elapsed_ms"), ("metric", "samples_per_second"), ("artifact", "report.json")}
    assert found.differences == slow
    (ignore,) = re.findall("-P ignore='(.*)' leaves them out", found.page)
    assert verdict(in_process(original, ignore=ignore)) == (REPRODUCED, "true")


def test_a_parameter_that_only_an_old_library_logs_is_a_difference(
    start: Start, in_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("1\n2\n3\n")
    monkeypatch.setenv("OLD_LIBRARY", "1")
    original = start("reported/junk", "main", parameters={"data": str(data)})
    assert verdict(in_process(original)) == (REPRODUCED, "true")
    monkeypatch.delenv("OLD_LIBRARY")
    found = in_process(original)
    assert verdict(found) == (NOT_REPRODUCED, "false")
    assert found.differences == {("parameter", "multi_class")}


def test_a_path_is_that_of_the_user_and_its_file_may_change(
    start: Start, in_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("x\n1\n2\n")
    monkeypatch.chdir(tmp_path)
    original = start("paths", "main", parameters={"data": "table.csv"})
    assert verdict(in_process(original)) == (REPRODUCED, "true")
    table.write_text("x\n1\n4\n")
    found = in_process(original)
    assert verdict(found) == (NOT_REPRODUCED, "false")
    assert found.differences == {("dataset", "table training"), ("metric", "mean")}
    table.unlink()
    assert verdict(in_process(original)) == (NOT_TRIED, "false")  # the tag is that of the last one that was tried


def test_a_registered_model_is_read_where_the_user_says_so(
    start: Start, in_process: Any, reproduce: Any, store: Store
) -> None:
    store.client.create_registered_model("Taken")
    store.client.create_model_version("Taken", "/a/model")
    original = start("uses_registry")
    found = reproduce(original)
    assert verdict(found) == (NOT_TRIED, "")
    assert "-P registry=same lets it read, and write, your registry." in found.page
    assert verdict(in_process(original, registry="same")) == (REPRODUCED, "true")
    store.client.create_model_version("Taken", "/a/newer/model")
    assert verdict(in_process(original, registry="same")) == (NOT_REPRODUCED, "false")


def test_a_step_from_a_branch_that_has_moved_on(start: Start, in_process: Any, served: tuple[Repository, str]) -> None:
    original = start("branch", "main", parameters={"repo": served[1]})
    assert verdict(in_process(original)) == (REPRODUCED, "true")
    served[0].commit("The branch moves on")
    found = in_process(original)
    assert verdict(found) == (NOT_REPRODUCED, "false")
    assert found.differences == {("commit", "commit")}
    assert "A step was run at another commit: the project follows a branch that has moved on." in found.page


def test_a_submodule_beside_the_repository(
    server: GitServer, start: Start, in_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = Repository(server.folder, tmp_path / "numbers", "numbers")
    (numbers.tree / "numbers_of_others.py").write_text("NUMBER = 7\n")
    numbers.commit("Numbers")
    repository = Repository(server.folder, tmp_path / "tree", "submodule")
    shutil.copytree(PROJECTS / "submodule", repository.tree, dirs_exist_ok=True)
    always = ("-c", "protocol.file.allow=always")
    git(*always, "submodule", "--quiet", "add", "../numbers.git", "lib", folder=repository.tree)
    repository.commit("A submodule")
    submitted = mlflow.projects.run(server.url("submodule"), "train.py", env_manager="local")
    original = mlflow.get_run(submitted.run_id)
    assert verdict(in_process(original)) == (REPRODUCED, "true")
    monkeypatch.setenv("SEED", "1")
    assert verdict(in_process(original)) == (NOT_REPRODUCED, "false")


@pytest.fixture
def made(store: Store, served: tuple[Repository, str]) -> Callable[..., Run]:
    """A run of a project as another machine recorded it, which had what this one lacks."""

    def made(project: str, entry_point: str, environment: str = "") -> Run:
        tags = {
            "mlflow.project.entryPoint": entry_point,
            "mlflow.source.name": f"{served[1]}#{project}",
            "mlflow.source.git.repoURL": served[1],
            "mlflow.source.git.commit": git("rev-parse", "HEAD", folder=served[0].tree),
        }
        run_id = store.client.create_run(
            "0", tags=tags | ({"mlflow.project.env": environment} if environment else {})
        ).info.run_id
        store.client.log_metric(run_id, "rmse", 0.5)
        store.client.set_terminated(run_id)
        return store.client.get_run(run_id)

    return made


def test_what_another_machine_had_is_not_tried(
    made: Callable[..., Run], in_process: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Docker, and the files of Git LFS: without them nothing is said of the result."""
    docker, which = tmp_path / "docker", shutil.which
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(shutil, "which", lambda name, **how: None if name == "git-lfs" else which(name, **how))
    for manager in ("", "local"):
        found = in_process(made("docker", "main", "docker"), env_manager=manager)
        assert verdict(found) == (NOT_TRIED, "")
        assert "Start Docker: MLflow runs this project nowhere else" in found.page
    found = in_process(made("lfs", "train.py"))
    assert verdict(found) == (NOT_TRIED, "")
    assert "Install git-lfs: without it table.csv is a pointer of Git LFS and not the file." in found.page


def test_artifacts_that_are_gone_are_not_tried(start: Start, in_process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = start("no_example")

    def away(**where: str) -> None:
        raise OSError("the bucket is away")

    with monkeypatch.context() as without:
        without.setattr(mlflow.artifacts, "list_artifacts", away)
        found = in_process(original)
    assert verdict(found) == (NOT_TRIED, "")
    assert found.report["cause"] == "what the past run recorded cannot be read: the bucket is away"

    assert original.outputs
    model = mlflow.get_logged_model(original.outputs.model_outputs[0].model_id)
    shutil.rmtree(model.artifact_location)
    found = in_process(original)
    assert verdict(found) == (NOT_TRIED, ""), found.page
    assert found.report["cause"].startswith("what the past run recorded cannot be read: ")


@pytest.fixture
def killed(start: Start) -> Run:
    """A run of a project that registers a model, and is killed behind that where KILLED says so."""
    return start("killed")


def test_what_is_the_users_stays_as_it_is(killed: Run, reproduce: Any, users: dict[str, str]) -> None:
    assert verdict(reproduce(killed, users)) == (REPRODUCED, "true")
    found = reproduce(killed, {**users, "KILLED": "1"})
    assert verdict(found) == (NOT_TRIED, "true")  # the tag is that of the last one that was tried


def test_what_no_commit_holds_is_not_tried(
    start: Start, reproduce: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment, the file, the package or the step that a past run had is gone: the original gets no tag."""
    data = tmp_path / "rows.txt"
    data.write_text("1\n2\n3\n")
    monkeypatch.setenv("SECRET", "abc")
    secret, system = start("needs_a_secret"), start("system", "main")
    monkeypatch.delenv("SECRET")
    junk = start("reported/junk", "main", parameters={"data": str(data)})
    data.unlink()
    moved = tmp_path / "moved.txt"
    moved.write_text("1\n2\n3\n")
    nothing = start("nothing")
    index = {"UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1"}
    cases: list[tuple[Run, dict[str, str], dict[str, str], str, str]] = [
        (secret, {}, {}, "KeyError: 'SECRET'", "What it printed above says more."),
        (junk, {}, {}, f"No such file or directory: '{data}'", "-P 'parameters={data: /full/path}'"),
        (system, {"UV_OFFLINE": "1"}, {"env_manager": "uv"}, "a-package-that-is-nowhere", "-P env_manager=local"),
        (system, index, {"env_manager": "uv"}, "onnect", "-P env_manager=local"),
        (nothing, {}, {}, "the run recorded no dataset, metric, model or artifact", ""),
    ]
    for original, environment, options, cause, way_on in cases:
        found = reproduce(original, environment, **options)
        assert found.outcome.code == NOT_TRIED, found.outcome.output
        assert re.search(rf"\nNot tried: .*{re.escape(cause)}", found.outcome.output), found.outcome.output
        assert way_on in found.outcome.output
        assert found.outcome.run.data.tags["reproduced"] == "not tried"
        assert found.outcome.run.info.status == "FAILED"
        assert "reproduced" not in mlflow.get_run(original.info.run_id).data.tags
    assert reproduce(junk, parameters=f"{{data: {moved}}}").outcome.code == REPRODUCED
