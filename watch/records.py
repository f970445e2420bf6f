"""Read what an endpoint recorded: one row for each row of a request, between two times.

Three forms are read: the Parquet files of `registry_deploy -e deploy -P record=...`, exports of a Databricks inference
table (Parquet), and what the data collector of Azure Machine Learning writes (JSON Lines).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
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
COLUMNS = ["request_id", "row", "time", "model", "version", "inputs", "output"]
KEY = ["request_id", "row"]


def window_of(window: float, until: str) -> tuple[datetime, datetime]:
    """The time from which and up to which rows count.

    window: in days. until: a date or a time as ISO 8601, of UTC where it names no zone; empty for now.
    """
    try:
        end = datetime.fromisoformat(until) if until else datetime.now(UTC)
        end = end.astimezone(UTC) if end.tzinfo else end.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise bad("until", until, "is no date: write for instance 2026-03-31.") from None
    try:
        return end - timedelta(days=window), end
    except OverflowError:
        raise bad("window", window, "days begin before the year 1.") from None


def read_records(record: str, endpoint: str, name: str, start: datetime, end: datetime) -> pd.DataFrame:
    """The recorded rows with start <= time < end, the oldest first: COLUMNS, inputs and output as Python values.

    record: a folder or a URI, in which the rows lie in a folder named as the endpoint or, of the clouds, anywhere.
    name: the registered model. version: empty where the recording names none.

    What cannot be read, rows that were recorded twice and those of other models are left out, and said.

    Raises click.BadParameter where there is no such folder, or no row of that time and model in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for path in _files(record, endpoint, start, end, Path(folder)) for row in _read(path)]
    found = _joined(pd.DataFrame(rows, columns=[*COLUMNS, "kind"], dtype=object))
    found["time"] = pd.to_datetime(found["time"].map(str), utc=True, format="ISO8601", errors="coerce")
    found = _without(found, found["time"].isna(), "no time that can be read")
    found = found[(found["time"] >= start) & (found["time"] < end)]
    if found.empty:
        between = f"between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} (UTC)"
        raise bad("record", record, f"has no rows of the endpoint {endpoint} {between}.")
    found[["request_id", "model", "version"]] = found[["request_id", "model", "version"]].fillna("").astype(str)
    found["row"] = pd.to_numeric(found["row"], errors="coerce").fillna(0).astype("int64")
    others = set(found["model"]) - {name, ""}
    if others and len(others) == found["model"].nunique():
        raise bad("name", name, f"answered no row of the window; these did: {', '.join(sorted(others))}.")
    found = _without(found, found["model"].isin(others), f"answers of another model: {', '.join(sorted(others))}")
    found["version"] = found["version"].str.removesuffix(".0")  # of a column of numbers
    twice = found.assign(inputs=found["inputs"].map(str)).duplicated([*KEY, "inputs"]) & (found["request_id"] != "")
    found = _without(found, twice, "been recorded twice: the first of each counts")
    return found.sort_values(["time", *KEY], ignore_index=True)[COLUMNS]


def _without(rows: pd.DataFrame, these: pd.Series, why: str) -> pd.DataFrame:
    """The others, which is said. why: what these rows have."""
    if these.any():
        click.echo(f"Left out: {these.sum():,} rows that have {why}.", err=True)
    return rows[~these.to_numpy(dtype=bool)].copy()


def pick_version(rows: pd.DataFrame, version: str) -> pd.DataFrame:
    """The rows that one version answered: the given one, or the one with the most; others are said to be left out.

    Raises click.BadParameter for a version that answered none, and where neither it nor the recording names one: what
    a cloud calls the model (default, or an id of its own) is no version.
    """
    named = rows["version"].str.isdecimal()
    if not named.any():
        called = sorted(set(rows["version"]) - {""})
        if len(called) > 1:
            raise bad("record", ", ".join(called), "are several models, of unknown versions: give the rows of one.")
        if not version:
            says = f", only {called[0]!r}" if called else ""
            raise bad("version", version, f"is needed: the recording does not say which version answered{says}.")
        return rows.assign(version=version)
    counts = rows.loc[named, "version"].value_counts()
    chosen = version or str(counts.index[0])
    if chosen not in counts:
        raise bad("version", chosen, f"answered no row of the window; these did: {', '.join(counts.index)}.")
    others = ", ".join(each or "none" for each in sorted(set(rows["version"]) - {chosen}))
    return _without(rows, rows["version"] != chosen, f"another version: {others}").reset_index(drop=True)


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


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in one of the three forms; what of it cannot be read is said."""
    events: list[Any] = [None]
    read: Callable[[Any], list[dict[str, Any]]] = _azure
    rows: list[dict[str, Any]] = []
    wrong: list[Exception] = []
    try:
        if path.suffix == ".jsonl":
            events = path.read_text(encoding="utf-8-sig").strip().split("\n")
        else:
            table = pq.read_table(path, partitioning=None)
            events = table.to_pylist()
            read = _databricks if {"request", "response"} <= set(table.column_names) else _own
        for event in events:
            try:
                rows += read(event)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                wrong.append(error)
    except (pa.ArrowException, OSError, ValueError) as error:
        wrong.append(error)
    if wrong:
        told = f"{type(wrong[0]).__name__}: {wrong[0]}".splitlines()[0][:200]
        what = "it" if events == [None] else f"{len(wrong):,} of its {len(events):,} entries"
        click.echo(f"{path}: left out, as {what} cannot be read: {told}", err=True)
    return rows


def _own(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row as the recorder of registry_deploy writes it."""
    inputs, output = json.loads(row["inputs"]), _alone(json.loads(row["output"]))
    if not isinstance(inputs, dict):
        raise ValueError("its inputs are not an object")
    return [{**{name: row.get(name) for name in COLUMNS}, "inputs": inputs, "output": output}]


