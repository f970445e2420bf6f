"""Convert a registered scikit-learn Pipeline to ONNX and register that beside it, once both give the same answers.

ONNX Runtime answers a single row for a small part of the processor time, because no DataFrame is made on the way. What
is registered is a model like any other (`onnx_model.py`), which `deploy` and `score` take.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from instances import all_rows, instances
from model_files import reason
from register import register_version
from support.entry_point import describe_run, run_command, say_where_to_look
from support.requirements import pinned
from support.table import bad, open_table
from versions import explained, find_version, quiet, versions

ALIAS = "onnx"
TOLERANCE = 1e-5  # of probabilities; of predicted numbers, relative to their size where that is above 1
OPSETS = {"": 21, "ai.onnx.ml": 3}  # the first in which trees take float64
MISSING = "\0missing"  # for a missing text, which ONNX does not have: no table holds this


def convert(pipeline: Pipeline, signature: ModelSignature) -> tuple[bytes, ModelSignature]:
    """Convert a fitted Pipeline to ONNX: the file's content, and the signature of that form.

    signature: that of the logged Pipeline, with named columns. The other has one tensor a column, numbers as float64,
    text and booleans as objects; the outputs are the same.

    Raises ValueError, in one line that names the step, where a step cannot be converted.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    kinds = {column.name: getattr(column.type, "name", str(column.type)) for column in signature.inputs.inputs}
    for name, kind in kinds.items():
        if kind not in ("double", "float", "long", "integer", "boolean", "string"):
            raise ValueError(f"column {name!r} is of type {kind}")
    numbers = {name: kind not in ("boolean", "string") for name, kind in kinds.items()}
    probabilities = hasattr(pipeline, "predict_proba")
    prepared = _prepared(pipeline, numbers)

    def to_onnx(part: Pipeline, options: dict[int, Any] | None = None) -> Any:
        return convert_sklearn(
            part,
            initial_types=[
                (name, (DoubleTensorType if number else StringTensorType)([None, 1]))
                for name, number in numbers.items()
            ],
            options=options,
            target_opset=OPSETS,
            custom_conversion_functions={SimpleImputer: _convert_imputer},
            custom_shape_calculators={SimpleImputer: _shape_of_imputed},
        )

    try:
        onnx = to_onnx(prepared, {id(prepared[-1]): {"zipmap": False}} if probabilities else None)
    except Exception as error:  # each converter has errors of its own
        why = f"is not converted: {reason(error).split('. ')[0].split(' with name=')[0]}"
        why = "has no converter" if "shape calculator" in str(error) else why
        raise ValueError(f"{_blamed(prepared, error, to_onnx)} {why}") from None
    dtypes = {name: np.dtype("float64" if number else object) for name, number in numbers.items()}
    tensors: list[Any] = [TensorSpec(dtype, (-1,), name) for name, dtype in dtypes.items()]
    params = ParamSchema([ParamSpec("predict_method", "string", "predict")]) if probabilities else None
    return onnx.SerializeToString(), ModelSignature(Schema(tensors), signature.outputs, params)  # type: ignore[arg-type]


def _blamed(pipeline: Pipeline, error: Exception, to_onnx: Callable[[Pipeline], Any]) -> str:
    """The step with which the conversion fails: that which the error names, else the first that cannot be added."""
    named = [each for each in _steps(pipeline) if re.search(rf"\b{type(each[1]).__name__}\b", str(error))]
    for number, step in enumerate(pipeline.steps, start=1):
        if named or number == len(pipeline.steps):
            break
        try:
            to_onnx(pipeline[:number])
        except Exception:  # each converter has errors of its own
            named = [step]
    name, blamed = (named or pipeline.steps)[-1]
    return f"step {name!r} ({type(blamed).__name__})"


def difference(pipeline: Pipeline, exported: Any, X: pd.DataFrame) -> str:
    """How the answers of a Pipeline and of its exported form differ on the rows of a table; empty where they are equal.

    exported: the loaded pyfunc model.
    """
    tensors = as_tensors(X)
    answers = [("predictions", pipeline.predict(X), exported.predict(tensors))]
    if hasattr(pipeline, "predict_proba"):
        probabilities = exported.predict(tensors, params={"predict_method": "predict_proba"})
        answers.append(("rows of probabilities", pipeline.predict_proba(X), probabilities))
    for what, expected, answered in answers:
        expected, answered = np.asarray(expected), np.asarray(answered)
        if expected.shape != answered.shape:
            return f"{what} of another shape, {answered.shape} instead of {expected.shape}"
        wrong = expected != answered
        if pd.api.types.is_float_dtype(expected):  # nan is wrong too
            wrong = ~(np.abs(answered - expected) <= TOLERANCE * np.maximum(1, np.abs(expected)))
        if count := int(wrong.reshape(len(X), -1).any(axis=1).sum()):
            return f"{count} of {len(X)} {what} differ"
    return ""


