"""Convert a registered scikit-learn Pipeline to ONNX and register that beside it, once both give the same answers.

ONNX Runtime answers a single row for a small part of the processor time, because no DataFrame is made on the way. What
is registered is a model like any other (`onnx_model.py`), which `deploy` and `score` take.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline

from instances import all_rows, instances
from model_files import reason
from register import register_version
from support.entry_point import describe_run, run_command, say_where_to_look
from support.table import bad, open_table
from versions import explained, find_version, quiet, versions

ALIAS = "onnx"
TOLERANCE = 1e-5  # of probabilities; of a regressor's predictions, relative to their size where that is above 1
OPSETS = {"": 21, "ai.onnx.ml": 3}  # the first in which trees take float64
MISSING = "\0missing"  # for a missing text, which ONNX does not have: no table holds this


def convert(pipeline: BaseEstimator, signature: ModelSignature) -> tuple[bytes, ModelSignature]:
    """Convert a fitted Pipeline to ONNX: the file's content, and the signature of that form.

    signature: that of the logged Pipeline, with named columns. The other has one tensor a column, numbers as float64,
    text and booleans as objects; the outputs are the same.

    Raises ValueError, in one line that names the step, where a step cannot be converted.
    """
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    numbers = {column.name: _is_number(column) for column in signature.inputs.inputs}
    types = [(name, (DoubleTensorType if number else StringTensorType)([None, 1])) for name, number in numbers.items()]
    probabilities = hasattr(pipeline, "predict_proba")
    prepared = _prepared(pipeline, numbers)
    try:
        onnx = _to_onnx(prepared, types, {id(prepared[-1]): {"zipmap": False}} if probabilities else None)
    except Exception as error:  # each converter has errors of its own
        why = f"is not converted: {reason(error).split('. ')[0].split(' with name=')[0]}"
        why = "has no converter" if "shape calculator" in str(error) else why
        raise ValueError(f"step {_culprit(prepared, types, error)} {why}") from None
    dtypes = {name: np.dtype("float64" if number else object) for name, number in numbers.items()}
    tensors: list[Any] = [TensorSpec(dtype, (-1,), name) for name, dtype in dtypes.items()]
    params = ParamSchema([ParamSpec("predict_method", "string", "predict")]) if probabilities else None
    return onnx.SerializeToString(), ModelSignature(Schema(tensors), signature.outputs, params)  # type: ignore[arg-type]


def difference(pipeline: BaseEstimator, exported: Any, X: pd.DataFrame) -> str:
    """How the answers of a Pipeline and of its exported form differ on the rows of a table; empty where they are equal.

    exported: the loaded pyfunc model.
    """
    tensors = as_tensors(X)
    expected, answered = pipeline.predict(X), exported.predict(tensors)
    if pd.api.types.is_float_dtype(np.asarray(expected)):
        error = float(np.max(np.abs(answered - expected) / np.maximum(1, np.abs(expected))))
        return "" if error <= TOLERANCE else f"predictions differ by up to {error:.2g}"
    wrong = int((np.asarray(answered) != np.asarray(expected)).sum())
    if wrong:
        return f"{wrong} of {len(X)} labels differ"
    if not hasattr(pipeline, "predict_proba"):
        return ""
    probabilities = exported.predict(tensors, params={"predict_method": "predict_proba"}).to_numpy()
    errors = np.abs(probabilities - pipeline.predict_proba(X)).max(axis=1)
    wrong = int((~(errors <= TOLERANCE)).sum())  # nan is wrong too
    return f"probabilities differ by up to {errors.max():.2g} ({wrong} of {len(X)} rows)" if wrong else ""


def as_tensors(X: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a table as the exported form takes them."""
    return {
        str(name): column.to_numpy(dtype="float64" if pd.api.types.is_float_dtype(column) else object)
        for name, column in X.items()
    }


def with_gaps(X: pd.DataFrame) -> pd.DataFrame:
    """The same rows with a tenth of the values missing."""
    others = X.columns[[not pd.api.types.is_float_dtype(dtype) for dtype in X.dtypes]]
    return X.astype(dict.fromkeys(others, object)).mask(np.random.default_rng(0).random(X.shape) < 0.1)


