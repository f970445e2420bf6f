"""Turn a table of customers into what K-Means learns from: columns to fit on, columns to describe, scaled numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
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

from support.inputs import model_inputs
from support.kinds import Kind, decide
from support.names import pick_names
from support.table import OpenedTable, absolute, bad, dataset_source, open_table, short_name
from support.texts import shown

MOST_CATEGORIES = 50  # of a column; one-hot encoding more makes a table of its own, and a profile that nobody reads


@dataclass(frozen=True)
class Selection:
    """What the user says about the table: the parameters of these names, as they are typed."""

    data: str
    columns: str
    drop: str
    profile: str
    log_columns: str
    categories: str
    missing: str
    kinds: str
    missing_values: str

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
    kinds: what each column holds and how it is written, decided on all its values.
    """

    numeric: list[str]
    logged: list[str]
    categorical: list[str]
    described: list[str]
    imputed: bool
    kinds: dict[str, Kind]

    @property
    def fitted(self) -> list[str]:
        return self.numeric + self.categorical

    @property
    def schema(self) -> Schema:
        """The columns to fit on, as MLflow describes the input of a model; optional where missing ones are imputed."""
        return self.schema_of(self.fitted, required=not self.imputed)

    def schema_of(self, names: list[str], required: bool = True) -> Schema:
        """Numbers (true and false are 1 and 0) as doubles, as an integer cannot be missing; all else as text."""
        numbers = ("number", "boolean")
        types = [DataType.double if self.kinds[name].kind in numbers else DataType.string for name in names]
        return Schema([ColSpec(type_, name, required) for type_, name in zip(types, names, strict=True)])


@dataclass(frozen=True)
class Tally:
    """What all rows of a table come to: how many there are, and the digest of the table.

    lacking: in how many each column to fit on has no value; below: in how many each of `logged` has no logarithm.
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
    opened: the table to read again; None where Spark reads it.
    """

    frame: pd.DataFrame
    rows: int
    columns: Columns
    preprocessing: ColumnTransformer
    Z: np.ndarray
    source: str
    dataset: MetaDataset
    opened: OpenedTable | None


def load_table(
    selection: Selection, random_state: int, batch_size: int | None = None, init_size: int | None = None
) -> Table:
    """Read a table, check it, and fit the preprocessing.

    random_state: seed of the sample.
    batch_size: rows in memory at a time; None reads the whole table at once.
    init_size: how many rows to keep, a uniform sample of all; None keeps every row.

    Raises click.BadParameter where the table or a name does not allow it.
    """
    opened = open_table(selection.data)
    columns = choose_columns(
        opened.names, selection, partial(decide, opened, selection.kinds, selection.missing_values)
    )
    for note in opened.notes:
        click.echo(note, err=True)
    keys, kept = np.empty(0), list[pd.DataFrame]()
    rows, lacking, below = 0, pd.Series(dtype=int), pd.Series(dtype=int)
    digest, generator = hashlib.sha256(), np.random.default_rng(random_state)
    for batch in opened.batches(batch_size, [*columns.fitted, *columns.described]):
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
    tally = Tally(rows, lacking, below, digest.hexdigest()[:8])
    return as_table(pd.concat(kept, ignore_index=True), tally, columns, selection, opened)


def as_table(
    frame: pd.DataFrame, tally: Tally, columns: Columns, selection: Selection, opened: OpenedTable | None = None
) -> Table:
    """Check the rows of a table and fit the preprocessing on them; `frame` and `opened` as in `Table`.

    Raises click.BadParameter where a column tells nothing, or has values that the selection does not allow.
    """
    for name in columns.fitted:
        _refuse_unfit(frame[name].dropna(), tally, columns)
    for name in [name for name in columns.described if not _describes(frame[name])]:
        click.echo(f"Column {name!r} has more than {MOST_CATEGORIES} different values: not described by it.", err=True)
        columns.described.remove(name)
    transformer = preprocessing(columns)
    Z = np.ascontiguousarray(transformer.fit_transform(frame[columns.fitted]), dtype="float64")
    # Not mlflow.data.from_pandas: it looks at every value in turn to infer the schema that is known here.
    dataset = MetaDataset(  # type: ignore[abstract]
        dataset_source(selection.data), name=short_name(selection.data), digest=tally.digest, schema=columns.schema
    )
    return Table(frame, tally.rows, columns, transformer, Z, absolute(selection.data), dataset, opened)


