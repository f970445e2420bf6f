"""Imports the client of `mlflow run` once and forks it for each line of its input, a JSON list.

[[argument, ...], folder, environment, file for what it prints, seconds after which it is killed]
"""

import json
import os
import signal
import sys
import tempfile

from mlflow.cli import cli

for line in sys.stdin:
    arguments, folder, environment, printed, timeout = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(timeout)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # that of this environment
        file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, opened in enumerate([os.open(os.devnull, os.O_RDONLY), file, file]):
            os.dup2(opened, number)
        cli(arguments, prog_name="mlflow")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
