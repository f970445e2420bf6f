"""A `python` and an `mlflow` that start at once: they fork a process that has imported what every example imports.

`mlflow run --env-manager local` starts the first `python` on the path. The one of `forks()` is a fork, with the
script, arguments, folder and environment of the command, and without the seconds that its imports take. A signal to the
command does not reach the fork: tests of Ctrl-C start a real interpreter.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = ["mlflow.cli", "mlflow.projects", "mlflow.sklearn", "sklearn.compose", "sklearn.pipeline"]
IMPORTED += ["matplotlib.pyplot", "skops.io"]
# Imported later, when they are used.
IMPORTED += ["mlflow.store.tracking.sqlalchemy_store", "sqlalchemy.dialects.sqlite", "psycopg", "git", "databricks.sdk"]
IMPORTED += ["mlflow.models.evaluation.evaluator_registry", "pyspark.ml.linalg", "mlflow.server.auth.client", "optuna"]
IMPORTED += ["keras", "mlflow.tensorflow", "kneed", "mlflow.store.model_registry.sqlalchemy_store"]

# Hands a command line, its folder, environment and open files to the server, and ends as the fork does.
CLIENT = """#!{python} -ISs
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([[os.path.basename(sys.argv[0]), *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
os._exit(server.recv(1)[0])
"""

PYTHON = sys.executable
# Variables of Python that a fork need not be started anew for.
HARMLESS = {"PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
IN_A_JOB = Path(__file__).parent / "programs" / "bwrap.py"


@cache
def forks() -> str:
    """A folder for the front of PATH, whose `python` and `mlflow` are forks, for as long as this process lives.

    Of the process that all workers of xdist share, where conftest.py has started one.
    """
    if shared := os.environ.get("FORKS"):
        return shared
    folder = Path(tempfile.mkdtemp(prefix="forks"))
    for program in ("python", "mlflow"):
        (folder / program).write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
        (folder / program).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_"))}
    # Read when they are imported: see classification/ann.py and classifiers.py.
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_WAIT_POLICY": "passive"}
    environment |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    if not os.geteuid():  # who is not root may not enter what bubblewrap makes: the jobs start real programs then
        (folder / "bwrap").write_text(f"#!{sys.executable} -ISs\n{IN_A_JOB.read_text()}")
        (folder / "bwrap").chmod(0o755)
    command = [sys.executable, __file__, str(folder)]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    return str(folder)


def serve(folder: str) -> None:
    """Fork for each command line that comes in, until the process that started this one ends."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{folder}/socket")
    listening.listen()
    print("ready", flush=True)
    select.select([listening, sys.stdin], [], [])  # nothing is imported for tests that start no program
    for name in IMPORTED:
        importlib.import_module(name)
    requirements_utils: Any = importlib.import_module("mlflow.utils.requirements_utils")
    requirements_utils._run_command = partial(infer, requirements_utils._run_command, "python")
    requirements_utils._init_modules_to_packages_map()  # which takes each program that logs a model half a second
    gc.freeze()  # or each fork would look for garbage, at its end above all, in all that was imported: 1.2 s
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks of this process
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()
            answer(connection)
        connection.close()
    shutil.rmtree(folder)


def infer(run: Callable[..., Any], python: str, command: list[str], **how: Any) -> Any:
    """MLflow infers what a model requires in a process that loads it: that is a fork as well.

    It then finds fewer packages, for most are imported already.
    """
    return run([python, *command[1:]], **how)


def answer(connection: socket.socket) -> None:
    """Run one command line in a fork, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    in_a_job = enter(connection)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += connection.recv(1 << 16)
    child = os.fork()
    if not child:
        arguments, folder, environment = json.loads(asked)
        if in_a_job or arguments[:2] == ["mlflow", "server"]:  # what it starts is a fork as well
            sys.executable = str(Path(connection.getsockname()).with_name("python"))
        connection.close()
        to_the_end(partial(start, arguments, folder, environment, files))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):  # the client has ended with the job that it was of
        connection.sendall(bytes([code % 256]))
    os._exit(0)


def enter(connection: socket.socket) -> bool:
    """Have the next fork see the files and processes of a job, where the command that asks for it is one of a job."""
    process = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    seen, own = (Path(f"/proc/{each}/ns") for each in (process, "self"))
    others = [seen / kind for kind in ("mnt", "pid") if (seen / kind).readlink() != (own / kind).readlink()]
    for namespace in [os.open(each, os.O_RDONLY) for each in others]:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(namespace)
    return bool(others)


def to_the_end(program: Callable[[], object]) -> NoReturn:
    """Run a program and end as Python does, but do not take apart all that was imported first: that takes 0.2 s."""
    code: object = None
    try:
        program()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    # What Python does then, under names that are its own: it waits for threads, and calls what is registered.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(int(code or 0) % 256)


def start(command: list[str], folder: str, environment: dict[str, str], files: list[int]) -> None:
    """Become the program that the command line asks for."""
    for number, opened in enumerate(files):
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout.reconfigure(line_buffering="PYTHONUNBUFFERED" in environment)  # type: ignore[union-attr]
    os.chdir(folder)
    changed = {name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name)}
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of this environment
    importlib.import_module("numpy").random.seed()  # or what sets no seed would be the same in every fork
    program, *arguments = command
    if program == "mlflow":
        sys.argv[:] = command
        importlib.import_module("mlflow.cli").cli(arguments, prog_name=program)
    if arguments[:2] == ["-m", "uvicorn"]:  # by which `mlflow server` serves
        importlib.import_module("uvicorn.main").main(arguments[2:], prog_name="uvicorn")
    changed = {name for name in changed if name.startswith("PYTHON")} - HARMLESS
    if changed or not (arguments and arguments[0].endswith(".py")):
        os.execv(PYTHON, [PYTHON, *arguments])
    sys.argv[:] = arguments
    path = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:1] = [str(Path(arguments[0]).resolve().parent), *path]  # what is imported already is not looked for there
    if path or "DATABRICKS_RUNTIME_VERSION" in environment:  # other packages are there
        sys.modules["mlflow.utils.requirements_utils"]._MODULES_TO_PACKAGES = None  # type: ignore[attr-defined]
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
