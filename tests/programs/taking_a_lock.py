"""Takes the lock of a registered model again and again, and prints when it had it."""

import importlib
import sys
import time

sys.path.insert(0, sys.argv[1])
versions = importlib.import_module("versions")
versions.LOCK_WAIT = 60
for _ in range(4):
    with versions.exclusive(sys.argv[2], "a test") as still_held:
        still_held()
        begin = time.time()
        time.sleep(0.05)
        print(begin, time.time(), flush=True)
