"""The proxy's side of a recording: it hands answered requests to `recorder.py` and never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from processes import Recording

MAX_WAITING = 32 * 2**20  # bytes that the recorder may be behind; beyond, requests are not recorded
DELAY = 0.5  # s that requests are collected before they are handed over
PATIENCE = 60.0  # s that the recorder may take for its last file

_log = logging.getLogger("local_proxy")


def request_id(given: str) -> str:
    """The id of a request: the client's own, or a new one where it has none that can be sent back."""
    return given if given and given.isascii() and given.isprintable() else uuid.uuid4().hex


def drawn(identifier: str, share: float) -> bool:
    """Whether a request is in the share that is recorded: by its id, so that the same id is in or out everywhere."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8]) < share * 2**64


class Feed:
    """Keeps a recorder running and counts what became of the requests."""

    def __init__(self, recording: Recording, endpoint: str) -> None:
        self.recording = recording
        self.endpoint = endpoint
        self.recorded = 0
        self.lost: Counter[str] = Counter()  # requests that were not recorded, by reason
        self.open = 0  # handed to the recorder, not yet told of
        self.batch: list[bytes] = []
        self.size = 0  # bytes in the batch
        self.flushed: dict[int, asyncio.Event] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.running = asyncio.create_task(self.run())

    async def run(self) -> None:
        """Start the recorder, and start it again when it has ended."""
        settings = json.dumps({"recording": dataclasses.asdict(self.recording), "endpoint": self.endpoint})
        while True:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(Path(__file__).with_name("recorder.py")),
                    settings,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
                assert self.process.stdout is not None
                async for line in self.process.stdout:
                    self.take(json.loads(line))
            except (OSError, ValueError):
                _log.exception("the recorder cannot be started")
            self.process = None
            self.lost["the recorder ended"] += self.open
            self.open, self.batch, self.size = 0, [], 0
            await asyncio.sleep(1)

    def take(self, report: dict[str, Any]) -> None:
        """Count what the recorder says."""
        recorded, lost = report.get("recorded", 0), report.get("lost", 0)
        self.recorded += recorded
        if lost:
            self.lost[report["why"]] += lost
        self.open -= recorded + lost
        if "flushed" in report and (event := self.flushed.pop(report["flushed"], None)):
            event.set()

    def send(self, head: dict[str, Any], body: bytes, answer: bytes) -> bool:
        """Hand bytes to the recorder; False where it is not there or too far behind."""
        pipe = self.process.stdin if self.process else None
        if pipe is None or pipe.transport.is_closing():
            self.lost["the recorder was not running"] += "time" in head
            return False
        if pipe.transport.get_write_buffer_size() + self.size + len(body) + len(answer) > MAX_WAITING:
            self.lost["the recorder was behind"] += "time" in head
            return False
        if not self.batch:  # in batches: while an answer is under way, nothing else is to be done
            asyncio.get_running_loop().call_later(DELAY, self.drain)
        self.batch += [json.dumps(head).encode(), b"\n", body, answer]
        self.size += len(body) + len(answer)
        return True

    def drain(self) -> None:
        """Write what was collected to the recorder."""
        batch, self.batch, self.size = self.batch, [], 0
        if batch and self.process and self.process.stdin:
            self.process.stdin.write(b"".join(batch))

    def add(self, identifier: str, model: str, version: str, content_type: str, body: bytes, answer: bytes) -> None:
        """Record an answered request if it is drawn."""
        if drawn(identifier, self.recording.share):
            head = {"request_id": identifier, "time": time.time(), "model": model, "version": version}
            head |= {"content_type": content_type, "body": len(body), "answer": len(answer)}
            self.open += self.send(head, body, answer)

    async def counts(self) -> dict[str, Any]:
        """What has been recorded, once what is waiting is written."""
        number, event = id(object()), asyncio.Event()
        self.flushed[number] = event
        if self.send({"flush": number}, b"", b""):
            self.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 5)  # what is not written by then is told as waiting
        self.flushed.pop(number, None)
        lost = {why: number for why, number in self.lost.items() if number}
        return {"recorded": self.recorded, "waiting": self.open, "lost": lost}

    async def close(self) -> None:
        """Let the recorder write its last file and end."""
        self.drain()
        process = self.process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), PATIENCE)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        self.running.cancel()
