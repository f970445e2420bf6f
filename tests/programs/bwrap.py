"""bwrap, for a local workspace in the tests: its server and, in the view of a job, `python` and `mlflow` are forks.

fork_server.py has more about them. This file stands in the folder of theirs, under the name bwrap.
"""

import os
import shutil
import sys

forks, path, words = os.path.dirname(sys.argv[0]), os.environ["PATH"], sys.argv[1:]
real = shutil.which("bwrap", path=path.replace(f"{forks}{os.pathsep}", ""))
if "--chdir" in words:  # after all that it mounts
    place = words.index("--chdir")
    words[place:place] = ["--ro-bind", forks, forks, "--setenv", "PATH", f"{forks}{os.pathsep}{path}"]
elif "mlflow" in words:  # python -m mlflow server
    place = words.index("mlflow")
    words[place - 2 : place + 1] = [f"{forks}/mlflow"]
os.execv(str(real), ["bwrap", *words])
