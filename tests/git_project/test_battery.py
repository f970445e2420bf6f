"""`reproduce` on projects of all kinds: each is the same again, and each is not, once one thing has changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
from git_server import GitServer, Repository
from mlflow.entities import Run

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
    Case("script", {("metric", "rmse")}),
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


def test_what_no_commit_holds_is_not_tried(
    start: Start, reproduce: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment, the file, the package or the step that a past run had is gone: the original gets no tag."""
    data = tmp_path / "rows.txt"
    data.write_text("1\n2\n3\n")
    monkeypatch.setenv("SECRET", "abc")
    secret, system = start("needs_a_secret"), start("system", "main")
    monkeypatch.delenv("SECRET")
    junk = start("junk", "main", parameters={"data": str(data)})
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
