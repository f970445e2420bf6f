"""What a file, a prediction or a fitted model says, as lists, dicts and scalars that can be compared one by one."""

from __future__ import annotations

import copyreg
import csv
import gzip
import hashlib
import io
import json
import pickle
import re
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

LARGE = 200_000_000  # bytes from which on a file is compared by its digest alone
DEEP = 100  # levels below which nothing is looked at
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Unseen:
    """Something that nobody can look into; `what` names it."""

    what: str


@dataclass(frozen=True)
class Picture:
    """Something that is drawn: its kind and size decide; `drawn` is the digest of all that is seen on it."""

    kind: str
    size: tuple[int, ...]
    drawn: str


def content(path: Path) -> Any:
    """What a file says: text, a table, JSON, numbers, a picture; of every other kind its digest."""
    kind = path.suffix.lower()
    try:
        if path.stat().st_size > LARGE:
            return digest(path)
        if kind in PICTURES:
            return _picture(path)
        if kind in (".svg", ".pdf", ".html", ".htm"):  # times, ids made by chance and seconds are drawn into them
            return Picture(kind, (), digest(path))
        if kind in (".parquet", ".npy", ".npz", ".pkl", ".pickle", ".joblib"):
            return _numbers(path, kind)
        if ".tfevents." in path.name:
            return Unseen("TensorBoard's events, which hold the time of each")
        if zipfile.is_zipfile(path):  # as .xlsx is; it holds the times of its members, as .tar does
            with zipfile.ZipFile(path) as archive:
                return _mapping((name, _unzipped(archive.read(name), name)) for name in archive.namelist())
        if ".tar" in path.suffixes or kind == ".tgz":
            return _members(path)
        if kind == ".gz":  # which holds the time at which it was written
            return _unzipped(gzip.decompress(path.read_bytes()), path.stem)
        return _text(path.read_text(encoding="utf-8-sig"), kind)
    except Exception:  # no text, malformed, or of a library that is not here
        return digest(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unzipped(said: bytes, name: str) -> Any:
    try:
        return _text(said.decode("utf-8-sig"), Path(name).suffix.lower())
    except UnicodeDecodeError:
        return hashlib.sha256(said).hexdigest()


def _members(path: Path) -> Any:
    """The files of a tar archive, packed or not; of links and folders their kind."""
    with tarfile.open(path) as archive:
        files = ((each, archive.extractfile(each)) for each in archive)
        return _mapping((e.name, _unzipped(file.read(), e.name) if file else repr(e.type)) for e, file in files)


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping keeps every key, also one that is there twice."""


_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: _mapping(loader.construct_pairs(node, deep=True)))


def _text(text: str, kind: str) -> Any:
    """What a text says, by the suffix of its file; its lines where it says something else."""
    lines = text.removesuffix("\n").split("\n")  # splitlines() would take other characters for the end of a line
    try:
        if kind in (".json", ".ipynb"):
            return json.loads(text, object_pairs_hook=_mapping)
        if kind in (".yaml", ".yml"):
            return plain(yaml.load(text, _Loader))
        if kind in (".jsonl", ".ndjson"):
            return [json.loads(line, object_pairs_hook=_mapping) for line in lines if line.strip()]
        if kind in (".csv", ".tsv"):
            head, *rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == ".tsv" else ",")
            columns = [[_cell(row[number]) for row in rows] for number in range(len(head))]
            return _mapping(zip(head, columns, strict=True)) if all(len(row) == len(head) for row in rows) else lines
    except (ValueError, IndexError, csv.Error, yaml.YAMLError):
        pass
    return lines


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> Any:
    """Keys and values, or the names and values of columns, as a dict; where two read the same, as pairs."""
    pairs = [(str(key), value) for key, value in pairs]
    found = dict(pairs)
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


def _cell(text: str) -> int | float | str:
    if not NUMBER.fullmatch(text):
        return text
    return float(text) if set(text) & set(".eE") else int(text)


def _numbers(path: Path, kind: str) -> Any:
    if kind == ".parquet":
        return plain(pd.read_parquet(path))
    if kind == ".npy":
        return plain(np.load(path))
    if kind == ".npz":
        with np.load(path) as archive:
            return {name: plain(archive[name]) for name in archive.files}
    if kind == ".joblib":
        import joblib

        return plain(joblib.load(path))
    with path.open("rb") as file:
        return plain(pickle.load(file))


def _picture(path: Path) -> Picture:
    from PIL import Image, ImageSequence  # late: few runs have pictures whose bytes differ

    with Image.open(path) as image:
        pixels = hashlib.sha256()
        for frame in ImageSequence.Iterator(image):  # a film has several, and not all are of eight bits
            shown = frame.convert("RGBA") if frame.mode == "P" else frame
            pixels.update(f"{shown.mode} {shown.size}".encode() + shown.tobytes())
        return Picture(str(image.format), image.size, pixels.hexdigest())


def plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Any value as lists, dicts, arrays of numbers and scalars: a prediction, or what a model would be pickled from.

    Missing values of all kinds (NaN, NA, NaT) are NaN. What nobody can look into is Unseen.
    """
    if value is None or isinstance(value, bool | int | float | str | Unseen):
        return value
    if value is pd.NA or value is pd.NaT:
        return float("nan")
    if id(value) in above:
        return f"(again, {len(above) - above.index(id(value))} levels up)"
    if len(above) > DEEP:
        return Unseen(f"what lies deeper than {DEEP} levels")
    above = (*above, id(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return _mapping((key, plain(each, above)) for key, each in value.items())
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.FunctionType):
        return _programmed(value, above)
    if isinstance(value, list | tuple):
        return [plain(each, above) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each, above) for each in value), key=repr)
    if hasattr(value, "a_name_that_nothing_has"):  # it stands for an object of another process, as those of Java do
        return Unseen(type(value).__qualname__)
    table = _table(value, above)
    return _pickled(value, above) if table is None else table


