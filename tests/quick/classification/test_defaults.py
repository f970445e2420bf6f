"""The parameters of the MLproject file and of the scripts are the same, so that both ways of starting do the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from examples import module
from sklearn.ensemble import ExtraTreesClassifier

train, compare, tune, predict = (module("classification", name) for name in ("train", "compare", "tune", "predict"))
ENTRY_POINTS = yaml.safe_load((Path(train.__file__).parent / "MLproject").read_text())["entry_points"]
COMMANDS: dict[str, click.Command] = {
    **train.train.commands,
    "main": compare.compare,
    "tune": tune.tune,
    "predict": predict.predict,
}


def test_mlproject_and_scripts_have_the_same_parameters_and_defaults() -> None:
    assert set(ENTRY_POINTS) == set(COMMANDS)
    for name, command in COMMANDS.items():
        scripts = {str(option.name): None if option.required else plain(option.default) for option in command.params}
        parameters = ENTRY_POINTS[name]["parameters"].items()
        assert {key: plain(value["default"]) if "default" in value else None for key, value in parameters} == scripts


def test_every_command_starts_its_classifier_and_passes_every_parameter() -> None:
    for name, entry_point in ENTRY_POINTS.items():
        command = entry_point["command"]
        assert all(f"--{key} {{{key}}}" in command for key in entry_point["parameters"])
        if name in train.train.commands:
            assert command.startswith(f"python train.py {name} ")


@pytest.mark.parametrize("page", ["README.md", "README.fr.md"])
def test_a_classifier_is_added_by_the_entry_that_the_page_shows(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifiers = module("classification", "classifiers")
    shown = re.search(r"```python\n(.*?)```", (Path(train.__file__).parent / page).read_text("utf-8"), re.DOTALL)
    assert shown
    added = eval(f"{{{shown[1]}}}", {**vars(classifiers), "ExtraTreesClassifier": ExtraTreesClassifier})["extra_trees"]
    # The page says to copy the entry point of random_forest.
    assert added.parameters.keys() == classifiers.CLASSIFIERS["random_forest"].parameters.keys()
    monkeypatch.setitem(compare.CLASSIFIERS, "extra_trees", added)
    chosen = compare.choose("extra_trees, knn", {"max_depth": None, "class_weight": "balanced"})
    assert chosen["extra_trees"] == {
        "n_estimators": 200,
        "criterion": "gini",
        "max_depth": None,
        "class_weight": "balanced",
    }
    assert set(chosen["knn"]) == {"n_neighbors", "metric", "p"}
    estimator = compare.build("extra_trees", chosen["extra_trees"], random_state=7)
    assert isinstance(estimator, ExtraTreesClassifier)
    assert estimator.random_state == 7


def plain(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return str(value).lower()
