"""Answers, in conda's place, the commands that MLflow gives to conda; conda_stand_in.py installs it.

Its first two arguments, which the installed `conda` puts there, are conda's home and the local channel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from rattler import Channel, ChannelConfig, Gateway, MatchSpec, install, solve
from rattler.exceptions import GatewayError, InvalidMatchSpecError, SolverError
from rattler.shell import ActivationVariables, PathModificationBehavior, Shell, activate
from uv import find_uv_bin


class CondaError(Exception):
    """What the user asked for cannot be done; the message says why."""


def list_environments(home: Path) -> None:
    """Print the paths of all environments, as `conda env list --json` does."""
    print(json.dumps({"envs": [str(meta.parent) for meta in sorted((home / "envs").glob("*/conda-meta"))]}))


def create_environment(home: Path, channel: Path, name: str, file: Path) -> None:
    """Create an environment from a conda.yaml: first its conda packages, then its pip section.

    When the pip section fails, the environment stays with its conda packages, as with conda.

    Raises:
        CondaError: The environment exists, its dependencies cannot be satisfied, or the pip section failed.
    """
    prefix = home / "envs" / name
    if prefix.exists():
        raise CondaError(f"prefix already exists: {prefix}")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    # A channel's name means a folder beside the local one, so any other channel is missing and says so.
    beside = ChannelConfig(channel_alias=f"{channel.parent.as_uri()}/")
    channels = [Channel(name, beside) for name in content.get("channels", ["defaults"]) if name != "nodefaults"]
    try:
        specs = [MatchSpec(line) for line in content["dependencies"] if isinstance(line, str)]
        asyncio.run(_solve_and_link(prefix, channels, specs, cache=home / "pkgs"))
    except (GatewayError, InvalidMatchSpecError, SolverError) as error:
        raise CondaError(str(error)) from None
    pip_lines = [line for part in content["dependencies"] if isinstance(part, dict) for line in part["pip"]]
    if pip_lines:
        _install_pip_section(prefix, file, pip_lines)


def print_activation(home: Path, name: str) -> None:
    """Print what a shell must evaluate to enter an environment, as `conda shell.posix activate` does.

    Raises:
        CondaError: There is no such environment.
    """
    active = os.environ.get("CONDA_PREFIX")
    variables = ActivationVariables(
        current_prefix=Path(active) if active else None,
        path_modification_behavior=PathModificationBehavior.Replace,
    )
    print(activate(_existing(home, name), variables, Shell.bash).script)


def main() -> int:
    """Do what the command line asks and return the exit code; complain about the user's mistakes on stderr."""
    parser = argparse.ArgumentParser(prog="conda", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("channel", type=Path)
    commands = parser.add_subparsers(required=True)

    env_commands = commands.add_parser("env").add_subparsers(required=True)
    listing = env_commands.add_parser("list")
    listing.add_argument("--json", action="store_true", required=True)
    listing.set_defaults(do=lambda options: list_environments(options.home))
    create = env_commands.add_parser("create")
    create.add_argument("-n", dest="name", required=True)
    create.add_argument("--file", type=Path, required=True)
    create.set_defaults(
        do=lambda options: create_environment(options.home, options.channel, options.name, options.file.absolute())
    )

    activation = commands.add_parser("shell.posix").add_subparsers(required=True).add_parser("activate")
    activation.add_argument("name")
    activation.set_defaults(do=lambda options: print_activation(options.home, options.name))

    options = parser.parse_args()
    try:
        options.do(options)
    except CondaError as error:
        print(f"conda: error: {error}", file=sys.stderr)
        return 1
    return 0


def _existing(home: Path, name: str) -> Path:
    prefix = home / "envs" / name
    if not prefix.is_dir():
        raise CondaError(f"could not find the environment {name}")
    return prefix


async def _solve_and_link(prefix: Path, channels: list[Channel], specs: list[MatchSpec], cache: Path) -> None:
    records = await solve(channels, specs, gateway=Gateway(cache_dir=cache))
    await install(records, prefix, cache_dir=cache, show_progress=False)


def _install_pip_section(prefix: Path, file: Path, lines: list[str]) -> None:
    # Like conda: in a file beside conda.yaml, so that `-r requirements.txt` and `./a.whl` mean the neighbours.
    with tempfile.NamedTemporaryFile(
        "w", prefix="condaenv.", suffix=".requirements.txt", dir=file.parent, encoding="utf-8"
    ) as requirements:
        requirements.write("\n".join(lines) + "\n")
        requirements.flush()
        # uv, not pip: the 116 packages of one example took it 15 s, and pip 65 s. The flags keep to pip's ways: compile
        # what is installed if not told otherwise, and heed no pyproject.toml around the project.
        command = [find_uv_bin(), "pip", "install", "--no-config"]
        command += [] if os.environ.get("PIP_NO_COMPILE") else ["--compile-bytecode"]
        command += ["--python", str(prefix / "bin" / "python"), "--requirement", requirements.name]
        if subprocess.run(command, cwd=file.parent, check=False).returncode:
            raise CondaError("the pip section could not be installed")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # A thread of rattler's that still runs can crash a Python that shuts down (pyo3-async-runtimes, issue 40).
    os._exit(status)
