"""Defaults that agree: of the MLproject file and the scripts, and of the gate's rules and its command."""

from __future__ import annotations

from typing import Any

import click
import yaml
from examples import COLLECTION, module

NAMES = ("deploy", "dossier", "export_onnx", "promote", "register", "registry", "story")
deploy, dossier, export_onnx, promote, register, registry, story = (module("registry_deploy", name) for name in NAMES)
COMMANDS: dict[str, click.Command] = {
    "main": story.story,
    "register": register.register,
    "promote": promote.promote,
    "dossier": dossier.dossier,
    "export_onnx": export_onnx.export_onnx,
    **registry.registry.commands,
    **deploy.deployment.commands,
}


def defaults(command: click.Command) -> dict[str | None, Any]:
    """Those of the options that need not be given."""
    return {option.name: option.default for option in command.params if not option.required}


def test_mlproject_and_scripts_have_the_same_defaults() -> None:
    text = (COLLECTION / "registry_deploy" / "MLproject").read_text(encoding="utf-8")
    entry_points = yaml.safe_load(text)["entry_points"]
    assert set(entry_points) == set(COMMANDS)
    for name, entry_point in entry_points.items():
        declared = {key: value["default"] for key, value in entry_point["parameters"].items() if "default" in value}
        assert declared == defaults(COMMANDS[name]), name


def test_the_rules_of_the_gate_have_the_defaults_of_the_command() -> None:
    assert vars(promote.Rules()).items() <= defaults(promote.promote).items()
