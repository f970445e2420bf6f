"""What a served version learnt from: its training rows, read as it read them, and checked by their digest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.types import DataType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sklearn.model_selection import train_test_split

from support.inputs import kinds_of, model_inputs, to_frame
from support.kinds import Kind, decide
from support.names import find_name
from support.table import absolute, bad, is_catalog_name, open_table

CHAMPION = "champion"
WHOLE = {"integer": "int32", "long": "int64"}  # MLflow's names of types


@dataclass(frozen=True)
class Served:
    """A registered version: what MLflow knows of its model, the run that logged it, and the kinds of its columns."""

    version: ModelVersion
    info: ModelInfo
    run: Run
    kinds: dict[str, Kind]

    @property
    def uri(self) -> str:
        """The version's URI: models:/<name>/<version>."""
        return f"models:/{self.version.name}/{self.version.version}"

    @property
    def columns(self) -> list[str]:
        """The columns that the model takes."""
        return list(self.info.signature.inputs.input_names())

    @property
    def target(self) -> str:
        """The column that it predicts, where its metadata say so; otherwise empty."""
        return str((self.info.metadata or {}).get("target", ""))

    def kind(self, column: str) -> str:
        """What a column is compared as: a number, a category or a boolean; empty for dates, lists and objects."""
        if column in self.kinds:
            return self.kinds[column].kind
        whole = {each.name for each in self.info.signature.inputs if each.type in (DataType.integer, DataType.long)}
        return "number" if column in whole else ""

    def inputs(self, rows: pd.Series) -> pd.DataFrame:
        """Recorded rows (dictionaries) as the model takes them: those of its columns that were recorded at all."""
        frame = pd.DataFrame(rows.tolist(), index=pd.RangeIndex(len(rows)))
        recorded = [each for each in self.info.signature.inputs if find_name(each.name, map(str, frame)) is not None]
        return model_inputs(frame, SimpleNamespace(inputs=recorded), self.kinds, parameter="record")


def find_served(name: str, version: str) -> Served:
    """A version of a registered model by its number, or by an alias such as champion.

    Raises click.BadParameter where it is not there, or its model names no columns or no run.
    """
    client = MlflowClient()
    try:
        number = client.get_model_version(name, version) if version.isdigit() else None
        found = number or client.get_model_version_by_alias(name, version)
        info = mlflow.models.get_model_info(f"models:/{name}/{found.version}")
        run = client.get_run(str(info.run_id or found.run_id))
    except (MlflowException, OSError) as error:
        raise bad("name", f"{name}, version {version}", f"cannot be found: {str(error).splitlines()[0]}") from None
    if info.signature is None or info.signature.inputs is None or not info.signature.inputs.has_input_names():
        raise bad("name", f"{name}, version {version}", "has no signature that names its columns: log it with one.")
    return Served(found, info, run, kinds_of(info.metadata, info.signature.inputs))


@dataclass(frozen=True)
class Reference:
    """The training rows of a version.

    X: as the model takes them. y: the truth, where the version says which column it predicts.
    held_out, held_out_y: the rows that its run kept for the test, where they could be found; otherwise empty.
    source: where the table lies. doubt: why the rows may be others than those that it learnt from; empty where their
        digest is the recorded one.
    """

    X: pd.DataFrame
    y: pd.Series
    source: str
    doubt: str = ""
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    held_out_y: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))


def read_reference(served: Served, source: str = "", target: str = "") -> Reference:
    """The training data that the run of a version has logged as its input.

    source: where the table lies now; empty for where the run found it.
    target: the column that the version predicts; empty for what its metadata say.

    Raises click.BadParameter where the run names no table and `source` is empty, or the table is not there.
    """
    used, target = _training_input(served.run), target or served.target
    place = source or _place(used)
    if not place or (not source and absolute(place) != place):  # relative to a folder that nobody has noted
        raise bad("reference", "", f"is needed: where {served.uri} has found its training data is not recorded.")
    frame, kinds = _read(served, place, target, "reference", list(_types(used)))
    train, test, doubt = _as_recorded(frame, used, target, _parameters(served.run))
    parts = [model_inputs(part[served.columns], served.info.signature.inputs, kinds) for part in (train, test)]
    truths = [part[target] if target in part else pd.Series(dtype=object) for part in (train, test)]
    return Reference(parts[0], truths[0], place, doubt, parts[1], truths[1])


