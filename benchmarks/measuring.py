"""What every piece of the report measures with: processes, what they cost, and the machine it was on."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlflow import MlflowClient

COLLECTION = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
PACKAGES = ("mlflow", "scikit-learn", "pandas", "numpy", "keras", "optuna", "pyspark", "onnxruntime")


@dataclass(frozen=True)
class Used:
    """What a finished process cost, its children included.

    seconds: by the clock.
    cpu: processor seconds, user and system.
    peak: memory of its largest process, MB.
    output: what it printed.
    """

    seconds: float
    cpu: float
    peak: float
    output: str


def run(command: list[str], environment: dict[str, str], folder: Path, *, may_fail: bool = False) -> Used | None:
    """Run a command to its end. A command that fails ends the benchmark, or gives None where it may fail."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        printed.seek(0)
        output = printed.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and may_fail:
        return None
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{output}")
    return Used(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output)


def in_a_process(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own: what is started later has at least the peak memory of this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


def must(command: list[str], environment: dict[str, str], folder: Path) -> Used:
    """`run` of a command that must not fail."""
    used = run(command, environment, folder)
    assert used
    return used


@cache
def installed(example: str) -> Path:
    """The programs of an environment with the requirements of an example and nothing else, as its users have it.

    This one has twice the packages, and MLflow looks through all that are installed.
    """
    environment = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, environment, ignore_errors=True)
    programs = environment / "bin"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
    install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(programs / "python")]
    subprocess.run([*uv, *install, "-r", str(COLLECTION / example / "requirements.txt")], check=True)
    return programs


def surroundings(folder: Path, programs: Path | None = None) -> tuple[dict[str, str], MlflowClient]:
    """A tracking store in a folder, made now so that nobody pays for it: the environment that uses it, and a client.

    programs: where the environment finds `mlflow` and `python`; by default beside the Python that runs this.
    """
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_EXPERIMENT_ID"}
    environment = {**kept, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = f"{programs or Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with chdir(folder):  # where a new store puts its artifacts
        client = MlflowClient(uri, uri)
        client.search_experiments()
    return environment, client


def mlflow_run(example: str, entry_point: str = "main", env_manager: str = "local", **parameters: object) -> list[str]:
    """The command `mlflow run EXAMPLE -e ENTRY_POINT -P NAME=VALUE ...`."""
    begin = ["mlflow", "run", str(COLLECTION / example), "--env-manager", env_manager]
    return [*begin, "-e", entry_point, *(f"-P{name}={value}" for name, value in parameters.items())]


def announced(used: Used) -> str:
    """The id of the run that `mlflow run` has announced."""
    found = re.search(r"in run with ID '(\w+)'", used.output)
    assert found, used.output
    return found[1]


def spread(values: list[float], digits: int = 2) -> str:
    """The median with the least and the greatest: `2.10 (2.05 to 2.31)`."""
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else middle


def commit() -> str:
    """The commit that is measured."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=COLLECTION, capture_output=True, text=True).stdout.strip() or "no commit"


def machine() -> dict[str, str]:
    """The machine and the versions that figures belong to."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB",
        "Python": platform.python_version(),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