def batches(table: Table, batch_size: int) -> Iterator[np.ndarray]:
    """The preprocessed rows of a table, read again, a batch at a time."""
    if table.opened is None:
        raise ValueError("Spark reads this table.")
    row = 1
    for batch in table.opened.batches(batch_size, table.columns.fitted):
        X = model_inputs(batch, table.columns.schema, table.columns.kinds, first_row=row)
        yield table.preprocessing.transform(X)
        row += len(batch)


def prepared(batch: Any, columns: Columns, first_row: int = 1) -> pd.DataFrame:
    """The columns of a batch, rows of a pyarrow.Table or a DataFrame, to fit on and to describe by.

    first_row: the number of the first row in its file, for messages. Raises click.BadParameter for a wrong value.
    """
    schema = columns.schema_of([*columns.fitted, *columns.described])
    return model_inputs(batch, schema, columns.kinds, first_row=first_row)


def choose_columns(names: list[str], selection: Selection, decide_kinds: Callable[..., dict[str, Kind]]) -> Columns:
    """Decide by name and kind what is done with each column of a table.

    names: of all columns.
    decide_kinds: the kinds of the columns; takes `drop` and `asked`, lists of names, as `support.kinds.decide` does.

    Raises click.BadParameter where the selection does not fit the columns.
    """
    asked, dropped = pick_names("columns", selection.columns, names), pick_names("drop", selection.drop, names)
    named = [] if selection.profile == "none" else pick_names("profile", selection.profile, names)
    logged = pick_names("log_columns", selection.log_columns, names)
    kinds = decide_kinds(drop=dropped, asked=[*asked, *named])
    learnable = [name for name, kind in kinds.items() if kind.learnable]
    fitted = [name for name in asked or learnable if name not in dropped + named]
    if not fitted:
        raise bad("data", selection.data, "has no column to fit on.")
    for name in fitted:
        _refuse_kind(name, kinds[name], selection.categories)
    numeric = [name for name in fitted if kinds[name].kind in ("number", "boolean")]
    for name in logged:
        if name not in numeric:
            raise bad("log_columns", name, "is not one of the columns of numbers to fit on.")
    described = named if selection.profile else [name for name in learnable if name not in fitted]
    categorical = [name for name in fitted if name not in numeric]
    return Columns(numeric, logged, categorical, described, selection.missing == "impute", kinds)


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
    for some in (rows.head(10_000), rows):  # the first are nearly always enough to tell, and fast
        if (distinct := len(some.drop_duplicates())) >= n_clusters:
            return
    raise bad(parameter, n_clusters, f"is more than the {distinct} distinct rows of the columns to fit on.")


def _describes(values: pd.Series) -> bool:
    """Whether segments can be described by a column: numbers, or a few texts."""
    return pd.api.types.is_numeric_dtype(values) or values.nunique() <= MOST_CATEGORIES


def _refuse_kind(name: str, kind: Kind, categories: str) -> None:
    """Refuse to fit on a column that K-Means cannot measure."""
    if kind.kind == "category" and categories == "refuse":
        other = f"-P profile={name} to describe the segments by it, or -P drop={name} to ignore it."
        raise bad("columns", name, f"holds text: give -P categories=onehot to fit on it, {other}")
    if not kind.learnable:
        cure = {"identifier": "number", "text": "category"}.get(kind.kind)
        other = f", or give -P kinds={name}:{cure}" if cure else ""
        raise bad("columns", name, f"{kind.reason}: leave it out{other}.")


def _refuse_unfit(values: pd.Series, tally: Tally, columns: Columns) -> None:
    """Refuse a column to fit on. values: those that are there."""
    name = str(values.name)
    if values.empty or (values == values.iloc[0]).all():
        what = "is empty" if values.empty else f"is constant ({shown(values.iloc[0])})"
        raise bad("columns", name, f"{what}: it tells no segments apart; give -P drop={name}.")
    if name in columns.categorical and not _describes(values):
        distinct = values.nunique()
        raise bad("columns", name, f"holds {distinct:,} different texts, too many to encode: give -P drop={name}.")
    if tally.lacking[name] and not columns.imputed:
        filled = "median" if name in columns.numeric else "most frequent one"
        cure = f"give -P missing=impute to fill in the {filled}, or -P drop={name}."
        raise bad("columns", name, f"has {int(tally.lacking[name]):,} missing values in {tally.rows:,} rows: {cure}")
    if name in columns.logged and tally.below[name]:
        right = f"has {int(tally.below[name]):,} values of -1 or less, which log(1 + x) excludes."
        raise bad("log_columns", name, right)