def export_version(model_uri: str, data: str) -> tuple[ModelVersion, ModelVersion, int]:
    """Convert a registered version and register the result; returns the original, the new version and the rows checked.

    A version that has been converted already is not converted again.

    Raises click.ClickException where it cannot be converted or answers differently: nothing has been registered.
    """
    original = find_version(model_uri)
    uri = f"models:/{original.name}/{original.version}"
    table = open_table(data)  # first: a wrong path is refused, also where there is nothing left to do
    for version in versions(original.name):
        if version.tags.get("converted_from") == str(original.version):
            return original, version, 0
    info = mlflow.models.get_model_info(uri)
    if "sklearn" not in info.flavors:
        raise bad("model_uri", model_uri, f"is no scikit-learn model; its flavours: {', '.join(info.flavors)}.")
    if info.signature is None or not info.signature.inputs.has_input_names() or info.signature.inputs.is_tensor_spec():
        raise bad("model_uri", model_uri, "has no signature with named columns: log it with one.")
    X = instances(table, all_rows(table), info.signature.inputs, info.metadata)
    try:
        pipeline = mlflow.sklearn.load_model(uri)
        onnx, signature = convert(pipeline, info.signature)
    except ValueError as error:
        raise bad("model_uri", uri, f"cannot become ONNX: {reason(error).rstrip('.')}.") from None

    with mlflow.start_run(nested=True) as run:
        describe_run(run, f"ONNX of {original.name} version {original.version}", {"model_uri": model_uri, "data": data})
        logged = _checked_and_logged(pipeline, onnx, signature, X, uri)
    within = f", probabilities within {TOLERANCE:g}" if signature.params else ""
    equal = f"equal predictions on all {len(X):,} rows of {Path(data).name}{within}."
    description = f"ONNX form of version {original.version}: {equal}"
    version = register_version(f"models:/{logged.model_id}", original.name, description, ALIAS)
    for key, value in {"format": "onnx", "converted_from": str(original.version)}.items():
        MlflowClient().set_model_version_tag(version.name, version.version, key, value)
    return original, version, len(X)


def _checked_and_logged(
    pipeline: BaseEstimator, onnx: bytes, signature: ModelSignature, X: pd.DataFrame, uri: str
) -> ModelInfo:
    """Log the exported form in the active run, once it has given the same answers.

    Raises click.BadParameter where it answers differently: nothing is logged.
    """
    classes = np.asarray(pipeline.classes_).tolist() if signature.params else []
    whole = X.dropna().head(2)
    packages = ["mlflow", "numpy", "onnxruntime", "pandas"]
    packages += [name for name in ("httptools", "uvloop") if find_spec(name)]  # the scoring server answers faster
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.onnx").write_bytes(onnx)
        form: dict[str, Any] = {
            "python_model": str(Path(__file__).with_name("onnx_model.py")),
            "artifacts": {"onnx": f"{folder}/model.onnx"},
            "model_config": {"missing": MISSING, "classes": classes},
            "signature": signature,
            "input_example": as_tensors(whole if len(whole) else X.head(2)),
            "metadata": {"classes": classes} if classes else None,
            "pip_requirements": [f"{name}=={installed(name)}" for name in packages],
        }
        mlflow.pyfunc.save_model(f"{folder}/model", **form)
        exported = mlflow.pyfunc.load_model(f"{folder}/model")
        found = difference(pipeline, exported, X)
        if not found and _takes_gaps(pipeline, X):
            found = difference(pipeline, exported, with_gaps(X))
            found = f"{found}, with a tenth of the values missing" if found else ""
        if found:
            step = _last_step(pipeline)
            raise bad("model_uri", uri, f"answers differently as ONNX: {found}; its last step is {step}.")
        return mlflow.pyfunc.log_model(name="model", **form)


def _takes_gaps(pipeline: BaseEstimator, X: pd.DataFrame) -> bool:
    try:
        pipeline.predict(with_gaps(X))
    except Exception:  # each estimator has errors of its own for missing values
        return False
    return True


def _is_number(column: Any) -> bool:
    kind = column.type.name
    if kind not in ("double", "float", "long", "integer", "boolean", "string"):
        raise ValueError(f"column {column.name!r} is of type {kind}")
    return kind not in ("boolean", "string")


def _to_onnx(estimator: BaseEstimator, types: list[tuple[str, Any]], options: dict[int, Any] | None = None) -> Any:
    from skl2onnx import convert_sklearn

    return convert_sklearn(
        estimator,
        initial_types=types,
        options=options,
        target_opset=OPSETS,
        custom_conversion_functions={SimpleImputer: _convert_imputer},
        custom_shape_calculators={SimpleImputer: _shape_of_imputed},
    )


