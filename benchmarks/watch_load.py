"""Is a request lost while a deployed model is watched? `python benchmarks/watch_load.py` (about three minutes).

One client sends a row at a time to a recorded deployment, 2,000 at least, while drift is looked for, the model is
retrained, the new one gets a share of the requests, and is rolled back, as the labels of its answers are turned round.
Then the recorder is killed under load, and then its disk takes no more. Ends with exit code 1 where a request was lost,
or where a recorded row is not what was sent and answered.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "watch"))
import story
from conclude import conclude_canary
from year import TARGET, changed

NAME, REQUESTS, MORE, PAUSE = "load", 2000, 300, 0.04  # s between two requests


class Client:
    """Sends rows one at a time and keeps what was sent and answered, by request id.

    lost: the requests without an answer of 200.
    """

    def __init__(self, url: str, rows: pd.DataFrame) -> None:
        self.url, self.rows = url, rows
        self.sent: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, tuple[Any, str]] = {}
        self.truths: dict[str, str] = {}
        self.lost: list[str] = []

    def send(self, session: requests.Session, identifier: str) -> None:
        """Send the next row."""
        row = self.rows.iloc[len(self.sent) % len(self.rows)]
        self.sent[identifier] = {name: None if pd.isna(value) else value for name, value in row.drop(TARGET).items()}
        self.truths[identifier] = row[TARGET]
        try:
            body = {"dataframe_records": [self.sent[identifier]]}
            reply = session.post(self.url, json=body, headers={"x-request-id": identifier}, timeout=120)
            reply.raise_for_status()
            self.answers[identifier] = (reply.json()["predictions"][0], reply.headers["x-mlflow-model-version"])
        except (requests.RequestException, ValueError, LookupError) as error:
            self.lost.append(f"{identifier}: {error}")

    @contextmanager
    def sending(self, least: int, prefix: str) -> Iterator[None]:
        """Send while the block runs, and so many requests at least."""
        done = threading.Event()

        def work() -> None:
            with requests.Session() as session:
                while len([None for each in self.sent if each.startswith(prefix)]) < least or not done.is_set():
                    self.send(session, f"{prefix} {len(self.sent):05}")
                    time.sleep(PAUSE)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def write_labels(self, path: str, turned: str = "") -> None:
        """The true answers so far; turned: a version whose answers are all made wrong."""
        known = dict(self.answers)
        wrong = {
            identifier: "No" if said == "Yes" else "Yes" for identifier, (said, by) in known.items() if by == turned
        }
        truths = {identifier: wrong.get(identifier, self.truths[identifier]) for identifier in known}
        pd.DataFrame({"request_id": list(truths), "row": 0, TARGET: list(truths.values())}).to_csv(path, index=False)

    def compare(self, record: str, prefix: str) -> dict[str, Any]:
        """What is recorded, beside what was sent and answered."""
        requests.post(self.url.replace("invocations", "-/recording"), timeout=60)  # it writes what is waiting
        files = Path(record).rglob("*.parquet")
        found = pd.concat([pd.read_parquet(file, partitioning=None) for file in files], ignore_index=True)
        found = found[found["request_id"].str.startswith(prefix)]
        mine = [each for each in self.sent if each.startswith(prefix)]
        same = sum(
            json.loads(row["inputs"]) == self.sent[row["request_id"]]
            and (json.loads(row["output"]), row["version"]) == self.answers[row["request_id"]]
            for row in found.to_dict("records")
        )
        versions = Counter(self.answers[each][1] for each in mine if each in self.answers)
        return {
            "sent": len(mine),
            "answered": sum(versions.values()),
            "by_version": dict(versions),
            "recorded": len(found),
            "recorded_once": found["request_id"].nunique(),
            "equal": same,
        }


def recorder(folder: str) -> psutil.Process:
    """The process that records."""
    found = [each for each in psutil.process_iter(["cmdline"]) if "recorder.py" in " ".join(each.info["cmdline"] or [])]
    return next(each for each in found if folder in " ".join(each.info["cmdline"] or []))


def watched(world: story.World, client: Client) -> dict[str, str]:
    """Drift, retraining, canary and rollback, under load; what each came to."""
    settings, told = world.settings, {}
    with client.sending(REQUESTS, "watched"):
        while len(client.answers) < REQUESTS * 0.4:
            time.sleep(1)
        world.wait_for_the_recorder()
        client.write_labels(settings.labels)
        with mlflow.start_run(run_name="retrain", nested=True):
            told["retrain"] = ": ".join(story.retrain_champion(settings))
        enough = len(client.answers) + 400
        while len(client.answers) < enough:
            time.sleep(1)
        world.wait_for_the_recorder()
        client.write_labels(settings.labels, turned="2")
        with mlflow.start_run(run_name="conclude", nested=True):
            told["conclude"] = ": ".join(conclude_canary(SimpleNamespace(**vars(settings) | {"min_rows": 60})))
    champion = mlflow.MlflowClient().get_model_version_by_alias(NAME, story.CHAMPION)
    return told | {"champion": str(champion.version)}


def trial(folder: str) -> dict[str, Any]:
    """The whole trial, in an active run."""
    shared: dict[str, Any] = {"name": NAME, "endpoint": NAME, "directory": f"{folder}/endpoint", "window": 1.0}
    # That the gate lets the new model in is no question here: it may be a little worse.
    shared |= {"canary": 30, "margin": 0.05, "slice_margin": 0.1}
    shared |= {"record": f"{folder}/record", "labels": f"{folder}/labels.csv"}
    settings = story.settings_of(story.entry_point, **shared)
    world = story.World(settings, f"http://127.0.0.1:{story.free_port()}/invocations", settings.record, 0)
    client = Client(world.url, changed(world.rows[2800:], np.random.default_rng(0)).reset_index(drop=True))
    try:
        story.begin(world, "../classification")
        found: dict[str, Any] = {"told": watched(world, client), "watched": client.compare(settings.record, "watched")}
        for what in ("killed", "full"):
            with client.sending(MORE, what):
                time.sleep(3)
                process = recorder(folder)
                if what == "killed":
                    process.kill()
                else:
                    process.rlimit(psutil.RLIMIT_FSIZE, (10, 10))
            found[what] = client.compare(settings.record, what)
    finally:
        where = {"endpoint": NAME, "directory": settings.directory}
        story.run_project(settings.registry_deploy, "undeploy", where, "undeploy")
    return found | {"lost": client.lost}


def main() -> None:
    """Print what was found, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        mlflow.set_experiment(experiment_id=mlflow.create_experiment(NAME, f"{folder}/artifacts"))
        with mlflow.start_run():
            story.fresh_start(NAME)
            found = trial(folder)
    print(json.dumps(found, indent=1))
    of = found["watched"]
    all_recorded = {of[key] for key in ("answered", "recorded", "recorded_once", "equal")} == {of["sent"]}
    others = all(found[what]["equal"] == found[what]["recorded"] for what in ("killed", "full"))
    sys.exit(0 if all_recorded and others and not found["lost"] else 1)


if __name__ == "__main__":
    main()
