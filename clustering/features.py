"""Turn a table of customers into what K-Means learns from: columns to fit on, columns to describe, scaled numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import click
import numpy as np
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.types import ColSpec, DataType, Schema
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from support.table import absolute, bad, conform, dataset_source, read_batches, short_name

# With more categories than this, one-hot encoding makes a table of its own, and a profile that nobody reads.
MOST_CATEGORIES = 50


@dataclass(frozen=True)
class Selection:
    """What the user says about the table, each a parameter of the same name.

    data: path or URL of the table.
    columns: names to fit on, comma-separated; empty for all. Those in `drop` and `profile` are not fitted on.
    drop: names to ignore.
    profile: names to describe segments by without fitting on them; empty for all the others, `none` for none.
    log_columns: those of `columns` to take the logarithm of, as log(1 + x).
    categories: `refuse` columns of text, or encode them `onehot`.
    missing: `refuse` missing values, or `impute` the median of numbers and the most frequent category.
    """

    data: str
    columns: str
    drop: str
    profile: str
    log_columns: str
    categories: str
    missing: str

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Selection:
        """The selection among the parameters of a command."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what is done with them.

    numeric: fitted on, scaled to mean 0 and standard deviation 1.
    logged: those of `numeric` that go through log(1 + x) before they are scaled.
    categorical: fitted on, one-hot encoded.
    described: not fitted on; each segment is described by them.
    imputed: whether missing values of the columns to fit on are filled in, or else refused.
    """

    numeric: list[str]
    logged: list[str]
    categorical: list[str]
    described: list[str]
    imputed: bool

    @property
    def fitted(self) -> list[str]:
        return self.numeric + self.categorical

    @property
    def schema(self) -> Schema:
        """The columns to fit on, as MLflow describes the input of a model; optional where missing ones are imputed.

        Numbers are doubles: an integer column of a signature refuses a missing value.
        """
        kinds = {**dict.fromkeys(self.numeric, DataType.double), **dict.fromkeys(self.categorical, DataType.string)}
        return Schema([ColSpec(kind, name, required=not self.imputed) for name, kind in kinds.items()])


@dataclass(frozen=True)
class Tally:
    """What all rows of a table come to.

    rows: how many there are.
    lacking: in how many each column to fit on has no value.
    below: in how many each column of `Columns.logged` has no logarithm.
    digest: of the table, eight hexadecimal digits.
    """

    rows: int
    lacking: pd.Series
    below: pd.Series
    digest: str


@dataclass(frozen=True)
class Table:
    """A table that K-Means can be fitted on.

    frame: columns to fit on (float64, or text as object) and to describe; all rows, or a uniform sample of them.
    rows: how many rows the table has; more than `frame` when that is a sample.
    columns: what is done with the columns.
    preprocessing: fitted on `frame`.
    Z: the preprocessed rows of `frame` (rows, features), in which distances are measured.
    source, dataset: the path or URL of the table, and the MLflow dataset with its digest.
    """

    frame: pd.DataFrame
    rows: int
    columns: Columns
    preprocessing: ColumnTransformer
    Z: np.ndarray
    source: str
    dataset: MetaDataset


def load_table(
    selection: Selection, random_state: int, batch_size: int | None = None, init_size: int | None = None
) -> Table:
    """Read a table, check it, and fit the preprocessing.

    random_state: seed of the sample.
    batch_size: rows in memory at a time; None reads the whole table at once.
    init_size: how many rows to keep, a uniform sample of all; None keeps every row.

    Raises click.BadParameter where the table or a name does not allow it.
    """
    columns = None
    keys = np.empty(0)
    kept: list[pd.DataFrame] = []
    rows, lacking, below = 0, pd.Series(dtype=int), pd.Series(dtype=int)
    digest = hashlib.sha256()
    generator = np.random.default_rng(random_state)
    for batch in read_batches(selection.data, batch_size=batch_size):
        columns = columns or choose_columns(batch, selection)
        kept.append(prepared(batch, columns, first_row=rows + 1))
        lacking = lacking.add(kept[-1][columns.fitted].isna().sum(), fill_value=0)
        below = below.add((kept[-1][columns.logged] <= -1).sum(), fill_value=0)
        rows += len(batch)
        digest.update(pd.util.hash_pandas_object(kept[-1], index=False).to_numpy().tobytes())
        if init_size is not None:
            # Every row draws a key; the rows with the smallest keys are a uniform sample, whatever their order.
            keys = np.concatenate([keys, generator.random(len(batch))])
            if rows > init_size:
                smallest = np.sort(np.argpartition(keys, init_size)[:init_size])
                keys, kept = keys[smallest], [pd.concat(kept, ignore_index=True).iloc[smallest]]
    if columns is None:
        raise bad("data", selection.data, "has no rows.")
    frame = kept[0].reset_index(drop=True) if len(kept) == 1 else pd.concat(kept, ignore_index=True)
    return as_table(frame, Tally(rows, lacking, below, digest.hexdigest()[:8]), columns, selection.data)


def as_table(frame: pd.DataFrame, tally: Tally, columns: Columns, data: str) -> Table:
    """Check the rows of a table and fit the preprocessing on them.

    frame: as in `Table`.
    data: path or URL of the table.

    Raises click.BadParameter where a column tells nothing, or has values that the selection does not allow.
    """
    for name in columns.fitted:
        _refuse_unfit(frame[name].dropna(), tally, columns)
    transformer = preprocessing(columns)
    Z = np.ascontiguousarray(transformer.fit_transform(frame[columns.fitted]), dtype="float64")
    # Not mlflow.data.from_pandas: it looks at every value in turn to infer the schema that is known here.
    dataset = MetaDataset(  # type: ignore[abstract]
        dataset_source(data), name=short_name(data), digest=tally.digest, schema=columns.schema
    )
    return Table(frame, tally.rows, columns, transformer, Z, absolute(data), dataset)


def batches(table: Table, batch_size: int) -> Iterator[np.ndarray]:
    """The preprocessed rows of a table, read from its source again, a batch at a time."""
    row = 1
    for batch in read_batches(table.source, batch_size=batch_size):
        yield table.preprocessing.transform(conform(batch, table.columns.schema, first_row=row))
        row += len(batch)


def prepared(batch: pd.DataFrame, columns: Columns, first_row: int = 1) -> pd.DataFrame:
    """The columns of a batch to fit on, as the schema has them, and those to describe by, as numbers or text.

    first_row: the number of the first row in its file, for messages.

    Raises click.BadParameter for a value of the wrong kind.
    """
    X = conform(batch, columns.schema, first_row=first_row)
    return X.assign(**{name: _plain(batch[name]) for name in columns.described})


def choose_columns(frame: pd.DataFrame, selection: Selection) -> Columns:
    """Decide by name and kind what is done with each column of a table."""
    asked, named = _names(frame, "columns", selection.columns), []
    dropped, logged = _names(frame, "drop", selection.drop), _names(frame, "log_columns", selection.log_columns)
    if selection.profile != "none":
        named = _names(frame, "profile", selection.profile)
    fitted = [name for name in asked or frame.columns if name not in dropped + named]
    for name in [name for name in fitted if name not in asked and _numbers_rows(frame[name])]:
        click.echo(f"Warning: column {name!r} looks like an identifier: left out.", err=True)
        fitted.remove(name)
    if not fitted:
        raise bad("data", selection.data, "has no column to fit on.")

    categorical = [name for name in fitted if not _is_numeric(frame[name])]
    for name in categorical:
        _refuse_category(frame[name], selection.categories)
    numeric = [name for name in fitted if name not in categorical]
    for name in logged:
        if name not in numeric:
            raise bad("log_columns", name, "is not one of the columns of numbers to fit on.")

    described = named
    if not selection.profile:
        described = [name for name in frame.columns if name not in fitted + dropped and not _numbers_rows(frame[name])]
    for name in list(described):
        if not _is_numeric(frame[name]) and frame[name].nunique() > MOST_CATEGORIES:
            click.echo(f"Warning: column {name!r} has too many different values to describe segments by.", err=True)
            described.remove(name)
    return Columns(numeric, logged, categorical, described, imputed=selection.missing == "impute")


def preprocessing(columns: Columns) -> ColumnTransformer:
    """Impute when asked, take logarithms where asked, scale numbers and one-hot encode categories.

    Made of scikit-learn's and numpy's own functions only, so that a model loads without the code of this example.
    """

    def steps(strategy: str, *others: Any) -> Any:
        return make_pipeline(*([SimpleImputer(strategy=strategy)] if columns.imputed else []), *others)

    log1p = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    plain = [name for name in columns.numeric if name not in columns.logged]
    parts = [
        ("numbers", steps("median", StandardScaler()), plain),
        ("logarithms", steps("median", log1p, StandardScaler()), columns.logged),
        ("categories", steps("most_frequent", one_hot), columns.categorical),
    ]
    return ColumnTransformer([part for part in parts if part[2]])


def refuse_too_many(table: Table, n_clusters: int, parameter: str) -> None:
    """Refuse more segments than the table has distinct rows, or as many as it has rows."""
    if n_clusters >= len(table.frame):
        raise bad(parameter, n_clusters, f"is too many for {len(table.frame)} rows: a segment needs several.")
    rows = table.frame[table.columns.fitted]
    distinct = len(rows.head(10_000).drop_duplicates())  # nearly always enough to tell, and fast
    if distinct < n_clusters:
        distinct = len(rows.drop_duplicates())
    if distinct < n_clusters:
        raise bad(parameter, n_clusters, f"is more than the {distinct} distinct rows of the columns to fit on.")


def names_of(names: str) -> list[str]:
    """The names in a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def _names(frame: pd.DataFrame, parameter: str, names: str) -> list[str]:
    """The columns that a parameter names. Raises click.BadParameter for one that does not exist."""
    found = names_of(names)
    for name in found:
        if name not in frame:
            have = ", ".join(map(str, frame.columns))
            raise bad(parameter, name, f"is not a column of the table; it has: {have}.")
    return found


