"""Runs scripts of the example in the working directory, one after another, in this process.

Its input is a JSON list: [[module, name of its command, [argument, ...]], ...]. Its last line is another, of
[exit code, what was printed].
"""

import contextlib
import importlib
import io
import json
import os
import sys

sys.path[0] = os.getcwd()  # as for the scripts of the example


def main() -> None:
    entry_point = importlib.import_module("support.entry_point")
    found = []
    for module, name, arguments in json.load(sys.stdin):
        command = getattr(importlib.import_module(module), name)
        sys.argv = [f"{module}.py", *arguments]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                entry_point.run_command(command)
            except SystemExit as end:
                found.append([end.code, printed.getvalue()])
    print(json.dumps(found))


if __name__ == "__main__":  # workers that a script spawns read this file again
    main()
