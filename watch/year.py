"""A simulated year of the bundled table: quiet months, a change in the world, and three kinds of broken data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = "churn"
UNITS = {"tenure": (30.0, 1 / 12), "monthly_charges": (100.0, 1 / 1000), "total_charges": (100.0, 1 / 1000)}
DEARER, TOO_DEAR, LEAVE = 15.0, 110.0, 0.8


def customers(path: Path) -> pd.DataFrame:
    """The bundled table, numbers as float64 and text as objects. path: of churn.csv."""
    table = pd.read_csv(path)
    numbers = table.select_dtypes("number").columns
    return table.astype({name: "float64" if name in numbers else object for name in table})


def changed(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """A true change: fibre costs 15 more a month, and of those who then pay over 110, eight in ten leave."""
    rows = rows.copy()
    fibre = rows["internet_service"] == "Fiber optic"
    rows.loc[fibre, "monthly_charges"] = (rows.loc[fibre, "monthly_charges"] + DEARER).round(2)
    dear = rows["monthly_charges"] > TOO_DEAR
    rows.loc[dear, TARGET] = np.where(generator.random(int(dear.sum())) < LEAVE, "Yes", "No")
    return rows


def broken(rows: pd.DataFrame, kind: str, generator: np.random.Generator) -> pd.DataFrame:
    """Broken data of a kind: a column in another unit, a category renamed, or labels shuffled."""
    rows = rows.copy()
    if kind == "unit":
        name = str(generator.choice(list(UNITS)))
        rows[name] = rows[name] * float(generator.choice(UNITS[name]))
    elif kind == "renamed":
        texts = [str(name) for name in rows if rows[name].dtype == object and name != TARGET]
        name = str(generator.choice(texts))
        value = str(generator.choice(rows[name].dropna().unique()))
        rows[name] = rows[name].replace(value, f"{value} (new)")
    elif kind == "shuffled":
        rows[TARGET] = generator.permutation(rows[TARGET].to_numpy())
    return rows


def move_to(times: Mapping[str, pd.Timestamp], live: Path, record: Path) -> int:
    """Move what the recorder has just written into a record of the simulated year; how many rows.

    times: for each request its time in the year. live, record: folders of the endpoint in both records.
    """
    files = sorted(live.rglob("*.parquet"))
    parts = [pd.read_parquet(file, partitioning=None) for file in files]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"request_id": []})
    rows["time"] = pd.to_datetime(rows["request_id"].map(times), utc=True)
    for day, part in rows.groupby(rows["time"].dt.strftime("%Y-%m-%d")):
        folder = record / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        part.to_parquet(folder / f"{uuid.uuid4().hex}.parquet", index=False)
    for file in files:
        file.unlink()
    return len(rows)
