"""Compare what two runs recorded: parameters, datasets, metrics, models, and the runs below them."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.models import Model

from children import children_of

ABSENT = "(absent)"
# These may explain a difference; a run is reproduced without them being the same.
ENVIRONMENT = ("requirement", "python")
# Of these at least one must be there, or nothing shows that a run was reproduced.
EVIDENCE = ("dataset", "metric", "signature", "prediction")


@dataclass(frozen=True)
class Row:
    """One thing that was compared. `run`: the path of run names below the run in question, which is the empty one."""

    run: str
    kind: str
    name: str
    original: str
    again: str
    same: bool


@dataclass(frozen=True)
class Comparison:
    """How two runs are compared.

    rtol, atol: relative and absolute tolerance for metrics and predictions; with both 0 they must be equal.
    ignore: patterns of the names of metrics that are not compared.
    env_manager: makes the environment in which a model predicts that cannot be loaded here; local for none.
    folder: for copies of the models.
    """

    rtol: float
    atol: float
    ignore: list[str]
    env_manager: str
    folder: Path

    def rows(self, original: Run, again: Run, path: str = "") -> Iterator[Row]:
        """All that is compared of two runs and, one by one, of the runs below them."""
        yield from self._named(path, "parameter", dict(original.data.params), dict(again.data.params))
        yield from self._named(path, "dataset", _digests(original), _digests(again))
        yield from self._metrics(path, original.data.metrics, again.data.metrics)
        yield from self._models(path, original, again)
        for one, other in pairs(children_of(original), children_of(again)):
            name = (one or other).info.run_name  # type: ignore[union-attr]
            below = f"{path}/{name}".strip("/")
            if one and other:
                status, now = one.info.status, other.info.status
                yield Row(below, "run", "status", status, now, status == now)
                yield from self.rows(one, other, below)
            else:
                status, now = (run.info.status if run else ABSENT for run in (one, other))
                yield Row(below, "run", "status", status, now, False)

    def alike(self, one: Any, other: Any) -> bool:
        """Whether two values are the same: numbers within the tolerance, everything else exactly."""
        one, other = _plain(one), _plain(other)
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self.alike(one[key], other[key]) for key in one)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.alike, one, other))
        if isinstance(one, float | int) and isinstance(other, float | int):
            if math.isnan(one) or math.isnan(other):
                return math.isnan(one) and math.isnan(other)
            return math.isclose(one, other, rel_tol=self.rtol, abs_tol=self.atol)
        return bool(one == other)

    def _named(self, path: str, kind: str, one: dict[str, str], other: dict[str, str]) -> Iterator[Row]:
        for name in dict.fromkeys([*one, *other]):
            value, now = one.get(name, ABSENT), other.get(name, ABSENT)
            yield Row(path, kind, name, value, now, value == now)

    def _metrics(self, path: str, one: dict[str, float], other: dict[str, float]) -> Iterator[Row]:
        for name in sorted({*one, *other}):
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.ignore):
                continue
            there = name in one and name in other
            values = [repr(metrics[name]) if name in metrics else ABSENT for metrics in (one, other)]
            yield Row(path, "metric", name, values[0], values[1], there and self.alike(one[name], other[name]))

    def _models(self, path: str, original: Run, again: Run) -> Iterator[Row]:
        first, second = _models_of(original), _models_of(again)
        for name in dict.fromkeys([*first, *second]):
            if name not in first or name not in second:
                there = ["there" if name in models else ABSENT for models in (first, second)]
                yield Row(path, "model", name, there[0], there[1], False)
                continue
            folders = [self._download(uri, number) for number, uri in enumerate((first[name], second[name]))]
            models = [Model.load(str(folder)) for folder in folders]
            if any(model.signature for model in models):
                signature, now = (json.dumps(model.signature and model.signature.to_dict()) for model in models)
                yield Row(path, "signature", name, signature, now, signature == now)
            yield from self._prediction(path, name, folders, models)
            yield from self._named(path, "requirement", _requirements(folders[0]), _requirements(folders[1]))
            yield from self._named(path, "python", _python(folders[0]), _python(folders[1]))

    def _download(self, uri: str, number: int) -> Path:
        folder = self.folder / f"{uri.rpartition('/')[2]}_{number}"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))

    def _prediction(self, path: str, name: str, folders: list[Path], models: list[Model]) -> Iterator[Row]:
        """What both models predict on the input example of the original."""
        if models[0].saved_input_example_info is None:
            return
        try:
            try:
                example = models[0].load_input_example(str(folders[0]))
                params = models[0].load_input_example_params(str(folders[0]))
                predicted = [mlflow.pyfunc.load_model(str(each)).predict(example, params=params) for each in folders]
            except Exception:  # whatever a foreign model needs that is not here
                if self.env_manager == "local":
                    raise
                predicted = [self._predict_elsewhere(each, folders[0]) for each in folders]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            yield Row(path, "prediction", name, "not compared", f"cannot be predicted: {reason}", False)
            return
        shown = [" ".join(str(_plain(each)).split())[:100] for each in predicted]
        yield Row(path, "prediction", name, shown[0], shown[1], self.alike(*predicted))

    def _predict_elsewhere(self, model: Path, original: Path) -> Any:
        """What a model predicts on the example of the original, in an environment of its own."""
        output = model.with_name("predicted.json")
        mlflow.models.predict(
            str(model),
            input_path=str(original / "serving_input_example.json"),
            content_type="json",
            output_path=str(output),
            env_manager=self.env_manager,
        )
        return json.loads(output.read_text())["predictions"]


def pairs(originals: list[Run], agains: list[Run]) -> list[tuple[Run | None, Run | None]]:
    """Which run stands for which: the ones of the same name, and of the others the first for the first, and so on."""
    left = list(agains)
    matched: dict[str, Run] = {}
    for original in originals:
        found = next((again for again in left if again.info.run_name == original.info.run_name), None)
        if found:
            matched[original.info.run_id] = found
            left.remove(found)
    result: list[tuple[Run | None, Run | None]] = []
    for original in originals:
        result.append((original, matched.get(original.info.run_id) or (left.pop(0) if left else None)))
    return result + [(None, again) for again in left]


def _digests(run: Run) -> dict[str, str]:
    digests = {}
    for item in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), "")
        digests[f"{item.dataset.name} {context}".strip()] = item.dataset.digest
    return digests


def _models_of(run: Run) -> dict[str, str]:
    """The URIs of the models that a run logged, by name; a second one of a name is `<name> 2`."""
    models: dict[str, str] = {}
    for output in run.outputs.model_outputs if run.outputs else []:
        name = MlflowClient().get_logged_model(output.model_id).name
        number = 1 + sum(each.partition(" ")[0] == name for each in models)
        models[name if number == 1 else f"{name} {number}"] = f"models:/{output.model_id}"
    return models


def _requirements(model: Path) -> dict[str, str]:
    """The pinned requirements of a model: the version by the package's name."""
    file = model / "requirements.txt"
    lines = [line.strip() for line in file.read_text().splitlines()] if file.exists() else []
    split = [line.partition("==") for line in lines if line and not line.startswith(("#", "-"))]
    return {name: version or "(not pinned)" for name, _, version in split}


def _python(model: Path) -> dict[str, str]:
    file = model / "python_env.yaml"
    return {"python": str(yaml.safe_load(file.read_text())["python"])} if file.exists() else {}


def _plain(value: Any) -> Any:
    """A prediction of any type as lists, dicts and scalars."""
    if isinstance(value, pd.DataFrame):
        return {str(name): value[name].tolist() for name in value}
    if isinstance(value, np.ndarray | pd.Series | np.generic):
        return value.tolist()
    return value
