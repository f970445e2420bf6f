"""Writes the requests that an endpoint answered as Parquet files: `python recorder.py SETTINGS`, a child of the proxy.

It reads requests from standard input, so that the proxy never waits for a disk, and says on standard output, as JSON
Lines, what became of them. It ends when its input does.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from processes import Recording

SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("row", pa.int32()),
        ("time", pa.timestamp("us", "UTC")),
        ("model", pa.string()),
        ("version", pa.string()),
        ("inputs", pa.string()),
        ("output", pa.string()),
    ]
)
FLUSH_SECONDS = 60.0  # a row is in its file after so long at the latest
FLUSH_BYTES = 16 * 2**20  # of requests; many rows are written earlier
RETRY_SECONDS = 60.0  # after a write that failed; what comes meanwhile is not recorded
TIDY_SECONDS = 3600.0
MAX_BYTES = 10 * 2**30  # of one endpoint's files; the oldest go first
_OURS = re.compile(r"date=(\d{4}-\d{2}-\d{2})/[0-9a-f]{32}\.parquet$")


class Verbatim(str):
    """A JSON number as it was written: 1.10 stays 1.10, and 9007199254740993 is not rounded."""


def read_json(text: bytes | str) -> Any:
    """What a JSON text says, its numbers as `Verbatim`. Raises ValueError."""
    return json.loads(text, parse_int=Verbatim, parse_float=Verbatim, parse_constant=Verbatim)


def write_json(value: Any) -> str:
    """The JSON text of what `read_json` returned."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {write_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_json, value)) + "]"
    return json.dumps(value, default=str)


def rows_of(content_type: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of a request by column name, in every form that MLflow's scoring server takes.

    Columns without a name have their position: "0", "1", ... A cell of CSV is text; an empty one is None.

    Raises ValueError for what has no rows, or two columns of one name.
    """
    kind = content_type.partition(";")[0].strip()
    if kind == "text/csv":
        csv.field_size_limit(sys.maxsize)
        names, *lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"))) if line]
        return _named(names, [[cell or None for cell in line] for line in lines])
    if kind == "application/vnd.apache.parquet":
        table = pq.read_table(io.BytesIO(body))
        return _named(table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))
    request = read_json(body)
    if "dataframe_split" in request:
        split = request["dataframe_split"]
        return _named(split.get("columns"), split["data"])
    given = next((request[form] for form in ("dataframe_records", "instances", "inputs") if form in request), None)
    if isinstance(given, dict):  # one list for each column, or of a single row its values
        columns = [value if isinstance(value, list) else [value] for value in given.values()]
        return _named(list(given), list(zip(*columns, strict=True)))
    if not isinstance(given, list):
        raise ValueError("it has no rows")
    return [row if isinstance(row, dict) else _named(None, [row])[0] for row in given]


def _named(names: Iterable[Any] | None, rows: Iterable[Any]) -> list[dict[str, Any]]:
    lists = [row if isinstance(row, list | tuple) else [row] for row in rows]
    keys = [str(name) for name in (range(max(map(len, lists), default=0)) if names is None else names)]
    if len(set(keys)) < len(keys):
        raise ValueError("two columns have one name")
    return [dict(zip(keys, row, strict=True)) for row in lists]


def outputs_of(answer: bytes, rows: int) -> list[Any]:
    """The part of a server's answer that belongs to each row. Raises ValueError where there is none."""
    answered = read_json(answer)
    found = answered["predictions"] if isinstance(answered, dict) and "predictions" in answered else answered
    if isinstance(found, dict) and all(isinstance(value, list) for value in found.values()):
        found = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    if not isinstance(found, list) and rows == 1:
        found = [found]
    if not isinstance(found, list) or len(found) != rows:
        raise ValueError("not one value for each row")
    return found


def records_of(request: dict[str, Any], body: bytes, answer: bytes, omit: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of SCHEMA of one answered request.

    request: request_id, time (seconds since 1970), model, version, content_type.

    Raises ValueError where the request or its answer has no rows.
    """
    try:
        rows = rows_of(request["content_type"], body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        raise ValueError("a form of request whose rows are not known") from error
    shared: dict[str, Any] = {name: request[name] for name in ("request_id", "model", "version")}
    shared["time"] = datetime.fromtimestamp(request["time"], UTC)
    try:
        outputs = outputs_of(answer, len(rows))
    except (ValueError, RecursionError) as error:
        raise ValueError("an answer that has not one value for each row") from error
    return [
        {**shared, "row": number, "inputs": write_json(_without(row, omit)), "output": write_json(output)}
        for number, (row, output) in enumerate(zip(rows, outputs, strict=True))
    ]


def _without(row: dict[str, Any], omit: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in omit and name.strip() not in omit}


def outdated(files: Iterable[tuple[str, int]], today: datetime, keep_days: int, most: int) -> list[str]:
    """The files to delete, of (path, bytes): older than `keep_days`, and the oldest beyond `most` bytes in all.

    Only files named as the recorder names them count.
    """
    first = f"{today - timedelta(days=keep_days):%Y-%m-%d}"
    ours = sorted(((found[1], path, size) for path, size in files if (found := _OURS.search(path))), reverse=True)
    gone, total = [], 0
    for day, path, size in ours:
        total += size
        if day < first or total > most:
            gone.append(path)
    return gone


def open_folder(recording: Recording, endpoint: str) -> tuple[fs.FileSystem, str]:
    """The file system of a recording, and the endpoint's folder there, which is made.

    Raises OSError or ValueError where nothing can be written.
    """
    if "MLFLOW_S3_ENDPOINT_URL" in os.environ:  # what MLflow calls the address of an object store that is not Amazon's
        os.environ.setdefault("AWS_ENDPOINT_URL", os.environ["MLFLOW_S3_ENDPOINT_URL"])
    local = "://" not in recording.record
    system, path = (fs.LocalFileSystem(), recording.record) if local else fs.FileSystem.from_uri(recording.record)
    folder = f"{path.rstrip('/')}/{endpoint}"
    if isinstance(system, fs.LocalFileSystem):
        for each in (path, folder):
            os.makedirs(each, mode=0o700, exist_ok=True)
    else:
        system.create_dir(folder)
    return system, folder


def check(recording: Recording, endpoint: str) -> None:
    """Write a file and remove it. Raises OSError or ValueError where that fails."""
    system, folder = open_folder(recording, endpoint)
    path = f"{folder}/.{uuid.uuid4().hex}.part"
    with system.open_output_stream(path) as file:
        file.write(b"test")
    system.delete_file(path)


@dataclass
class Writer:
    """Collects requests and writes their rows, one file for each day."""

    recording: Recording
    endpoint: str
    waiting: list[tuple[dict[str, Any], bytes, bytes]] = field(default_factory=list)
    size: int = 0
    begun: float = 0.0
    paused: float = 0.0
    why: str = ""

    def add(self, request: dict[str, Any], body: bytes, answer: bytes) -> None:
        """Take one request. It is read when it is written, so that the processor is free for the model servers."""
        if time.monotonic() < self.paused:
            say(lost=1, why=self.why)
            return
        self.begun = self.begun if self.waiting else time.monotonic()
        self.waiting.append((request, body, answer))
        self.size += len(body) + len(answer)
        if self.size > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is there; where that fails, it is not recorded, nor what comes in the next minute."""
        waiting, self.waiting, self.size = self.waiting, [], 0
        rows: list[dict[str, Any]] = []
        requests = 0
        for request, body, answer in waiting:
            try:
                rows += records_of(request, body, answer, self.recording.omit)
                requests += 1
            except ValueError as error:
                say(lost=1, why=str(error))
        if not requests:
            return
        try:
            system, folder = open_folder(self.recording, self.endpoint)
            for day in sorted({row["time"].date() for row in rows}):
                _write(system, f"{folder}/date={day}", [row for row in rows if row["time"].date() == day])
        except (OSError, ValueError, pa.ArrowException) as error:
            self.paused, self.why = time.monotonic() + RETRY_SECONDS, str(error).splitlines()[0][:200]
            say(lost=requests, why=self.why)
        else:
            say(recorded=requests)


def tidy(recording: Recording, endpoint: str) -> None:
    """Delete what is too old or too much."""
    with contextlib.suppress(OSError, ValueError):
        system, folder = open_folder(recording, endpoint)
        files = system.get_file_info(fs.FileSelector(folder, recursive=True))
        sizes = [(file.path, file.size) for file in files if file.is_file]
        for path in outdated(sizes, datetime.now(UTC), recording.keep_days, MAX_BYTES):
            system.delete_file(path)


def _write(system: fs.FileSystem, folder: str, rows: list[dict[str, Any]]) -> None:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), content, compression="zstd")
    system.create_dir(folder)
    name = f"{uuid.uuid4().hex}.parquet"
    if not isinstance(system, fs.LocalFileSystem):  # an object is there as a whole or not at all
        with system.open_output_stream(f"{folder}/{name}") as file:
            file.write(content.getbuffer())
        return
    part = f"{folder}/.{name}.part"
    try:
        with system.open_output_stream(part) as file:
            file.write(content.getbuffer())
        system.move(part, f"{folder}/{name}")
    except OSError:
        if os.path.exists(part):
            os.unlink(part)
        raise


