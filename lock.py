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


def write_digest(requirements: Path, conda: Path) -> None:
    """Write the digest of a requirements file into the last line of a conda.yaml."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    text = re.sub(f"{DIGEST}.*\n", "", conda.read_text(encoding="utf-8"))
    conda.write_text(f"{text}{DIGEST}{digest}\n", encoding="utf-8")


def lock(*arguments: str) -> None:
    """Regenerate every requirements file; `--upgrade` among the arguments takes newer versions."""
    groups = list(tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"])
    compile_requirements("requirements.txt", groups, *arguments)
    narrower = ("--constraint", "requirements.txt", "--no-annotate")
    for example in [group for group in groups if (FOLDER / group).is_dir()]:
        compile_requirements(f"{example}/requirements.txt", [example], *narrower)
        if (FOLDER / example / "conda.yaml").exists():
            write_digest(FOLDER / example / "requirements.txt", FOLDER / example / "conda.yaml")
        for group in groups:  # classification_spark: what only classification on Spark needs
            if group.startswith(f"{example}_"):
                extra = group.removeprefix(f"{example}_")
                compile_requirements(f"{example}/requirements-{extra}.txt", [example, group], *narrower)
    compile_requirements("requirements-tour.txt", ["tour"], *narrower)
    write_digest(FOLDER / "requirements-tour.txt", FOLDER / "conda.yaml")


if __name__ == "__main__":
    lock(*sys.argv[1:])
