"""The defaults of the MLproject file and of the scripts are the same, so that both ways of starting do the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from running import COLLECTION

CLASSIFICATION = COLLECTION / "classification"

# Prints {entry point: {option: default}} of all click commands, seen from inside the example's folder.
DEFAULTS = """
import json, compare, predict, train, tune
table = {option.name: option.default for option in train.train.params}
defaults = {"main": {option.name: option.default for option in compare.compare.params}}
defaults["tune"] = {option.name: option.default for option in tune.tune.params}
defaults["predict"] = {option.name: option.default for option in predict.predict.params if not option.required}
for name, command in train.CLASSIFIERS.items():
    defaults[name] = {**table, **{option.name: option.default for option in command.params}}
print(json.dumps(defaults))
"""


@pytest.fixture(scope="module")
def of_the_scripts() -> dict[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", DEFAULTS], cwd=CLASSIFICATION, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_mlproject_and_scripts_have_the_same_defaults(of_the_scripts: dict[str, dict[str, object]]) -> None:
    entry_points = yaml.safe_load((CLASSIFICATION / "MLproject").read_text())["entry_points"]
    of_mlproject = {
        name: {key: value["default"] for key, value in entry_point["parameters"].items() if "default" in value}
        for name, entry_point in entry_points.items()
    }
    assert set(of_mlproject) == set(of_the_scripts)
    for name, defaults in of_mlproject.items():
        assert {key: _number(value) for key, value in defaults.items()} == {
            key: _number(value) for key, value in of_the_scripts[name].items()
        }, name


def _number(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return value