def say(**what: Any) -> None:
    """Tell the proxy."""
    print(json.dumps(what), flush=True)


def messages(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes, bytes]]:
    """What the proxy sends: a line of JSON, then as many bytes of the request and of its answer as it says."""
    while line := stream.readline():
        head = json.loads(line)
        body, answer = (stream.read(head.get(name, 0)) for name in ("body", "answer"))
        if len(body) + len(answer) < head.get("body", 0) + head.get("answer", 0):
            return  # the proxy has ended in the middle of it
        yield head, body, answer


def main(recording: Recording, endpoint: str) -> None:
    """Record until the input ends."""
    for number in (signal.SIGTERM, signal.SIGINT):  # it ends with the proxy, after what that has sent
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # the model servers come first
    waiting: queue.Queue[Any] = queue.Queue(maxsize=100)

    def read() -> None:
        try:
            for message in messages(sys.stdin.buffer):
                waiting.put(message)
        finally:
            waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    writer, tidied = Writer(recording, endpoint), -TIDY_SECONDS
    while True:
        if time.monotonic() - tidied > TIDY_SECONDS:
            tidied = time.monotonic()
            tidy(recording, endpoint)
        try:
            message = waiting.get(timeout=1)
        except queue.Empty:
            message = ()
        if message is None:
            break
        if message and "flush" in message[0]:
            writer.flush()
            say(flushed=message[0]["flush"])
        elif message:
            writer.add(*message)
        if writer.waiting and time.monotonic() - writer.begun > FLUSH_SECONDS:
            writer.flush()
    signal.alarm(30)  # an object store that does not answer must not keep it for ever
    writer.flush()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    main(Recording(**settings["recording"]), settings["endpoint"])
