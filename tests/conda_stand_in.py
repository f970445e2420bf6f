"""Gives a test a conda that works: a local channel and a `conda` command, where conda itself cannot be installed.

    home = install_conda(tmp_path / "conda", make_channel(tmp_path))
    environment = {**os.environ, "MLFLOW_CONDA_HOME": str(home)}

`mlflow run`, given that environment and no `--env-manager`, then creates, reuses and activates conda environments as it
always does. What is real: the solver and the linker (rattler's, which pixi uses too), the environment and what its pip
section installs. What is not: the channel holds two packages only, this machine's Python and its pip, and uv does the
work of pip.
"""

from __future__ import annotations

import bz2
import ensurepip
import hashlib
import io
import json
import platform
import shlex
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

_EXECUTABLE = Path(__file__).with_name("conda_stand_in_executable.py")

_PLATFORM_NAMES = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}


def make_channel(folder: Path) -> Path:
    """Build a conda channel with a `python` and a `pip` package.

    `python` is the running interpreter (not its virtual environment), in its exact version, as a symbolic link: the
    environment has its own `sys.prefix` and packages and borrows the standard library. `pip` is the one that Python
    bundles.

    Args:
        folder: Where the channel is made. It need not exist.

    Returns:
        The channel, a folder named `conda-forge`, so that an unchanged conda.yaml finds it.

    Raises:
        FileExistsError: The folder already holds a channel.
        FileNotFoundError: The interpreter or its bundled pip is not where Python says it is.
        RuntimeError: Conda's name for this platform is not known here.
    """
    machine = (sys.platform, platform.machine())
    if machine not in _PLATFORM_NAMES:
        raise RuntimeError(f"no conda platform is known for {machine}; known are {sorted(_PLATFORM_NAMES)}")
    channel = folder / "conda-forge"
    channel.mkdir(parents=True)
    _write_python(channel / _PLATFORM_NAMES[machine])
    _write_pip(channel / "noarch")
    return channel


def install_conda(folder: Path, channel: Path) -> Path:
    """Write a `conda` command and its shell activation, which create environments from one local channel.

    Args:
        folder: Where to install; its environments come to lie in `envs` below it. No spaces: MLflow does not quote it.
        channel: What `make_channel` returned.

    Returns:
        The folder as an absolute path: the value for MLFLOW_CONDA_HOME.
    """
    home = folder.absolute()
    conda = home / "bin" / "conda"
    activation = home / "etc" / "profile.d" / "conda.sh"
    for file in (conda, activation):
        file.parent.mkdir(parents=True, exist_ok=True)
    # -I: the caller's PYTHONPATH is meant for the project, not for conda.
    command = shlex.join([sys.executable, "-I", str(_EXECUTABLE), str(home), str(channel.absolute())])
    conda.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    conda.chmod(0o755)
    activation.write_text(
        f"""conda() {{
    if [ "$1" = activate ]; then
        _conda_script="$({shlex.quote(str(conda))} shell.posix activate "$2")" || return
        eval "$_conda_script"
    else
        {shlex.quote(str(conda))} "$@"
    fi
}}
""",
        encoding="utf-8",
    )
    return home


def _write_python(folder: Path) -> None:
    """Write the package of the running interpreter, and the folder's index."""
    short = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = platform.python_version()
    interpreter = Path(sys.base_prefix, "bin", f"python{short}")
    if not interpreter.is_file():
        raise FileNotFoundError(f"the interpreter is not at {interpreter}")
    settings = f"home = {interpreter.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    _write_package(
        folder,
        {"name": "python", "version": version, "build": "0_cpython", "depends": []},
        files={"pyvenv.cfg": settings.encode()},
        links={"bin/python": str(interpreter), "bin/python3": "python", f"bin/python{short}": "python"},
    )


def _write_pip(folder: Path) -> None:
    """Write the package of the pip that Python bundles, and the folder's index."""
    # Linux distributions unbundle the wheels and say where they put them.
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "")]
    wheels = [wheel for place in folders for wheel in sorted(place.glob("pip-*.whl"))]
    if not wheels:
        raise FileNotFoundError(f"no bundled pip wheel in {folders}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        files = {f"site-packages/{name}": wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    scripts = [f"{name} = pip._internal.cli.main:main" for name in ("pip", "pip3")]
    link = {"noarch": {"type": "python", "entry_points": scripts}, "package_metadata_version": 1}
    _write_package(
        folder,
        {
            "name": "pip",
            "version": wheels[0].name.split("-")[1],
            "build": "py_0",
            "depends": ["python >=3"],
            "noarch": "python",
        },
        files=files | {"info/link.json": json.dumps(link).encode()},
        links={},
    )


def _write_package(folder: Path, record: dict[str, Any], files: dict[str, bytes], links: dict[str, str]) -> None:
    """Write one .tar.bz2 package, and the index of a channel's folder that holds it alone."""
    record = record | {"build_number": 0, "subdir": folder.name}
    paths: list[dict[str, Any]] = [
        {"_path": name, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        for name, data in files.items()
        if not name.startswith("info/")
    ]
    paths += [{"_path": name, "path_type": "softlink"} for name in links]
    files = files | {
        "info/index.json": json.dumps(record).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    package = bz2.compress(buffer.getvalue(), compresslevel=1)
    file_name = f"{record['name']}-{record['version']}-{record['build']}.tar.bz2"
    entry_in_index = record | {
        "md5": hashlib.md5(package, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(package).hexdigest(),
        "size": len(package),
    }
    index = {"info": {"subdir": folder.name}, "packages": {file_name: entry_in_index}, "packages.conda": {}}
    folder.mkdir()
    (folder / file_name).write_bytes(package)
    (folder / "repodata.json").write_text(json.dumps(index), encoding="utf-8")
