"""What cannot be run, scored or reproduced ends with one line that says why, with exit code 2, and no run RUNNING."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer, git
from mlflow.entities import Run
from running import COLLECTION, Store

GIT_PROJECT = COLLECTION / "git_project"
UNKNOWN = "0123456789abcdef0123456789abcdef"
SHA = "0123456789abcdef0123456789abcdef01234567"


def check(store: Store, command: str, cases: list[tuple[dict[str, object], str]]) -> None:
    """A command refuses each set of parameters with a line that holds the text beside it, and begins no run."""
    before = len(store.client.search_runs(["0"]))
    given = [[f"--{name}={value}" for name, value in parameters.items()] for parameters, _ in cases]
    outcomes = store.run_several(GIT_PROJECT, [(command, command, arguments) for arguments in given])
    for outcome, (_, text) in zip(outcomes, cases, strict=True):
        assert outcome.code == 2, outcome.output
        assert text in outcome.error
        assert "s3cret" not in outcome.output
    assert len(store.client.search_runs(["0"])) == before


def test_runs_that_are_malformed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "runs.json").write_text('[{"knn": {"p": 1}')
    an_item = ": an item must be the name of an entry point or {name: {parameter: value}}."
    cases = [
        ("", "Invalid value for '--runs': '' names no entry point."),
        ("[knn, {n_neighbors", "Invalid value for '--runs': '[knn, {n_neighbors' is malformed YAML at line 1, column "),
        ("[knn, [svm]]", 'holds ["svm"]' + an_item),
        ("[knn: 5]", 'holds {"knn": "5"}' + an_item),
        ("[knn: {n_neighbors: [5]}]", 'holds {"knn": {"n_neighbors": ["5"]}}' + an_item),
        ("nowhere.yaml", "'nowhere.yaml' cannot be read: No such file or directory (a relative path starts in this"),
        (tmp_path / "runs.json", "/runs.json' is malformed YAML at line 1"),
    ]
    check(store, "run", [({"runs": runs}, message) for runs, message in cases])


@pytest.fixture
def files(server: GitServer) -> Iterator[str]:
    """The address of a server that hands out the repositories as the files that they are."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(server.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{plain.server_port}"
        plain.shutdown()


def test_what_the_repository_does_not_have(
    store: Store, collection: Any, foreign: Any, server: GitServer, files: str, tmp_path: Path
) -> None:
    git("init", "--quiet", "--bare", server.folder / "empty.git", folder=tmp_path)
    git("push", "--quiet", "origin", "HEAD:refs/heads/twin", folder=foreign.tree)
    foreign.repository.commit("Another", tag="twin")
    at = f"{collection.url}#classification at {collection.commit[:12]}"
    page = "https://git.example.test/acme/demo/tree/master/classification"
    secret = "https://ada:s3cret@git.example.test/acme/demo.git"
    nobody = server.url("nobody")
    git("update-server-info", folder=foreign.repository.bare)
    plain_files = f"{files}/{foreign.repository.bare.name}"
    cases: list[tuple[dict[str, object], str]] = [
        ({"repo": collection.repository.bare}, "is a folder of this machine, which MLflow would run in place"),
        ({"repo": page}, f"'{page}' is a page of a web site: give the address that `git clone` takes"),
        ({"repo": secret}, "'https://git.example.test/acme/demo.git' came with a password, which MLflow would record"),
        ({"repo": nobody}, f"The repository {nobody} cannot be read: repository '{nobody}/' not found."),
        ({"repo": "http://127.0.0.1:9/x.git"}, "The repository http://127.0.0.1:9/x.git cannot be read: unable to acc"),
        ({"repo": server.url("empty")}, f"The repository {server.url('empty')} has no commit on its default branch."),
        ({"repo": plain_files}, f"The repository {plain_files} is served as plain files, from which neither this"),
        ({"repo": foreign.url, "version": "twin"}, "is both a branch and a tag: say refs/heads/twin or the commit."),
    ]
    in_collection: list[tuple[dict[str, object], str]] = [
        (
            {"version": "v2"},
            f"'v2' is neither a branch, a tag nor a commit of {collection.url}, which has: master, v1.",
        ),
        ({"version": "0123456"}, "'0123456' is neither a branch, a tag nor a commit of "),
        ({"version": SHA}, f"The repository {collection.url} does not have the commit {SHA}, or no longer."),
        ({"version": "v1", "project": "classfication"}, "'classfication' is no folder of "),
        ({"version": "v1", "project": "classfication"}, "; there are projects in: classification"),
        ({"version": "v1", "project": "class.ification"}, "'class.ification' holds a dot, which MLflow does not allow"),
        (
            {"version": "v1", "runs": "knn,svn"},
            f"'svn' is no entry point of {at}; it has: main, ann, decision_tree, gaussian_nb, hist_gradient_",
        ),
        (
            {"version": collection.commit[:9].upper(), "runs": "predict"},
            "'predict' needs a value for its parameter model_uri: {model_uri: ...}.",
        ),
    ]
    check(store, "run", cases + [({"repo": collection.url, **case}, text) for case, text in in_collection])


