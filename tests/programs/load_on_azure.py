"""Sends requests from four threads until the file `stop` appears, and prints what became of them.

The file `enough` appears with the 600th, once version 3 has answered. What is answered with 503 is sent again, as a
client of Azure does.
"""

import collections
import json
import pathlib
import sys
import threading
import time

import requests

uri, key = sys.argv[1:3]
enough, stop = map(pathlib.Path, sys.argv[3:])
body = {"input_data": [[0.5, 1.0, 1.5], [1.5, 2.0, 2.5], [2.5, 3.0, 3.5]]}
counts: collections.Counter[str] = collections.Counter()


def send() -> None:
    """One client."""
    with requests.Session() as session:
        while not stop.exists():
            counts["sent"] += 1
            try:
                answer = session.post(uri, json=body, headers={"Authorization": "Bearer " + key}, timeout=900)
                while answer.status_code == 503:  # the container is being started again
                    counts["sent again"] += 1
                    time.sleep(0.25)
                    answer = session.post(uri, json=body, headers={"Authorization": "Bearer " + key}, timeout=900)
                said = answer.json()
                whole = answer.ok and len(said) == 3 and len(set(said)) == 1
                counts[f"version {said[0]:.0f}" if whole else f"lost: {answer.status_code} {said}"] += 1
            except Exception as error:
                counts[f"lost: {error!r}"] += 1
            if counts["sent"] >= 600 and counts["version 3"]:
                enough.touch()
            time.sleep(0.1)  # the containers that start meanwhile need the processor too


threads = [threading.Thread(target=send) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
