"""What the tests of stage.py and submit.py share: a small project, a cluster, and submit.py as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import COLLECTION

SUBMIT = COLLECTION / "on_databricks" / "submit.py"
RUNTIME = "17.3.x-cpu-ml-scala2.13"
CLUSTER: dict[str, Any] = {"spark_version": RUNTIME, "node_type_id": "Standard_DS3_v2", "num_workers": 0}

MLPROJECT = """
name: small
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      said: {type: string, default: "two  words, 'one' \\"quoted\\""}
      nothing: {type: string, default: ""}
      letter: {type: float, default: 1.0e-9}
    command: python say.py --said {said} --nothing {nothing} --letter {letter}
  needs:
    parameters: {value: string}
    command: python say.py {value}
  fails:
    command: python nested/fail.py
  refuses:
    command: python refuse.py
  waits:
    command: python wait.py
"""
# It does what a pasted script cannot: a future import, a sibling import, and its own place.
SAY = """
from __future__ import annotations
import sys
from pathlib import Path
import mlflow
from sibling import note
with mlflow.start_run():
    note(sys.argv[1:])
    mlflow.log_text(Path(__file__).name, "file.txt")
print("SAID", sys.argv[1:])
"""
FAIL = """
import mlflow
mlflow.start_run()
mlflow.MlflowClient().create_run(mlflow.active_run().info.experiment_id, tags={
    "mlflow.parentRunId": mlflow.active_run().info.run_id})
raise ValueError("this is how it failed")
"""
FILES = {
    "MLproject": MLPROJECT,
    "python_env.yaml": "python: '3.11'\n",
    "say.py": SAY,
    "sibling.py": "import mlflow\ndef note(words): mlflow.log_metric('words', len(words))\n",
    "nested/fail.py": FAIL,
    "refuse.py": "import sys\nprint('Error: nothing to do')\nsys.exit(2)\n",
    "wait.py": "import time\nprint('WAITING', flush=True)\ntime.sleep(300)\n",
    ".gitignore": "*.secret\n",
    "password.secret": "hunter2\n",
    "mlflow.db": "",
    "mlruns/0/meta.yaml": "",
    "__pycache__/say.cpython-311.pyc": "",
}


def write_project(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """A small project with files that do not belong to it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_json(path: Path, said: Any) -> Path:
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Submitted:
    """How a call of submit.py ended."""

    code: int
    output: str

    @property
    def error(self) -> str:
        """The one line that begins with "Error:"; the job's own log is not asked for one."""
        lines = [line for line in self.output.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.output
        assert "Traceback" not in self.output, self.output
        return lines[0].removeprefix("Error: ")


# Answers each line, [arguments, environment], as a process of its own would: starting one costs seconds.
CALLS = f"""
import contextlib, io, json, os, sys
sys.path.insert(0, {str(SUBMIT.parent)!r})
import submit
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    arguments, environment = json.loads(line)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["submit.py", *arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            submit.run_command(submit.main)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, printed.getvalue()]), file=answers, flush=True)
"""


class Submitter:
    """submit.py, called again and again in one process of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CALLS],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, *arguments: object, environment: Mapping[str, str]) -> Submitted:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([[str(each) for each in arguments], dict(environment)]), file=self._process.stdin, flush=True)
        return Submitted(*json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate()


def start(*arguments: object, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    """submit.py as a process of its own, whose output is read while it runs."""
    return subprocess.Popen(
        [sys.executable, str(SUBMIT), *map(str, arguments)],
        env=dict(environment),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
