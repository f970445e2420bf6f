"""A `python` that starts at once: it forks a process that has imported what the entry points of every example import.

`mlflow run --env-manager local` starts the first `python` on the path. The one that `fork_server` makes is a fork, with
the script, arguments, folder and environment of the command, and without the seconds that its imports take. A signal to
the command does not reach the fork: tests of Ctrl-C start a real interpreter.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMPORTED = ("mlflow.sklearn", "mlflow.projects", "sklearn.pipeline", "sklearn.compose", "matplotlib.pyplot", "skops.io")

# Hands a command line, its folder, environment and open files to the server, and ends as the fork does.
CLIENT = """#!{python} -ISs
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
os._exit(server.recv(1)[0])
"""


@contextmanager
def fork_server() -> Iterator[Path]:
    """A folder for the front of PATH, whose `python` is a fork; the server ends with the block."""
    with tempfile.TemporaryDirectory(prefix="fork") as name:
        folder = Path(name)
        client = folder / "python"
        client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")))
        client.chmod(0o755)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST_"))}
        environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
        command = [sys.executable, __file__, str(folder / "socket")]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        try:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield folder
        finally:
            server.terminate()
            server.wait()


def serve(address: str) -> None:
    """Fork for each command line that comes in, until the process is ended."""
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks of this process
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()
            answer(connection)
        connection.close()


def answer(connection: socket.socket) -> None:
    """Run one command line in a fork, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += connection.recv(1 << 16)
    child = os.fork()
    if not child:
        connection.close()
        start(*json.loads(asked), files)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(bytes([code % 256]))
    os._exit(0)


def start(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> None:
    """Become the interpreter that the command line asks for."""
    for number, opened in enumerate(files):
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of this environment
    if not arguments or not arguments[0].endswith(".py"):
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.argv[:] = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