def _databricks(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one request of an inference table, the older form and that of AI Gateway; none of a failed one."""
    if int(row.get("status_code") or 200) != 200:
        return []
    if row["request"] is None or row["response"] is None:
        raise ValueError("the table does not hold it: it is too large")
    metadata = dict(row.get("request_metadata") or {})
    time = row.get("request_time") or pd.Timestamp(row["timestamp_ms"], unit="ms", tz="UTC")
    shared = {"request_id": row.get("client_request_id") or row["databricks_request_id"], "time": time}
    shared["model"] = metadata.get("model_name", "")
    shared["version"] = metadata.get("model_version") or row.get("served_entity_id")
    inputs, outputs = rows_of(json.loads(row["request"])), outputs_of(json.loads(row["response"]))
    if len(inputs) != len(outputs):
        raise ValueError("not one answer for each row")
    both = enumerate(zip(inputs, outputs, strict=True))
    return [{**shared, "row": number, "inputs": each, "output": output} for number, (each, output) in both]


def rows_of(request: Any) -> list[dict[str, Any]]:
    """The rows of a request to a scoring server of MLflow's, in any form that names the columns.

    Raises ValueError for a tensor and for other forms, which name none.
    """
    forms = ("dataframe_split", "input_data", "dataframe_records", "instances", "inputs")
    if isinstance(request, dict) and (form := next((form for form in forms if form in request), None)):
        request = request[form]
    if isinstance(request, dict) and {"columns", "data"} <= set(request):
        return [dict(zip(request["columns"], values, strict=True)) for values in request["data"]]
    if isinstance(request, dict):  # {"column": [values]}, or of a single row {"column": value}
        columns = [value if isinstance(value, list) else [value] for value in request.values()]
        return [dict(zip(request, values, strict=True)) for values in zip(*columns, strict=True)]
    if not isinstance(request, list) or not all(isinstance(row, dict) for row in request):
        raise ValueError("a request names no columns")
    return request


def outputs_of(response: Any) -> list[Any]:
    """The answer to each row; one value that is a list or an object by itself is that value."""
    found = response["predictions"] if isinstance(response, dict) and "predictions" in response else response
    if isinstance(found, dict) and all(isinstance(value, list) for value in found.values()):
        found = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    return [_alone(value) for value in (found if isinstance(found, list) else [found])]


def _alone(value: Any) -> Any:
    while isinstance(value, list | dict) and len(value) == 1:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


def _azure(line: str) -> list[dict[str, Any]]:
    """The rows of one event of the data collector: of its inputs or of its outputs, which are joined later."""
    event = json.loads(line)
    data = json.loads(event["data"]) if isinstance(event.get("data"), str) else event.get("data")
    if data is None:
        raise ValueError("its data lie elsewhere: they are too large")
    kind = "output" if str(event["type"]).endswith(("outputs", "response")) else "inputs"
    shared = {"request_id": event.get("xrequestid") or event["correlationid"], "model": event["correlationid"]}
    shared |= {"time": event["time"], "version": event.get("modelversion"), "kind": kind}
    values = outputs_of(data) if kind == "output" else rows_of(data)
    return [{**shared, "row": number, kind: each} for number, each in enumerate(values)]


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    """Inputs and outputs of the data collector as one row, by their correlation, which stands in `model` until then.

    A collection in several parts numbers its rows anew in each: which belong together is not known.
    """
    events = rows[rows["kind"].notna()]
    if events.empty:
        return rows
    sides = []
    for kind in ("inputs", "output"):
        side = events[events["kind"] == kind]
        side = side[~side.assign(**{kind: side[kind].map(str)}).duplicated(["model", "row", kind])]
        sides.append(side[~side.duplicated(["model", "row"], keep=False)])
    joined = sides[0].drop(columns="output").merge(sides[1][["model", "row", "output"]], on=["model", "row"])
    if lost := int((events["kind"] == "inputs").sum()) - len(joined):
        click.echo(f"Left out: {lost:,} rows of inputs without an answer, or recorded twice.", err=True)
    return pd.concat([rows[rows["kind"].isna()], joined.assign(model="")], ignore_index=True)
