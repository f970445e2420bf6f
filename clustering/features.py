"""Turn a table of customers into what K-Means learns from: columns to fit on, columns to describe, scaled numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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

# More categories than this and one-hot encoding makes a table of its own, and a profile that nobody reads.
MOST_CATEGORIES = 50


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what is done with them.

    numeric: fitted on, scaled to mean 0 and standard deviation 1.
    logged: those of `numeric` that go through log(1 + x) before they are scaled.
    categorical: fitted on, one-hot encoded.
    described: not fitted on; each segment is described by them.
    """

    numeric: list[str]
    logged: list[str]
    categorical: list[str]
    described: list[str]

    @property
    def fitted(self) -> list[str]:
        return self.numeric + self.categorical


@dataclass(frozen=True)
class Table:
    """A table that K-Means can be fitted on.

    frame: columns to fit on (float64, or text as object) and to describe; all rows, or a uniform sample of them.
    rows: how many rows the table has; more than `frame` when that is a sample.
    columns, schema: what is done with the columns, and their types as MLflow writes them into a signature.
    preprocessing: fitted on `frame`.
    Z: the preprocessed rows of `frame` (rows, features), in which distances are measured.
    source, dataset: the path or URL of the table, and the MLflow dataset with its digest.
    """

    frame: pd.DataFrame
    rows: int
    columns: Columns
    schema: Schema
    preprocessing: ColumnTransformer
    Z: np.ndarray
    source: str
    dataset: MetaDataset

    @property
    def raw(self) -> pd.DataFrame:
        """The columns to fit on, as the user wrote them."""
        return self.frame[self.columns.fitted]


def load_table(
    data: str,
    columns: str,
    drop: str,
    profile: str,
    log_columns: str,
    categories: str,
    missing: str,
    random_state: int,
    batch_size: int | None = None,
    init_size: int | None = None,
) -> Table:
    """Read a table, check it, and fit the preprocessing.

    data: path or URL of a CSV or Parquet file.
    columns: names to fit on, comma-separated; empty for all. Those in `drop` and `profile` are not fitted on.
    drop: names to ignore.
    profile: names to describe segments by without fitting on them; empty for all the others, `none` for none.
    log_columns: those of `columns` to take the logarithm of, as log(1 + x).
    categories: `refuse` columns of text, or encode them `onehot`.
    missing: `refuse` missing values, or `impute` the median of numbers and the most frequent category.
    random_state: seed of the sample.
    batch_size: rows in memory at a time; None reads the whole table at once.
    init_size: how many rows to keep, a uniform sample of all; None keeps every row.

    Raises click.BadParameter where the table or a name does not allow it.
    """
    chosen = schema = None
    keys = np.empty(0)
    kept: list[pd.DataFrame] = []
    rows, lacking, below = 0, pd.Series(dtype=int), pd.Series(dtype=int)
    digest = hashlib.sha256()
    generator = np.random.default_rng(random_state)
    for batch in read_batches(data, batch_size=batch_size):
        if chosen is None or schema is None:
            chosen = choose_columns(batch, data, columns, drop, profile, log_columns, categories)
            schema = input_schema(chosen, missing)
        kept.append(check_and_keep(batch, chosen, schema, first_row=rows + 1))
        lacks, has_no_logarithm = unfit(kept[-1], chosen)
        lacking, below = lacking.add(lacks, fill_value=0), below.add(has_no_logarithm, fill_value=0)
        rows += len(batch)
        digest.update(pd.util.hash_pandas_object(kept[-1], index=False).to_numpy().tobytes())
        if init_size is not None:
            # Every row draws a key; the rows with the smallest keys are a uniform sample, whatever their order.
            keys = np.concatenate([keys, generator.random(len(batch))])
            if rows > init_size:
                smallest = np.sort(np.argpartition(keys, init_size)[:init_size])
                keys, kept = keys[smallest], [pd.concat(kept, ignore_index=True).iloc[smallest]]
    assert chosen is not None  # read_batches refuses a table without rows
    assert schema is not None
    frame = kept[0].reset_index(drop=True) if len(kept) == 1 else pd.concat(kept, ignore_index=True)
    return fit_preprocessing(frame, rows, chosen, schema, missing, lacking, below, data, digest.hexdigest()[:8])


def fit_preprocessing(
    frame: pd.DataFrame,
    rows: int,
    columns: Columns,
    schema: Schema,
    missing: str,
    lacking: pd.Series,
    below: pd.Series,
    data: str,
    digest: str,
) -> Table:
    """Check the rows of a table and fit the preprocessing on them; arguments as in `load_table` and `Table`, and:

    lacking: in how many of all rows each column to fit on has no value.
    below: in how many of all rows each column of `columns.logged` has no logarithm.
    digest: of the table.

    Raises click.BadParameter where a column tells nothing, or `missing` or `columns.logged` does not allow its values.
    """
    _refuse_unfit(frame, columns, missing, rows, lacking, below)
    transformer = preprocessing(columns, missing)
    Z = np.ascontiguousarray(transformer.fit_transform(frame[columns.fitted]), dtype="float64")
    # Not mlflow.data.from_pandas: it looks at every value in turn to infer the schema that is known here.
    dataset = MetaDataset(  # type: ignore[abstract]
        dataset_source(data), name=short_name(data), digest=digest, schema=schema
    )
    return Table(frame, rows, columns, schema, transformer, Z, absolute(data), dataset)