def read_labelled(served: Served, place: str, target: str, parameter: str) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of another table as the version takes them, and their truth; errors as in `read_reference`."""
    frame, kinds = _read(served, place, target, parameter)
    if target not in frame:
        raise bad(parameter, place, f"has no column {target!r}.")
    return model_inputs(frame[served.columns], served.info.signature.inputs, kinds), frame[target]


def _read(
    served: Served, place: str, target: str, parameter: str, more: Iterable[str] = ()
) -> tuple[pd.DataFrame, dict[str, Kind]]:
    """The columns that a version takes, and the target and `more` where they are there, by their kinds."""
    table = open_table(place, parameter)
    lacking = [name for name in served.columns if name not in table.names]
    if lacking:
        raise bad(parameter, place, f"has no column {lacking[0]!r}, which {served.uri} takes.")
    kinds = {**kinds_of(served.info.metadata, served.info.signature.inputs, table)}
    known = [name for name in dict.fromkeys([target, *served.columns, *more]) if name in table.names]
    kinds |= {name: kind for name, kind in decide(table, names=known, asked=known).items() if name not in kinds}
    frame = to_frame(table, {name: kinds[name] for name in known})
    if target in frame and kinds[target].kind == "number" and not (frame[target] % 1).any():
        frame[target] = frame[target].astype("int64")  # classes, as classification reads them
    return frame, kinds


def _training_input(run: Run) -> DatasetInput | None:
    """The table that a run learnt from."""
    found: dict[str, DatasetInput] = {}
    for used in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in used.tags if tag.key == "mlflow.data.context"), "")
        found.setdefault(context, used)
    return found.get("training") or (next(iter(found.values())) if len(found) == 1 else None)


def _place(used: DatasetInput | None) -> str:
    """Where a recorded table lies, as a path, a URL or catalog.schema.table; empty where that is not recorded."""
    try:
        source = dict(json.loads(used.dataset.source)) if used else {}
    except (ValueError, TypeError):  # of a kind that MLflow does not know
        source = {}
    place = str(next((source[key] for key in ("uri", "url", "table_name", "path") if source.get(key)), ""))
    return place if is_catalog_name(place) else place.removeprefix("file://")


def _parameters(run: Run) -> dict[str, str]:
    """The parameters of a run, and those of the runs above it: `compare` splits the table once for all models."""
    found = dict(run.data.params)
    while above := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
        run = MlflowClient().get_run(above)
        found = run.data.params | found
    return found


def _as_recorded(
    frame: pd.DataFrame, used: DatasetInput | None, target: str, parameters: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The rows whose digest the run has recorded, those that it kept for the test, and what is in doubt.

    A run that splits its table as scikit-learn does is followed by its parameters test_size and random_state.
    """
    none, digest, types = frame.iloc[:0], used.dataset.digest if used else "", _types(used)
    rows = frame[[name for name in types if name in frame] or list(map(str, frame))]
    whole = [name for name, kind in types.items() if kind in WHOLE and name in rows and not rows[name].isna().any()]
    rows = rows.astype({name: WHOLE[types[name]] for name in whole})  # the reader makes floats of them
    if used and _digest(rows, used) == digest:
        return rows, none, ""
    if target in rows and {"test_size", "random_state"} <= parameters.keys():
        size, state = float(parameters["test_size"]), int(float(parameters["random_state"]))
        try:
            train, test = train_test_split(rows, test_size=size, random_state=state, stratify=rows[target])
        except ValueError:  # a class with one row: it was another table
            return rows, none, "the table has changed"
        if used and _digest(train, used) == digest:
            return train, test, ""
    why = "their digest is not the recorded one" if digest else "the run has recorded no digest"
    return rows, none, f"{why}, so all rows of the table are used"


def _types(used: DatasetInput | None) -> dict[str, str]:
    """The columns of a recorded table in its order, with MLflow's name of their type."""
    schema = json.loads(used.dataset.schema or "{}").get("mlflow_colspec") if used else None
    return {str(column["name"]): str(column["type"]) for column in schema or []}


def _digest(rows: pd.DataFrame, used: DatasetInput) -> str:
    return from_pandas(rows, name=used.dataset.name).digest


def say_doubt(reference: Reference, served: Served) -> None:
    """Say in one line whether the reference is what the version learnt from."""
    if reference.doubt:
        told = f"The rows of {reference.source} could not be verified as those that {served.uri} learnt from:"
        click.echo(f"Warning: {told} {reference.doubt}.", err=True)
    else:
        click.echo(f"Reference: {len(reference.X):,} training rows of {served.uri}, verified by their digest.")


def log_metrics(served: Served, values: Mapping[str, float], step: int | None = None) -> None:
    """Log metrics to the active run, tied to the version's model as well, where the user may write to that one."""
    try:
        mlflow.log_metrics(dict(values), step, model_id=served.info.model_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        mlflow.log_metrics(dict(values), step)


def answers_of(served: Served, X: pd.DataFrame) -> pd.Series:
    """What the version answers to rows, as its endpoint would. Raises whatever its packages or its model raise."""
    answers = mlflow.pyfunc.load_model(served.uri).predict(X)
    if isinstance(answers, pd.DataFrame):
        answers = answers.iloc[:, 0]
    return pd.Series(np.asarray(answers).reshape(len(X), -1)[:, 0], dtype=object)