def _is_numeric(values: pd.Series) -> bool:
    """Whether a column holds numbers; true and false count as 1 and 0."""
    return pd.api.types.is_numeric_dtype(values) or set(values.dropna().map(type)) == {bool}


def _plain(values: pd.Series) -> pd.Series:
    """A column that only describes: numbers as float64, anything else as text, missing values as NaN."""
    if _is_numeric(values):
        return values.astype("float64")
    return values.map(str, na_action="ignore").astype(object).where(values.notna(), np.nan)


def _numbers_rows(values: pd.Series) -> bool:
    """Whether integers name the rows: each stands once, and they are consecutive or large (account numbers)."""
    if not pd.api.types.is_integer_dtype(values) or values.nunique() < len(values) or len(values) < 20:
        return False
    return bool((values.diff().dropna() == 1).all() or values.min() >= 10_000)


def _refuse_category(values: pd.Series, categories: str) -> None:
    name, distinct = str(values.name), values.nunique()
    otherwise = f"-P profile={name} to describe the segments by it, or -P drop={name} to ignore it."
    if distinct == 0:
        raise bad("columns", name, f"is empty: give -P drop={name}.")
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        raise bad("columns", name, f"holds dates, which K-Means cannot measure: give -P drop={name}.")
    if categories == "refuse":
        raise bad("columns", name, f"holds text: give -P categories=onehot to fit on it, {otherwise}")
    if distinct > MOST_CATEGORIES:
        raise bad("columns", name, f"holds {distinct} different texts, too many to encode: give -P drop={name}.")


def _refuse_unfit(values: pd.Series, tally: Tally, columns: Columns) -> None:
    """Refuse a column to fit on. values: those that are there."""
    name = str(values.name)
    if values.empty or (values == values.iloc[0]).all():
        what = "is empty" if values.empty else f"is constant ({values.iloc[0]})"
        raise bad("columns", name, f"{what}: it tells no segments apart; give -P drop={name}.")
    if tally.lacking[name] and not columns.imputed:
        filled = "median" if name in columns.numeric else "most frequent one"
        raise bad(
            "columns",
            name,
            f"has {int(tally.lacking[name]):,} missing values in {tally.rows:,} rows: "
            f"give -P missing=impute to fill in the {filled}, or -P drop={name}.",
        )
    if name in columns.logged and tally.below[name]:
        below = int(tally.below[name])
        raise bad("log_columns", name, f"has {below:,} values of -1 or less, which log(1 + x) excludes.")
