"""Read from the tracking store what a run recorded, with the runs below it, and ask its models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PROJECT_ENTRY_POINT

from children import children_of
from content import Unseen, digest, plain

# Of a model's files these say how it was packed, not what it learned; an example is compared by its predictions.
PACKING = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta")
DIFF = "git.diff"  # of a working tree that was dirty, which the report says


@dataclass(frozen=True)
class RecordedModel:
    """A model that a run logged.

    inside: the digest of each file of the model that holds what was learned (not MLmodel and requirements).
    requirements: the version of each package that it is pinned to; `python` as well.
    config: the `model_config` that it was logged with.
    folder: a local copy.
    """

    name: str
    uri: str
    signature: dict[str, Any] | None = None
    has_example: bool = False
    inside: dict[str, str] = field(default_factory=dict)
    requirements: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """What a run recorded.

    start: seconds since 1970.
    datasets: the name, context and digest of each; a run may have several of one name.
    metrics: for each the steps and values of its history, by step.
    artifacts: where each file of the run lies, by its path in the run.
    below: the runs below it, the first started first.
    """

    run_id: str
    name: str
    status: str = "FINISHED"
    commit: str = ""
    entry_point: str = ""
    start: float = 0.0
    parameters: dict[str, str] = field(default_factory=dict)
    datasets: list[tuple[str, str, str]] = field(default_factory=list)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    models: list[RecordedModel] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    below: list[Recorded] = field(default_factory=list)

    def tree(self) -> Iterator[Recorded]:
        """The run and all below it."""
        yield self
        for run in self.below:
            yield from run.tree()


@dataclass(frozen=True)
class Answers:
    """What two models predict on one example, and what they hold: a pair each; None and a reason where unknown."""

    predictions: tuple[Any, Any] | None = None
    fitted: tuple[Any, Any] | None = None
    why: str = ""


def read(run: Run) -> Recorded:
    """Everything that is compared of a run and of the runs below it."""
    files = _artifacts(run)
    models, folders = _models(run), [Path(path).parent for path in files if Path(path).name == "MLmodel"]
    for folder in folders:  # as clients of MLflow 2 log them: a folder among the artifacts
        models.append(_described(folder.as_posix(), str(files[(folder / "MLmodel").as_posix()].parent)))
    own = {path: file for path, file in files.items() if not any(Path(path).is_relative_to(each) for each in folders)}
    return Recorded(
        run.info.run_id,
        str(run.info.run_name),
        run.info.status,
        run.data.tags.get(MLFLOW_GIT_COMMIT, ""),
        run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT, ""),
        run.info.start_time / 1000,
        dict(run.data.params),
        _datasets(run),
        {name: _history(run, name) for name in run.data.metrics},
        models,
        own,
        [read(child) for child in children_of(run, deleted=True)],
    )


def _datasets(run: Run) -> list[tuple[str, str, str]]:
    found = []
    for item in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), "")
        found.append((item.dataset.name, context, item.dataset.digest))
    return sorted(found)


def _history(run: Run, name: str) -> list[tuple[int, float]]:
    seen = MlflowClient().get_metric_history(run.info.run_id, name)
    return [(each.step, each.value) for each in sorted(seen, key=lambda each: (each.step, each.timestamp))]


def _artifacts(run: Run) -> dict[str, Path]:
    """A local copy of each artifact of a run, by its path; the models that MLflow 3 logs lie elsewhere."""
    uri = str(run.info.artifact_uri)
    if not mlflow.artifacts.list_artifacts(artifact_uri=uri):
        return {}
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files.pop(DIFF, None)
    return files


def _models(run: Run) -> list[RecordedModel]:
    """The models of a run in the order in which they were logged: several may have one name."""
    found = []
    outputs = run.outputs.model_outputs if run.outputs else []
    logged = [MlflowClient().get_logged_model(output.model_id) for output in outputs]
    for model in sorted(logged, key=lambda each: each.creation_timestamp):
        try:
            found.append(_described(model.name, f"models:/{model.model_id}"))
        except Exception:  # a model that was begun and never finished has no files
            found.append(RecordedModel(model.name, f"models:/{model.model_id}"))
    return found


def _described(name: str, uri: str) -> RecordedModel:
    folder = Path(uri) if Path(uri).is_dir() else Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    model = Model.load(str(folder))
    example = (model.saved_input_example_info or {}).get("artifact_path", "")
    inside = {
        path.relative_to(folder).as_posix(): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (*PACKING, example, "serving_input_example.json")
    }
    signature = model.signature.to_dict() if model.signature else None
    config = model.flavors.get("python_function", {}).get("config") or {}
    return RecordedModel(name, uri, signature, bool(example), inside, _requirements(folder), folder, config)


def _requirements(model: Path) -> dict[str, str]:
    """The pinned requirements of a model, the version by the package's name, and its version of Python."""
    file, python = model / "requirements.txt", model / "python_env.yaml"
    lines = [line.strip() for line in file.read_text().splitlines()] if file.exists() else []
    split = [line.partition("==") for line in lines if line and not line.startswith(("#", "-"))]
    found = {name: version or "(not pinned)" for name, _, version in split}
    return found | ({"python": str(yaml.safe_load(python.read_text())["python"])} if python.exists() else {})


def ask_both(original: RecordedModel, again: RecordedModel, env_manager: str, folder: Path) -> Answers:
    """What two models predict on the input example of the original, and what they hold.

    env_manager: makes an environment for models that cannot be loaded here; local for none.
    folder: for what these predict.
    """
    if not original.folder or not again.folder:
        return Answers(why="its files are not there")
    folders, fitted = (original.folder, again.folder), None
    try:
        one, other = (mlflow.pyfunc.load_model(str(each)) for each in folders)
        fitted = (plain(_inside(one)), plain(_inside(other)))
        if not original.has_example:
            return Answers(None, fitted)
        return Answers((_predict(one, folders[0]), _predict(other, folders[0])), fitted)
    except Exception as error:  # whatever a foreign model needs that is not here
        why = f"cannot be loaded or asked here: {' '.join(str(error).split())[:200]}"
    if env_manager == "local" or not original.has_example:
        return Answers(None, fitted, why)
    try:
        one, other = (_predict_elsewhere(each, folders[0], env_manager, folder / "predicted.json") for each in folders)
        return Answers((one, other), fitted)
    except Exception as error:
        return Answers(None, fitted, f"cannot be asked: {' '.join(str(error).split())[:200]}")


def _predict_elsewhere(model: Path, original: Path, env_manager: str, output: Path) -> Any:
    """What a model predicts on the example of the original, in an environment of its own."""
    example = str(original / "serving_input_example.json")
    mlflow.models.predict(
        str(model), input_path=example, content_type="json", output_path=str(output), env_manager=env_manager
    )
    return json.loads(output.read_text())["predictions"]


def _predict(loaded: Any, original: Path) -> Any:
    description = Model.load(str(original))
    example = description.load_input_example(str(original))
    return plain(loaded.predict(example, params=description.load_input_example_params(str(original))))


def _inside(loaded: Any) -> Any:
    """The fitted object itself, where MLflow hands it out."""
    for look in (loaded.get_raw_model, loaded.unwrap_python_model):
        try:
            found = look()
        except Exception:  # NotImplementedError or AttributeError, by flavor
            continue
        # Of Spark it is a shell in Python, with an id made by chance.
        return Unseen("a model that lives in Java") if type(found).__module__.startswith("pyspark.") else found
    return Unseen("a model of a flavor that does not hand out what it holds")
