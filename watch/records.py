"""Read what an endpoint recorded: one row for each row of a request, between two times.

Three forms are read: the Parquet files of `registry_deploy -e deploy -P record=...`, exports of a Databricks inference
table (Parquet), and what the data collector of Azure Machine Learning writes (JSON Lines).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from support.table import bad, is_url

RECORD_OPTIONS: list[click.Parameter] = [
    click.Option(["--record"], required=True, help="Folder or URI of what was recorded."),
    click.Option(["--endpoint"], default="churn"),
    click.Option(["--name"], default="churn", help="The registered model."),
    click.Option(["--until"], default="", help="End of the window, ISO 8601 in UTC; default: now."),
]
COLUMNS = ["request_id", "row", "time", "version", "inputs", "output"]


def window_of(window: float, until: str) -> tuple[datetime, datetime]:
    """The time from which and up to which rows count.

    window: in days. until: a date or a time as ISO 8601, of UTC where it names no zone; empty for now.
    """
    try:
        end = datetime.fromisoformat(until) if until else datetime.now(UTC)
    except ValueError:
        raise bad("until", until, "is no date: write for instance 2026-03-31.") from None
    end = end.astimezone(UTC) if end.tzinfo else end.replace(tzinfo=UTC)
    try:
        return end - timedelta(days=window), end
    except OverflowError:
        raise bad("window", window, "days begin before the year 1.") from None


def read_records(record: str, endpoint: str, start: datetime, end: datetime) -> pd.DataFrame:
    """The recorded rows with start <= time < end, the oldest first: COLUMNS, inputs and output as Python values.

    record: a folder or a URI, in which the rows lie in a folder named as the endpoint or, of the clouds, anywhere.
    A file that cannot be read and rows that were recorded twice are left out, and said.

    Raises click.BadParameter where there is no such folder, or no row of that time in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = [part for path in _files(record, endpoint, start, end, Path(folder)) for part in _read(path)]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    if "kind" in found:  # the data collector writes inputs and outputs apart
        found = _joined(found)
    found["time"] = pd.to_datetime(found["time"], utc=True)
    found["version"] = found["version"].fillna("").astype(str)
    found = found[(found["time"] >= start) & (found["time"] < end)]
    if found.empty:
        between = f"between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} (UTC)"
        raise bad("record", record, f"has no rows of the endpoint {endpoint} {between}.")
    twice = found.duplicated(["request_id", "row"])
    if twice.any():
        click.echo(f"{twice.sum():,} rows were recorded twice: the first of each counts.", err=True)
    return found[~twice].sort_values(["time", "request_id", "row"], ignore_index=True)[COLUMNS]


def _files(record: str, endpoint: str, start: datetime, end: datetime, folder: Path) -> list[Path]:
    """The files that may hold rows of that time, on this machine. folder: for those of a URI."""
    if is_url(record):
        _fetch(record, endpoint, start, end, folder)
        root = folder
    else:
        root = Path(record).expanduser()
        if not root.is_absolute():
            raise bad("record", record, 'is a relative path: give its full one, "$PWD/...".')
        if not root.exists():
            raise bad("record", record, "does not exist: deploy with record= and send a request.")
        root = root / endpoint if (root / endpoint).is_dir() else root
    if root.is_file():
        return [root]
    found = sorted(path for ending in ("parquet", "jsonl") for path in root.rglob(f"*.{ending}"))
    return [path for path in found if all(_may_hold(part, start, end) for part in path.relative_to(root).parts)]


def _fetch(record: str, endpoint: str, start: datetime, end: datetime, folder: Path) -> None:
    """Copy an endpoint's files that may hold rows of that time from an object store, reached as the recorder does."""
    if "MLFLOW_S3_ENDPOINT_URL" in os.environ:  # what MLflow calls the address of an object store that is not Amazon's
        os.environ.setdefault("AWS_ENDPOINT_URL", os.environ["MLFLOW_S3_ENDPOINT_URL"])
    try:
        system, path = fs.FileSystem.from_uri(record)
        under = f"{path.rstrip('/')}/{endpoint}"
        for each in system.get_file_info(fs.FileSelector(under, allow_not_found=True, recursive=True)):
            place = Path(each.path).relative_to(under)
            if each.is_file and all(_may_hold(part, start, end) for part in place.parts):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                fs.copy_files(each.path, str(folder / place), source_filesystem=system)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds too
        raise bad("record", record, f"cannot be read: {str(error).splitlines()[0][:200]}") from None


