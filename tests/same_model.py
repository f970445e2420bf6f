"""What of a logged model does not depend on the run, the machine or the moment that made it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import yaml
from mlflow.entities import Run
from mlflow.models import Model

OF_A_RUN = {"artifact_path", "model_id", "model_size_bytes", "model_uuid", "run_id", "utc_time_created"}


def models_of(run: Run, artifacts: Path) -> list[dict[str, Any]]:
    """What each logged model of a run holds and answers.

    artifacts: the folder with the artifacts of the run's tracking store.
    """
    outputs = run.outputs.model_outputs if run.outputs else []
    places = [artifacts / run.info.experiment_id / "models" / each.model_id / "artifacts" for each in outputs]
    return [{**files_of(place), "answers": answers_of(place)} for place in places]


def files_of(model: Path) -> dict[str, Any]:
    """The content of each file of a model; of an archive, whose names and times are new each time, the sizes."""
    found: dict[str, Any] = {}
    for path in sorted(each for each in model.rglob("*") if each.is_file()):
        name = path.relative_to(model).as_posix()
        if name == "MLmodel":
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in said.items() if key not in OF_A_RUN}
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found[name] = sorted(each.file_size for each in archive.infolist() if each.filename != "schema.json")
        else:
            found[name] = path.read_bytes()
    return found


def answers_of(model: Path) -> Any:
    """The predictions for the model's own input example, as plain numbers and text."""
    example = Model.load(str(model)).load_input_example(str(model))
    answers = mlflow.pyfunc.load_model(str(model)).predict(example)
    return answers.tolist() if hasattr(answers, "tolist") else answers.to_dict("list")
