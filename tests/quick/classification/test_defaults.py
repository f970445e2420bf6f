"""The parameters of the MLproject file and of the scripts are the same, so that both ways of starting do the same."""

from __future__ import annotations

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


def test_a_classifier_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    classifiers = module("classification", "classifiers")
    added = classifiers.Classifier(
        ExtraTreesClassifier, {"n_estimators": (classifiers.COUNT, 200), **classifiers.WEIGHT}
    )
    monkeypatch.setitem(compare.CLASSIFIERS, "extra_trees", added)
    chosen = compare.choose("extra_trees, knn", {"max_depth": None, "class_weight": "balanced"})
    assert chosen["extra_trees"] == {"n_estimators": 200, "class_weight": "balanced"}
    assert set(chosen["knn"]) == {"n_neighbors", "metric", "p"}
    estimator = compare.build("extra_trees", chosen["extra_trees"], random_state=7)
    assert isinstance(estimator, ExtraTreesClassifier)
    assert estimator.random_state == 7


def plain(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return str(value).lower()
