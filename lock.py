"""Resolve pyproject.toml into requirements.txt, here and in each example: `make lock` (newer versions: `make upgrade`).

The top-level file pins everything that any example or the development needs, for Linux, macOS and Windows. The file of
an example, and that of the tour, holds only what it needs, at the same versions. Its digest goes into the conda.yaml
beside it, because MLflow names a conda environment after the text of conda.yaml alone: otherwise new pins would find
the old one.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
DIGEST = "# requirements.txt: "


def compile_requirements(output: str, groups: list[str], *arguments: str) -> None:
    """Resolve dependency groups of pyproject.toml into a requirements file; the pins that it has are kept."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--no-emit-index-url"]
    command += ["--custom-compile-command", "make lock", "--output-file", output, *arguments]
    for group in groups:
        command += ["--group", group]
    subprocess.run(command, cwd=FOLDER, check=True)


def files() -> dict[str, list[str]]:
    """Each requirements file, and the groups of pyproject.toml that it holds; the first is the resolution of all."""
    groups = list(tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"])
    found = {"requirements.txt": groups, "requirements-tour.txt": ["tour"]}
    for example in [group for group in groups if (FOLDER / group).is_dir()]:
        found[f"{example}/requirements.txt"] = [example]
        for group in groups:  # classification_spark: what only classification on Spark needs
            if group.startswith(f"{example}_"):
                found[f"{example}/requirements-{group.removeprefix(f'{example}_')}.txt"] = [example, group]
    return found


def digests() -> dict[Path, Path]:
    """Each conda.yaml, and the requirements file whose digest it carries."""
    found = {path: path.with_name("requirements.txt") for path in FOLDER.glob("*/conda.yaml")}
    return {**found, FOLDER / "conda.yaml": FOLDER / "requirements-tour.txt"}


def with_digest(conda: Path, requirements: Path) -> str:
    """The text of a conda.yaml with the digest of its requirements file as the last line."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    return re.sub(f"{DIGEST}.*\n", "", conda.read_text(encoding="utf-8")) + f"{DIGEST}{digest}\n"


def lock(*arguments: str) -> None:
    """Regenerate every requirements file; `--upgrade` among the arguments takes newer versions."""
    (first, groups), *others = files().items()
    compile_requirements(first, groups, *arguments)
    for output, narrower in others:
        compile_requirements(output, narrower, "--constraint", first, "--no-annotate")
    for conda, requirements in digests().items():
        conda.write_text(with_digest(conda, requirements), encoding="utf-8")


if __name__ == "__main__":
    lock(*sys.argv[1:])
