"""What the files of registry_deploy promise: defaults that agree, and data that can be written anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from running import COLLECTION, Store

EXAMPLE = COLLECTION / "registry_deploy"

# Prints {entry point: {option: default}} of all click commands, seen from inside the example's folder.
DEFAULTS = """
import json, deploy, dossier, export_onnx, promote, register, registry, story
commands = {"main": story.story, "register": register.register, "promote": promote.promote}
commands |= {"dossier": dossier.dossier, "export_onnx": export_onnx.export_onnx}
commands |= registry.registry.commands | deploy.deployment.commands
print(json.dumps({name: {option.name: option.default for option in command.params if not option.required}
                  for name, command in commands.items()}))
"""


def test_mlproject_and_scripts_have_the_same_defaults() -> None:
    done = subprocess.run([sys.executable, "-c", DEFAULTS], cwd=EXAMPLE, capture_output=True, text=True, check=True)
    of_the_scripts = json.loads(done.stdout)
    entry_points = yaml.safe_load((EXAMPLE / "MLproject").read_text())["entry_points"]
    assert set(entry_points) == set(of_the_scripts)
    for name, entry_point in entry_points.items():
        declared = {key: value["default"] for key, value in entry_point["parameters"].items() if "default" in value}
        assert declared == of_the_scripts[name], name


def test_the_rules_of_the_gate_have_the_defaults_of_the_command() -> None:
    code = (
        "import dataclasses, json, promote;"
        "print(json.dumps([vars(promote.Rules()), {o.name: o.default for o in promote.promote.params}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE, capture_output=True, text=True, check=True)
    rules, options = json.loads(done.stdout)
    assert rules.items() <= options.items()


def test_regenerating_the_bundled_tables_gives_the_same_bytes(tmp_path: Path) -> None:
    script = tmp_path / "make_churn_parts.py"
    script.write_bytes((EXAMPLE / "data" / "make_churn_parts.py").read_bytes())
    subprocess.run([sys.executable, script], check=True)
    parts = []
    for name in ("churn_training.csv", "churn_validation.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / "data" / name).read_bytes()
        parts.append(pd.read_csv(tmp_path / name))
    whole = pd.read_csv(COLLECTION / "classification" / "data" / "churn.csv")
    columns = list(whole.columns)
    both = pd.concat(parts).sort_values(columns, ignore_index=True)
    pd.testing.assert_frame_equal(both, whole.sort_values(columns, ignore_index=True))


def test_a_refused_run_is_failed_and_says_why(store: Store) -> None:
    outcome = store.mlflow_run(EXAMPLE, "promote", {"model_uri": "models:/nobody/1"})
    assert outcome.code != 0
    assert "'--model_uri': 'models:/nobody/1' is not in the registry: " in outcome.error
    assert "Traceback" not in outcome.output
    assert outcome.run.info.status == "FAILED"
    assert outcome.run.data.tags["mlflow.note.content"] == outcome.run.data.tags["error"] == outcome.error