def _table(value: Any, above: tuple[int, ...]) -> Any:
    """An array or table as lists and dicts; None for anything else."""
    if isinstance(value, pd.DataFrame | pd.Series) and not value.index.equals(pd.RangeIndex(len(value))):
        return {"index": plain(value.index, above), "values": plain(value.reset_index(drop=True), above)}
    if isinstance(value, pd.DataFrame):
        return _mapping((name, plain(column, above)) for name, column in value.items())
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        numbers = isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufc"
        return np.asarray(value) if numbers else [plain(each, above) for each in np.asarray(value, dtype=object)]
    if isinstance(value, np.generic):
        return value.isoformat() if hasattr(value, "isoformat") else plain(value.item(), above)
    if isinstance(value, np.ma.MaskedArray):
        return plain(value.tolist(), above)
    if isinstance(value, np.ndarray):
        if value.dtype.names:
            return {name: plain(value[name], above) for name in value.dtype.names}
        return value if value.dtype.kind in "biufc" else plain(value.tolist(), above)
    if hasattr(value, "isoformat"):  # dates and times
        return value.isoformat()
    if hasattr(value, "tocoo"):  # sparse matrices
        coordinates = value.tocoo(copy=True)
        coordinates.sum_duplicates()
        return {"shape": list(value.shape), "cells": [plain(part) for part in (*coordinates.coords, coordinates.data)]}
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # tensors
        return plain(value.detach().cpu().numpy(), above)
    if hasattr(value, "numpy") and hasattr(value, "dtype"):
        return plain(value.numpy(), above)
    return None


def _pickled(value: Any, above: tuple[int, ...]) -> Any:
    """An object by what it would be pickled from; networks by their weights."""
    if hasattr(value, "get_weights") and hasattr(value, "layers"):
        return [plain(each, above) for each in value.get_weights()]
    if hasattr(value, "state_dict"):
        return plain(value.state_dict(), above)
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        parts = reduced if isinstance(reduced, str) else [_listed(part) for part in reduced]
    except Exception:  # a foreign object may raise anything; what cannot be looked into counts as not compared
        return Unseen(type(value).__qualname__)
    return plain(parts, above)


def _programmed(value: Any, above: tuple[int, ...]) -> Any:
    """A function or class by name; where no module has it, as in a notebook, by the values that it brings along."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is value:
        return value.__qualname__
    if isinstance(value, type):
        members = {name: getattr(each, "__func__", getattr(each, "fget", each)) for name, each in vars(value).items()}
        own = {name: each for name, each in members.items() if isinstance(each, types.FunctionType) or name[0] != "_"}
        return [value.__qualname__, plain(own, above)]
    code, known = value.__code__, value.__globals__
    constants = [each for each in code.co_consts if not isinstance(each, types.CodeType)]
    reached = {name: known[name] for name in code.co_names if name in known}
    closed = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
    return [value.__qualname__, plain([constants, reached, closed, value.__defaults__, value.__kwdefaults__], above)]


def _listed(part: Any) -> Any:
    return list(part) if isinstance(part, Iterator) else part
