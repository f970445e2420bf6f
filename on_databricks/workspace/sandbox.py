"""A job's private view of the machine, made by bubblewrap: its own /databricks and /tmp, the workspace's /dbfs.

The rest of the machine is there to be read: the Python that serves stands for the cluster's runtime.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

PROGRAM = "bwrap"
CACHE = Path.home() / ".cache"
BIN = Path(__file__).resolve().parent / "bin"  # an rsync for MLflow's own backend
OWN = ("dbfs", "databricks", "Volumes", "Workspace", "tmp", "proc", "dev")
# What a job inherits: the way to the outside, and where packages come from.
INHERITED = (
    *("HOME", "USER", "LANG", "LC_ALL", "JAVA_HOME", "PYENV_ROOT", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENV_ROOT"),
    *("SSL_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_", "UV_", "CONDA_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)


def check() -> None:
    """Raise click.ClickException where a private view cannot be made."""
    if not shutil.which(PROGRAM):
        raise click.ClickException("bwrap is missing: a job runs in a private view that it makes. Install bubblewrap.")
    tried = subprocess.run([*alone(), "true"], capture_output=True, text=True)
    if tried.returncode:
        reason = " ".join(tried.stderr.split())
        raise click.ClickException(f"bwrap cannot make a private view on this machine: {reason}")


def alone() -> list[str]:
    """The beginning of a command whose processes all end with it, and with this process, whatever they do."""
    return [PROGRAM, "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"]


def command(folder: Path, private: Path) -> list[str]:
    """The beginning of a command that sees a job's view.

    folder: the workspace's; holds dbfs/, volumes/ and workspace/.
    private: the job's own; its /databricks and /tmp are made here.
    """
    words = [PROGRAM, "--unshare-pid", "--proc", "/proc", "--dev-bind", "/dev", "/dev", "--die-with-parent"]
    for path in sorted(Path("/").iterdir()):
        if path.name in OWN:
            continue
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        else:
            words += ["--ro-bind", str(path), str(path)]
    for cache in (CACHE, Path.home() / ".mlflow"):  # where uv, pip and MLflow keep environments
        cache.mkdir(parents=True, exist_ok=True)
        words += ["--bind", str(cache), str(cache)]
    for name in ("databricks", "tmp"):
        (private / name).mkdir(parents=True, exist_ok=True)
        words += ["--bind", str(private / name), f"/{name}"]
    for inside, outside in (("dbfs", "dbfs"), ("Volumes", "volumes"), ("Workspace", "workspace")):
        words += ["--bind", str(folder / outside), f"/{inside}"]
    for place in {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parent}:
        if place.parts[1] == "tmp":  # hidden by the job's own /tmp otherwise
            words += ["--ro-bind", str(place), str(place)]
    return [*words, "--chdir", "/databricks"]


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The variables of a job: few of this process's, then `extra`."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    places = [Path(sys.prefix) / "bin", os.environ["PATH"], Path(sys.base_prefix) / "bin", BIN]
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    return {
        **kept,
        "PATH": os.pathsep.join(map(str, places)),
        "TMPDIR": "/tmp",
        "DB_HOME": "/databricks",
        "MPLCONFIGDIR": str(CACHE / "matplotlib"),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",  # the log is read while it is written
        **extra,
    }
