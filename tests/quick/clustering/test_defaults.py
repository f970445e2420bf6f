"""The defaults of the MLproject file and of the scripts are the same, so that both ways of starting do the same."""

from __future__ import annotations

import pytest
import yaml
from examples import COLLECTION, module

COMMANDS = {"main": "sweep", "kmeans": "fit", "predict": "predict"}


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_mlproject_and_script_have_the_same_defaults(entry_point: str) -> None:
    name = COMMANDS[entry_point]
    command = getattr(module("clustering", name), name)
    project = yaml.safe_load((COLLECTION / "clustering" / "MLproject").read_text())["entry_points"][entry_point]
    of_mlproject = {key: value["default"] for key, value in project["parameters"].items() if "default" in value}
    assert of_mlproject == {option.name: option.default for option in command.params if not option.required}
    given = [part for part in project["command"].split() if part.startswith("--")]
    assert sorted(given) == sorted(f"--{key}" for key in project["parameters"])
