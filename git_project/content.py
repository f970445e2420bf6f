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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageSequence

LARGE = 200_000_000  # bytes from which on a file is compared by its digest alone
DEEP = 100  # levels below which nothing is looked at
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
Plain = Callable[[Any], Any]


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


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(path: Path) -> Any:
    """What a file says: text, a table, JSON, numbers, a picture; of every other kind its digest."""
    return digest(path) if path.stat().st_size > LARGE else _read(path.read_bytes(), path.name)


def _read(data: bytes, name: str) -> Any:
    """What a file says by the ending of its name; where it is not what its name says, its lines or its digest."""
    if ".tfevents." in name:
        return Unseen("TensorBoard's events, which hold the time of each")
    read = next((read for endings, read in READERS.items() if name.lower().endswith(endings)), None)
    if read is None and zipfile.is_zipfile(io.BytesIO(data)):  # as .xlsx is
        read = _zipped
    with suppress(Exception):  # malformed, or of a library that is not here
        return read(data, name) if read else _lines(data)
    with suppress(UnicodeDecodeError):
        return _lines(data)
    return hashlib.sha256(data).hexdigest()


def _lines(data: bytes) -> list[str]:
    # splitlines() would take other characters for the end of a line
    return data.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")


def _json(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=_mapping)


def _columns(data: bytes, name: str) -> Any:
    """A table as its columns. Raises ValueError where a row is longer or shorter than the first."""
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    rows = list(csv.reader(text, delimiter="\t" if name.lower().endswith(".tsv") else ","))
    return _mapping((head, [_cell(each) for each in cells]) for head, *cells in zip(*rows, strict=True))


def _cell(text: str) -> int | float | str:
    if not NUMBER.fullmatch(text):
        return text
    return float(text) if set(text) & set(".eE") else int(text)


def _picture(data: bytes, name: str) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        pixels = hashlib.sha256()
        for frame in ImageSequence.Iterator(image):  # a film has several, and not all are of eight bits
            shown = frame.convert("RGBA") if frame.mode == "P" else frame
            pixels.update(f"{shown.mode} {shown.size}".encode() + shown.tobytes())
        return Picture(str(image.format), image.size, pixels.hexdigest())


def _zipped(data: bytes, name: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _mapping((each, _read(archive.read(each), each)) for each in archive.namelist())


def _tarred(data: bytes, name: str) -> Any:
    """The files of a tar archive, packed or not; of links and folders their kind."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(each, archive.extractfile(each)) for each in archive]
        return _mapping(
            (each.name, _read(file.read(), each.name) if file else repr(each.type)) for each, file in members
        )


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping keeps every key, also one that is there twice."""


_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: _mapping(loader.construct_pairs(node, deep=True)))

# How each kind of file is read, by the ending of its name; the first that fits.
READERS: dict[tuple[str, ...], Callable[[bytes, str], Any]] = {
    (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"): _picture,
    # Times, ids made by chance and seconds are drawn into these.
    (".svg", ".pdf", ".html", ".htm"): lambda data, name: Picture(name[-4:], (), hashlib.sha256(data).hexdigest()),
    (".json", ".ipynb"): lambda data, name: _json(data.decode("utf-8-sig")),
    (".jsonl", ".ndjson"): lambda data, name: [_json(line) for line in _lines(data) if line.strip()],
    (".yaml", ".yml"): lambda data, name: plain(yaml.load(data.decode("utf-8-sig"), _Loader)),
    (".csv", ".tsv"): _columns,
    (".parquet",): lambda data, name: plain(pd.read_parquet(io.BytesIO(data))),
    (".npy", ".npz"): lambda data, name: plain(np.load(io.BytesIO(data))),
    (".pkl", ".pickle"): lambda data, name: plain(pickle.loads(data)),
    (".joblib",): lambda data, name: plain(joblib.load(io.BytesIO(data))),
    # Archives hold the time at which they were written, and their members'.
    (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz"): _tarred,
    (".gz",): lambda data, name: _read(gzip.decompress(data), name[:-3]),
}


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> Any:
    """Keys and values, or the names and values of columns, as a dict; where two read the same, as pairs."""
    pairs = [(str(key), value) for key, value in pairs]
    found = dict(pairs)
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


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
    inner = partial(plain, above=(*above, id(value)))
    if isinstance(value, bytes | bytearray | memoryview):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict | np.lib.npyio.NpzFile):
        return _mapping((key, inner(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return [inner(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((inner(each) for each in value), key=repr)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.FunctionType):
        return _programmed(value, inner)
    if hasattr(value, "a_name_that_nothing_has"):  # it stands for an object of another process, as those of Java do
        return Unseen(type(value).__qualname__)
    table = _table(value, inner)
    return _pickled(value, inner) if table is None else table


def _table(value: Any, inner: Plain) -> Any:
    """A table, an array or one of its cells as lists and dicts; None for anything else."""
    if isinstance(value, pd.DataFrame | pd.Series) and not value.index.equals(pd.RangeIndex(len(value))):
        return {"index": inner(value.index), "values": inner(value.reset_index(drop=True))}
    if isinstance(value, pd.DataFrame):
        return _mapping((name, inner(column)) for name, column in value.items())
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        numbers = isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufc"
        return np.asarray(value) if numbers else [inner(each) for each in np.asarray(value, dtype=object)]
    if hasattr(value, "isoformat"):  # dates and times
        return value.isoformat()
    if isinstance(value, np.generic):
        scalar = value.item()
        return np.asarray(value) if isinstance(scalar, np.generic) else inner(scalar)
    if isinstance(value, np.ndarray):
        if value.dtype.names:
            return {name: inner(value[name]) for name in value.dtype.names}
        numbers = value.dtype.kind in "biufc" and not isinstance(value, np.ma.MaskedArray)
        return value if numbers else inner(value.tolist())
    if hasattr(value, "tocoo"):  # sparse matrices
        cells = value.tocoo(copy=True)
        cells.sum_duplicates()
        return {"shape": list(value.shape), "cells": [inner(part) for part in (*cells.coords, cells.data)]}
    if hasattr(value, "numpy") and (hasattr(value, "detach") or hasattr(value, "dtype")):  # tensors
        return inner(value.detach().cpu().numpy() if hasattr(value, "detach") else value.numpy())
    return None


def _pickled(value: Any, inner: Plain) -> Any:
    """An object by what it would be pickled from; networks by their weights."""
    if hasattr(value, "get_weights") and hasattr(value, "layers"):
        return [inner(each) for each in value.get_weights()]
    if hasattr(value, "state_dict"):
        return inner(value.state_dict())
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        parts = [list(part) if isinstance(part, Iterator) else part for part in reduced]
    except Exception:  # a foreign object may raise anything; what cannot be looked into counts as not compared
        return Unseen(type(value).__qualname__)
    return reduced if isinstance(reduced, str) else inner(parts)


def _programmed(value: Any, inner: Plain) -> Any:
    """A function or class by name; where no module has it, as in a notebook, by the values that it brings along."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is value:
        return value.__qualname__
    if isinstance(value, type):
        members = {name: getattr(each, "__func__", getattr(each, "fget", each)) for name, each in vars(value).items()}
        own = {name: each for name, each in members.items() if isinstance(each, types.FunctionType) or name[0] != "_"}
        return [value.__qualname__, inner(own)]
    code, known = value.__code__, value.__globals__
    constants = [each for each in code.co_consts if not isinstance(each, types.CodeType)]
    reached = {name: known[name] for name in code.co_names if name in known}
    closed = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
    return [value.__qualname__, inner([constants, reached, closed, value.__defaults__, value.__kwdefaults__])]