def check_and_keep(batch: pd.DataFrame, columns: Columns, schema: Schema, first_row: int = 1) -> pd.DataFrame:
    """The columns of a batch to fit on, as the schema has them, and those to describe by, as numbers or text.

    Raises click.BadParameter as `conform` does.
    """
    X = conform(batch, schema, first_row=first_row)
    return X.assign(**{name: _plain(batch[name]) for name in columns.described})


def unfit(X: pd.DataFrame, columns: Columns) -> tuple[pd.Series, pd.Series]:
    """How many values each column to fit on lacks, and how many of each of `columns.logged` have no logarithm."""
    return X[columns.fitted].isna().sum(), (X[columns.logged] <= -1).sum()


def choose_columns(
    frame: pd.DataFrame, data: str, columns: str, drop: str, profile: str, log_columns: str, categories: str
) -> Columns:
    """Decide by name and kind what is done with each column of a table; arguments as in `load_table`."""
    dropped, logged = split_names(drop), split_names(log_columns)
    named = [] if profile == "none" else split_names(profile)
    asked = split_names(columns)
    for parameter, names in {"columns": asked, "drop": dropped, "profile": named, "log_columns": logged}.items():
        for name in names:
            if name not in frame:
                have = ", ".join(map(str, frame.columns))
                raise bad(parameter, name, f"is not a column of the table; it has: {have}.")
    fitted = [name for name in asked or frame.columns if name not in dropped + named]
    for name in [name for name in fitted if name not in asked and _numbers_rows(frame[name])]:
        click.echo(f"Warning: column {name!r} looks like an identifier: left out.", err=True)
        fitted.remove(name)
    if not fitted:
        raise bad("data", data, "has no column to fit on.")

    categorical = [name for name in fitted if not _is_numeric(frame[name])]
    for name in categorical:
        _refuse_category(frame[name], categories)
    numeric = [name for name in fitted if name not in categorical]
    for name in logged:
        if name not in numeric:
            raise bad("log_columns", name, "is not one of the columns of numbers to fit on.")

    described = named
    if not profile:
        described = [name for name in frame.columns if name not in fitted + dropped and not _numbers_rows(frame[name])]
    for name in list(described):
        if not _is_numeric(frame[name]) and frame[name].nunique() > MOST_CATEGORIES:
            click.echo(f"Warning: column {name!r} has too many different values to describe segments by.", err=True)
            described.remove(name)
    return Columns(numeric, logged, categorical, described)


def split_names(names: str) -> list[str]:
    """The names in a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def input_schema(columns: Columns, missing: str) -> Schema:
    """The columns that are fitted on, as MLflow describes the input of a model; optional when missing ones are imputed.

    Numbers are doubles: an integer column of a signature refuses a missing value.
    """
    required = missing == "refuse"
    numbers = [ColSpec(DataType.double, name, required=required) for name in columns.numeric]
    return Schema([*numbers, *(ColSpec(DataType.string, name, required=required) for name in columns.categorical)])


def preprocessing(columns: Columns, missing: str) -> ColumnTransformer:
    """Impute when asked, take logarithms where asked, scale numbers and one-hot encode categories.

    Made of scikit-learn's and numpy's own functions only, so that a model loads without the code of this example.
    """

    def steps(strategy: str, *others: Any) -> Any:
        return make_pipeline(*([SimpleImputer(strategy=strategy)] if missing == "impute" else []), *others)

    log1p = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    plain = [name for name in columns.numeric if name not in columns.logged]
    parts = [
        ("numbers", steps("median", StandardScaler()), plain),
        ("logarithms", steps("median", log1p, StandardScaler()), columns.logged),
        ("categories", steps("most_frequent", one_hot), columns.categorical),
    ]
    return ColumnTransformer([part for part in parts if part[2]])


def check_n_clusters(table: Table, n_clusters: int, parameter: str) -> None:
    """Refuse more segments than the table has distinct rows, or as many as it has rows."""
    if n_clusters >= len(table.frame):
        raise bad(parameter, n_clusters, f"is too many for {len(table.frame)} rows: a segment needs several.")
    head = table.raw.head(10_000)  # nearly always enough to tell, and fast
    distinct = len(head.drop_duplicates())
    if distinct < n_clusters:
        distinct = len(table.raw.drop_duplicates())
    if distinct < n_clusters:
        raise bad(parameter, n_clusters, f"is more than the {distinct} distinct rows of the columns to fit on.")


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


def _refuse_unfit(
    frame: pd.DataFrame, columns: Columns, missing: str, rows: int, lacking: pd.Series, below: pd.Series
) -> None:
    for name in columns.fitted:
        values = frame[name].dropna()
        if values.empty or (values == values.iloc[0]).all():
            what = "is empty" if values.empty else f"is constant ({values.iloc[0]})"
            raise bad("columns", name, f"{what}: it tells no segments apart; give -P drop={name}.")
        if lacking[name] and missing == "refuse":
            raise bad(
                "columns",
                name,
                f"has {int(lacking[name]):,} missing values in {rows:,} rows: give -P missing=impute to fill in the "
                f"{'median' if name in columns.numeric else 'most frequent one'}, or -P drop={name}.",
            )
        if name in columns.logged and below[name]:
            raise bad("log_columns", name, f"has {int(below[name]):,} values of -1 or less, which log(1 + x) excludes.")
