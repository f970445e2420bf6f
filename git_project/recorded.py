"""Read from the tracking store what a run recorded, with the runs below it, and ask its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PROJECT_ENTRY_POINT

from children import children_of
from comparison import Answers, Recorded, RecordedModel
from content import Unseen, digest, plain

# Of a model's files these say how it was packed, not what it learned; an example is compared by its predictions.
PACKING = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta")
DIFF = "git.diff"  # of a working tree that was dirty, which the report says


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
        (run.info.end_time or run.info.start_time) / 1000,
        dict(run.data.params),
        _datasets(run),
        {name: _history(run, name) for name in run.data.metrics},
        models,
        own,
        [read(child) for child in children_of(run)],
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
    return RecordedModel(name, uri, signature, bool(example), inside, _requirements(folder), folder)


def _requirements(model: Path) -> dict[str, str]:
    """The pinned requirements of a model, the version by the package's name, and its version of Python."""
    file, python = model / "requirements.txt", model / "python_env.yaml"
    lines = [line.strip() for line in file.read_text().splitlines()] if file.exists() else []
    split = [line.partition("==") for line in lines if line and not line.startswith(("#", "-"))]
    found = {name: version or "(not pinned)" for name, _, version in split}
    return found | ({"python": str(yaml.safe_load(python.read_text())["python"])} if python.exists() else {})


class Asker:
    """Asks two models what they predict on the input example of the original, and what they hold.

    env_manager: makes an environment for models that cannot be loaded here; local for none.
    folder: for what these predict.
    """

    def __init__(self, env_manager: str, folder: Path) -> None:
        self.env_manager = env_manager
        self.folder = folder

    def __call__(self, original: RecordedModel, again: RecordedModel) -> Answers:
        """The answers of both, in this process where they can be loaded here."""
        folders = [model.folder for model in (original, again) if model.folder]
        if len(folders) < 2:
            return Answers(why="its files are not there")
        fitted, why = None, ""
        try:
            loaded = [mlflow.pyfunc.load_model(str(folder)) for folder in folders]
            fitted = (plain(_inside(loaded[0])), plain(_inside(loaded[1])))
            if not original.has_example:
                return Answers(None, fitted)
            return Answers((_predict(loaded[0], folders[0]), _predict(loaded[1], folders[0])), fitted)
        except Exception as error:  # whatever a foreign model needs that is not here
            why = f"cannot be loaded or asked here: {' '.join(str(error).split())[:200]}"
        if self.env_manager == "local" or not original.has_example:
            return Answers(None, fitted, why)
        try:
            elsewhere = [self._predict_elsewhere(folder, folders[0]) for folder in folders]
            return Answers((elsewhere[0], elsewhere[1]), fitted, why)
        except Exception as error:
            return Answers(None, fitted, f"cannot be asked: {' '.join(str(error).split())[:200]}")

    def _predict_elsewhere(self, model: Path, original: Path) -> Any:
        """What a model predicts on the example of the original, in an environment of its own."""
        output = self.folder / "predicted.json"
        mlflow.models.predict(
            str(model),
            input_path=str(original / "serving_input_example.json"),
            content_type="json",
            output_path=str(output),
            env_manager=self.env_manager,
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
            return look()
        except Exception:  # NotImplementedError or AttributeError, by flavor
            continue
    return Unseen("a model of a flavor that does not hand out what it holds")
