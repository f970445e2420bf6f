"""The defaults of the MLproject file and of the scripts are the same, so that both ways of starting do the same."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml
from running import COLLECTION

CLUSTERING = COLLECTION / "clustering"

# Prints {entry point: {option: default}} of all click commands, seen from inside the example's folder.
DEFAULTS = """
import json, fit, predict, sweep
commands = {"main": sweep.sweep, "kmeans": fit.fit, "predict": predict.predict}
print(json.dumps({
    name: {option.name: option.default for option in command.params if not option.required}
    for name, command in commands.items()
}))
"""


def test_mlproject_and_scripts_have_the_same_defaults() -> None:
    done = subprocess.run([sys.executable, "-c", DEFAULTS], cwd=CLUSTERING, capture_output=True, text=True, check=True)
    entry_points = yaml.safe_load((CLUSTERING / "MLproject").read_text())["entry_points"]
    of_mlproject = {
        name: {key: value["default"] for key, value in entry_point["parameters"].items() if "default" in value}
        for name, entry_point in entry_points.items()
    }
    assert of_mlproject == json.loads(done.stdout)