def test_a_backend_config_that_is_none(store: Store, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{,}")
    (tmp_path / "list.json").write_text("[]")
    cases = [
        ("nowhere.json", "'nowhere.json' cannot be read: No such file or directory"),
        (tmp_path / "broken.json", "/broken.json' is malformed JSON: "),
        (tmp_path / "list.json", "/list.json' must be a JSON object."),
    ]
    check(store, "run", [({"backend": "databricks-jobs", "backend_config": file}, text) for file, text in cases])


def test_a_refused_run_is_failed_and_says_why(store: Store, collection: Any, temporary: Path) -> None:
    outcome = store.mlflow_run(
        GIT_PROJECT, "main", {"repo": collection.url, "runs": "svn"}, environment={"TMPDIR": str(temporary)}
    )
    assert outcome.code == 1
    assert "'svn' is no entry point" in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.run.data.tags["error"] == outcome.error
    assert not store.children(outcome.run)
    assert not list(temporary.rglob(".git"))


def test_models_that_are_not_there(store: Store, plain: Run) -> None:
    run_id = plain.info.run_id
    cases: list[tuple[dict[str, object], str]] = [
        ({"run_id": UNKNOWN}, f"Invalid value for '--run_id': '{UNKNOWN}' is no run of {store.uri}, the store of "),
        ({"run_id": run_id}, f"'{run_id}' logged no model, nor did a run below it: give the run of a `main`."),
        ({"run_id": f"runs:/{run_id}/model"}, f"'{run_id}' logged no model, nor did a run below it"),
        ({"run_id": "models:/Churn/1"}, "; give the 32 digits of its id, or runs:/<id>."),
        ({"run_id": run_id, "output": "/nowhere"}, "Invalid value for '--output': '/nowhere' is no folder."),
    ]
    check(store, "predict", cases)


@pytest.fixture(scope="module")
def plain(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a project that does nothing and lies in no Git repository."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "MLproject").write_text("name: nothing\nentry_points: {main: {command: 'true'}}\n")
    outcome = store.mlflow_run(folder)
    assert outcome.code == 0, outcome.output
    return outcome.run


def test_runs_that_cannot_be_reproduced(store: Store, plain: Run, tmp_path: Path) -> None:
    def made(status: str = "FINISHED", **tags: str) -> str:
        run_id = store.client.create_run("0", tags={name.replace("__", "."): tag for name, tag in tags.items()})
        if status != "RUNNING":
            store.client.set_terminated(run_id.info.run_id, status)
        return run_id.info.run_id

    entry = {"mlflow__project__entryPoint": "main"}
    here = {**entry, "mlflow__source__git__commit": SHA}
    running = made("RUNNING", **here)
    alone = made()
    deleted = made(**here)
    store.client.delete_run(deleted)
    dirty = made(**here, mlflow__source__git__repoURL="https://x.test/y.git", mlflow__source__git__dirty="true")
    cases = [
        (UNKNOWN, f"Invalid value for '--run_id': '{UNKNOWN}' is no run of {store.uri}, the store of "),
        (alone, f"'{alone}' is no run of an MLflow Project, nor lies below one."),
        (f"runs:/{alone}", f"'runs:/{alone}' is no run of an MLflow Project, nor lies below one."),
        (f"http://host/#/experiments/0/runs/{deleted}?x=1", f"'{deleted}' is a deleted run: mlflow runs restore "),
        (deleted, f"'{deleted}' is a deleted run: mlflow runs restore brings it back."),
        (running, f"'{running}' is still RUNNING: wait until it ends."),
        (made(mlflow__parentRunId=running), f"'{running}' is still RUNNING: wait until it ends."),
        (made("FAILED", **here), "ended as FAILED: there is no result to reproduce."),
        (plain.info.run_id, "has no commit: its project did not lie in a Git repository."),
        (made(**here), "has no repository: its project was run from a folder that has no remote."),
        (made(**here, mlflow__source__git__repoURL=str(tmp_path)), f"came from {tmp_path}, from which MLflow cannot "),
        (dirty, "was run with uncommitted changes (its artifact git.diff), which no commit holds: -P allow_dirty=true"),
    ]
    check(store, "reproduce", [({"run_id": run_id}, text) for run_id, text in cases])
    store.client.set_terminated(running)


def test_a_dirty_run(store: Store, collection: Any, reproduce: Any, tmp_path: Path) -> None:
    """Of a checkout with another table of data than its commit has."""
    checkout = tmp_path / "checkout"
    git("clone", "--quiet", collection.url, checkout, folder=tmp_path)
    data = checkout / "classification" / "data" / "churn.csv"
    data.write_text("\n".join(data.read_text().splitlines()[:3000]) + "\n")
    outcome = store.mlflow_run(checkout / "classification", "gaussian_nb")
    assert outcome.code == 0, outcome.output

    found = reproduce(outcome.run, allow_dirty="true")
    assert found.outcome.code == 1
    assert ("dataset", "churn_train training") in found.differences
    assert found.report["reasons"][0].startswith("The original was run with uncommitted changes")
    assert found.report["project"] == "classification"
    assert git("status", "--short", folder=checkout) == "M classification/data/churn.csv"