def as_tensors(X: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a table as the exported form takes them."""
    dtypes = {name: "float64" if pd.api.types.is_float_dtype(column) else object for name, column in X.items()}
    return {str(name): X[name].to_numpy(dtype=dtype) for name, dtype in dtypes.items()}


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
        loaded = mlflow.sklearn.load_model(uri)
        pipeline = loaded if isinstance(loaded, Pipeline) else make_pipeline(loaded)
        onnx, signature = convert(pipeline, info.signature)
    except ValueError as error:
        raise bad("model_uri", uri, f"cannot become ONNX: {reason(error).rstrip('.')}.") from None

    with mlflow.start_run(nested=True) as run:
        describe_run(run, f"ONNX of {original.name} version {original.version}", {"model_uri": model_uri, "data": data})
        logged = _checked_and_logged(pipeline, onnx, signature, X, uri)
    within = f", probabilities within {TOLERANCE:g}" if signature.params else ""
    same = f"predictions within {TOLERANCE:g}" if is_regressor(pipeline) else "equal predictions"
    equal = f"{same} on all {len(X):,} rows of {Path(data).name}{within}."
    description = f"ONNX form of version {original.version}: {equal}"
    version = register_version(f"models:/{logged.model_id}", original.name, description, ALIAS)
    for key, value in {"format": "onnx", "converted_from": str(original.version)}.items():
        MlflowClient().set_model_version_tag(version.name, version.version, key, value)
    return original, version, len(X)


def _checked_and_logged(
    pipeline: Pipeline, onnx: bytes, signature: ModelSignature, X: pd.DataFrame, uri: str
) -> ModelInfo:
    """Log the exported form in the active run, once it has given the same answers; else raise click.BadParameter."""
    classes = np.asarray(pipeline.classes_).tolist() if signature.params else []
    packages = ["mlflow", "numpy", "onnxruntime", "pandas"]
    packages += [name for name in ("httptools", "uvloop") if find_spec(name)]  # the scoring server answers faster
    others = X.columns[[not pd.api.types.is_float_dtype(dtype) for dtype in X.dtypes]]
    gaps = X.astype(dict.fromkeys(others, object)).mask(np.random.default_rng(0).random(X.shape) < 0.1)
    asked = {"": X}
    with suppress(Exception):  # an estimator that takes no missing values has an error of its own for them
        pipeline.predict(gaps)
        asked[", with a tenth of the values missing"] = gaps
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.onnx").write_bytes(onnx)
        form: dict[str, Any] = {
            "python_model": str(Path(__file__).with_name("onnx_model.py")),
            "artifacts": {"onnx": f"{folder}/model.onnx"},
            "model_config": {"missing": MISSING, "classes": classes},
            "signature": signature,
            "input_example": as_tensors(pd.concat([X.dropna(), X]).head(2)),
            "metadata": {"classes": classes} if classes else None,
            "pip_requirements": pinned(*packages),
        }
        mlflow.pyfunc.save_model(f"{folder}/model", **form)
        exported = mlflow.pyfunc.load_model(f"{folder}/model")
        for what, rows in asked.items():
            if found := difference(pipeline, exported, rows):
                step = type(pipeline[-1]).__name__
                raise bad("model_uri", uri, f"answers differently as ONNX: {found}{what}; its last step is {step}.")
        return mlflow.pyfunc.log_model(name="model", **form)


def _steps(estimator: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fitted estimators inside an estimator, with their names in the manner of `named_steps`, outermost first."""
    inner: list[Any] = []
    if isinstance(estimator, Pipeline):
        inner = estimator.steps
    elif isinstance(estimator, ColumnTransformer):
        inner = estimator.transformers_
    elif isinstance(estimator, FeatureUnion):
        inner = estimator.transformer_list
    for each, step, *_ in inner:
        if isinstance(step, BaseEstimator):
            path = f"{name}.{each}" if name else each
            yield path, step
            yield from _steps(step, path)


def _prepared(pipeline: Pipeline, numbers: dict[str, bool]) -> Pipeline:
    """A copy that ONNX answers as scikit-learn answers the original: text for categories, float32 where trees split."""
    from skl2onnx.sklapi import CastTransformer

    prepared = copy.deepcopy(pipeline)
    for _, step in _steps(prepared):
        if hasattr(step, "categories_"):
            step.categories_ = [_as_text(categories) for categories in step.categories_]
        if getattr(step, "handle_unknown", "") == "infrequent_if_exist" and not _has_rare(step):
            step.handle_unknown = "ignore"  # then the same, and ONNX knows it
    steps, trees = list(prepared.steps), list(_trees(prepared[-1]))
    for tree in trees:
        # scikit-learn compares float32 values with float64 thresholds, ONNX with float32 ones: rounded down, equal.
        thresholds = tree.threshold.astype("float32")
        above = thresholds > tree.threshold
        tree.threshold[:] = np.where(above, np.nextafter(thresholds, np.float32(-np.inf)), thresholds)
    if trees or isinstance(prepared[-1], HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        steps.insert(len(steps) - 1, ("as float32", CastTransformer(dtype=np.float32)))
    if not isinstance(steps[0][1], ColumnTransformer):  # the one step that takes several inputs
        columns = ColumnTransformer([("all", "passthrough", list(numbers))])
        row = pd.DataFrame({name: [0.0 if number else "text"] for name, number in numbers.items()})
        steps.insert(0, ("columns", columns.fit(row)))
    return Pipeline(steps)


def _has_rare(encoder: Any) -> bool:
    return any(rare is not None for rare in getattr(encoder, "infrequent_categories_", []))


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