def _may_hold(name: str, start: datetime, end: datetime) -> bool:
    """Whether a folder may hold rows of that time: not one named date=2026-03-31 where that is another day."""
    return not name.startswith("date=") or f"{start:%Y-%m-%d}" <= name.removeprefix("date=") <= f"{end:%Y-%m-%d}"


def _read(path: Path) -> Iterator[pd.DataFrame]:
    """The rows of a file in one of the three forms; none of a file that cannot be read, which is said."""
    try:
        if path.suffix == ".jsonl":
            yield pd.DataFrame([row for line in path.read_text(encoding="utf-8").splitlines() for row in _azure(line)])
            return
        table = pq.read_table(path, partitioning=None)
        if {"request", "response"} <= set(table.column_names):
            yield pd.DataFrame([row for each in table.to_pylist() for row in _databricks(each)])
            return
        frame = table.select(COLUMNS).to_pandas()
        frame = frame.assign(inputs=frame["inputs"].map(json.loads), output=frame["output"].map(json.loads))
        if not frame["inputs"].map(lambda each: isinstance(each, dict)).all():
            raise ValueError("inputs of a row are not an object")
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        click.echo(f"{path}: left out, as it cannot be read: {str(error).splitlines()[0][:200]}", err=True)
        return
    yield frame


def _databricks(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one request of an inference table, the older form and that of AI Gateway; none of a failed one."""
    if int(row.get("status_code") or 200) != 200:
        return
    metadata = dict(row.get("request_metadata") or {})
    time = row.get("request_time") or pd.Timestamp(row["timestamp_ms"], unit="ms", tz="UTC")
    shared = {"request_id": row.get("client_request_id") or row["databricks_request_id"], "time": time}
    shared["version"] = str(metadata.get("model_version") or row.get("served_entity_id") or "")
    answers = _answers(json.loads(row["response"]))
    for number, (inputs, output) in enumerate(zip(rows_of(json.loads(row["request"])), answers, strict=True)):
        yield {**shared, "row": number, "inputs": inputs, "output": output}


def rows_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a request to a scoring server of MLflow's, in any form that names the columns.

    Raises ValueError for a tensor, which names none.
    """
    for key in ("dataframe_split", "input_data"):
        if key in request:
            return [dict(zip(request[key]["columns"], values, strict=True)) for values in request[key]["data"]]
    rows = request.get("dataframe_records", request.get("instances", request.get("inputs")))
    if isinstance(rows, dict):  # {"inputs": {"column": [values]}}
        rows = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("a request names no columns")
    return rows


def _answers(response: Any) -> list[Any]:
    return list(response["predictions"] if isinstance(response, dict) else response)


def _azure(line: str) -> Iterator[dict[str, Any]]:
    """The rows of one event of the data collector: of its inputs or of its outputs, which are joined later."""
    event = json.loads(line)
    kind = "output" if event["type"].endswith("outputs") else "inputs"
    shared = {"request_id": event.get("xrequestid") or event["correlationid"], "correlation": event["correlationid"]}
    shared |= {"time": event["time"], "version": str(event.get("modelversion") or ""), "kind": kind}
    for number, values in enumerate(event["data"]):
        alone = kind == "output" and isinstance(values, dict) and len(values) == 1
        yield {**shared, "row": number, "values": next(iter(values.values())) if alone else values}


def _joined(events: pd.DataFrame) -> pd.DataFrame:
    """Inputs and outputs of the data collector by their correlation; inputs without an answer are left out."""
    sides = {kind: part.rename(columns={"values": kind}) for kind, part in events.groupby("kind")}
    if len(sides) < 2:
        return pd.DataFrame(columns=COLUMNS)
    answers = sides["output"][["correlation", "row", "output"]]
    return sides["inputs"].merge(answers, on=["correlation", "row"])[COLUMNS]