def _steps(estimator: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fitted estimators inside an estimator, with their names in the manner of `named_steps`, outermost first."""
    yield name or type(estimator).__name__, estimator
    inner: list[tuple[str, Any]] = []
    if isinstance(estimator, Pipeline):
        inner = estimator.steps
    elif isinstance(estimator, ColumnTransformer):
        inner = [(each, transformer) for each, transformer, _ in estimator.transformers_]
    elif isinstance(estimator, FeatureUnion):
        inner = estimator.transformer_list
    for each, step in inner:
        if isinstance(step, BaseEstimator):
            yield from _steps(step, f"{name}.{each}" if name else each)


def _last_step(pipeline: BaseEstimator) -> str:
    return type(pipeline[-1] if isinstance(pipeline, Pipeline) else pipeline).__name__


def _culprit(pipeline: Pipeline, types: list[tuple[str, Any]], error: Exception) -> str:
    """The step with which the conversion fails: that which the error names, else the first that cannot be added."""
    for name, step in _steps(pipeline):
        if str(type(step)) in str(error):
            return f"{name!r} ({type(step).__name__})"
    for number, (name, step) in enumerate(pipeline.steps[:-1], start=1):
        try:
            _to_onnx(pipeline[:number], types)
        except Exception:  # each converter has errors of its own
            return f"{name!r} ({type(step).__name__})"
    return f"{pipeline.steps[-1][0]!r} ({_last_step(pipeline)})"


def _prepared(pipeline: BaseEstimator, numbers: dict[str, bool]) -> Pipeline:
    """A copy that ONNX answers as scikit-learn answers the original: text for categories, float32 where trees split."""
    from skl2onnx.sklapi import CastTransformer

    prepared = copy.deepcopy(pipeline)
    for _, step in _steps(prepared):
        if hasattr(step, "categories_"):
            step.categories_ = [_as_text(categories) for categories in step.categories_]
    steps = list(prepared.steps) if isinstance(prepared, Pipeline) else [(type(prepared).__name__, prepared)]
    final = steps[-1][1]
    trees = list(_trees(final))
    for tree in trees:
        # scikit-learn compares float32 values with float64 thresholds, ONNX with float32 ones: rounded down, equal.
        thresholds = tree.threshold.astype("float32")
        above = thresholds > tree.threshold
        tree.threshold[:] = np.where(above, np.nextafter(thresholds, np.float32(-np.inf)), thresholds)
    if trees or isinstance(final, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        steps.insert(len(steps) - 1, ("as float32", CastTransformer(dtype=np.float32)))
    if not isinstance(steps[0][1], ColumnTransformer):  # the one step that takes several inputs
        columns = ColumnTransformer([("all", "passthrough", list(numbers))])
        row = pd.DataFrame({name: [0.0 if number else "text"] for name, number in numbers.items()})
        steps.insert(0, ("columns", columns.fit(row)))
    return Pipeline(steps)


def _as_text(categories: np.ndarray) -> np.ndarray:
    if categories.dtype.kind not in "Ob":
        return categories
    return np.array([MISSING if pd.isna(each) else str(each) for each in categories], dtype=object)


def _trees(estimator: Any) -> Iterator[Any]:
    if hasattr(estimator, "tree_"):
        yield estimator.tree_
    for each in np.ravel(getattr(estimator, "estimators_", [])):
        yield from _trees(each)


def _shape_of_imputed(operator: Any) -> None:
    operator.outputs[0].type = type(operator.inputs[0].type)([None, len(operator.raw_operator.statistics_)])


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A SimpleImputer in standard operators: the one that skl2onnx takes knows neither float64 nor missing text."""
    from skl2onnx.algebra.onnx_ops import OnnxEqual, OnnxIsNaN, OnnxWhere
    from skl2onnx.common.data_types import StringTensorType

    X, statistics, opset = operator.inputs[0], operator.raw_operator.statistics_, container.target_opset
    if isinstance(X.type, StringTensorType):
        missing = OnnxEqual(X, np.array([MISSING]), op_version=opset)
        fill = np.array([statistics], dtype=str)
    else:
        missing = OnnxIsNaN(X, op_version=opset)
        fill = np.array([statistics], dtype="float64")
    OnnxWhere(missing, fill, X, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)


@click.command()
@click.option("--model_uri", default="models:/churn@champion", help="models:/<name>@<alias> or /<version>.")
@click.option("--data", default="data/churn_validation.csv", help="Path or URL of rows on which both must agree.")
def export_onnx(model_uri: str, data: str) -> None:
    """Convert a registered scikit-learn model to ONNX, and register that beside it."""
    quiet()
    lacking = [name for name in ("onnx", "onnxruntime", "skl2onnx") if find_spec(name) is None]
    if lacking:
        raise click.ClickException(
            f"{', '.join(lacking)} cannot be imported: install this project's requirements-onnx.txt"
        )
    with explained():
        original, version, rows = export_version(model_uri, data)
        if not rows:
            click.echo(f"Version {original.version} of {original.name} is registered as ONNX already.")
        else:
            click.echo(f"Version {original.version} of {original.name} and its ONNX form agree on {rows:,} rows.")
        click.echo(f"models:/{version.name}/{version.version} is its ONNX form.")
        say_where_to_look()


if __name__ == "__main__":
    run_command(export_onnx)
