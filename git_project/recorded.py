"""A past run of an MLflow Project: where it came from, what it recorded, and what its models say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, RunInfo
from mlflow.models import Model

from children import children_of, get_run, tree_of
from content import Unseen, digest, plain
from repository import check_repository, without_credentials
from sameness import TEMPORARY
from support.table import bad

DIRTY = "mlflow.source.git.dirty"
RESOLVED = "resolved."  # resolved.version=<commit>: what `version` was when the run was made
DIFF = "git.diff"  # the artifact of a run whose working tree was dirty, which the report says
# Of a model's files these say how it was packed, not what it learned; an example is compared by its predictions.
PACKING = ["MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"]
PACKING += ["serving_input_example.json"]


class Past:
    """A run to be reproduced, and the run of a project that it is or lies below.

    line: the runs from the one that `mlflow run` made down to the one that the user named.
    """

    def __init__(self, line: list[Run]) -> None:
        tags = line[0].data.tags
        source, _, folder = tags.get("mlflow.source.name", "").partition("#")
        self.line, self.project_run, self.run = line, line[0], line[-1]
        self.repo = without_credentials(tags.get("mlflow.source.git.repoURL", ""))
        self.commit = tags.get("mlflow.source.git.commit", "")
        self.folder = folder  # of the project in the repository
        self.entry_point = tags["mlflow.project.entryPoint"]
        self.env_manager = tags.get("mlflow.project.env", "")  # empty for local and where it is not recorded
        # Whether the files that ran were not those of the commit; None where that is not recorded.
        self.dirty = tags[DIRTY] == "true" if DIRTY in tags else None
        # The user's own folder from which it was run; empty where MLflow made a clone.
        self.checkout = source.removeprefix("file://") if source.startswith("file:") else ""
        # As the user gave them, with those that its script logged.
        self.parameters = {name: unquoted(value) for name, value in line[0].data.params.items()}
        # What parameters stood for that mean something else later, such as a branch.
        self.resolved = {name.removeprefix(RESOLVED): tag for name, tag in tags.items() if name.startswith(RESOLVED)}


def find(run_id: str, allow_dirty: bool) -> Past:
    """The run to reproduce.

    Raises click.BadParameter for a run that is unknown, deleted, unfinished or failed, that did not come from a commit
    of a repository, or whose files were not those of its commit (unless `allow_dirty`).
    """
    line = [get_run(run_id)]
    while "mlflow.project.entryPoint" not in (tags := line[0].data.tags):
        if "mlflow.parentRunId" not in tags:
            raise bad("run_id", run_id, "is no run of an MLflow Project, nor lies below one.")
        line.insert(0, get_run(tags["mlflow.parentRunId"]))
    _check_ended(line[0].info)
    _check_ended(line[-1].info)
    past = Past(line)
    if not past.commit:
        raise bad("run_id", run_id, "has no commit: its project did not lie in a Git repository.")
    if not past.repo:
        raise bad("run_id", run_id, "has no repository: its project was run from a folder that has no remote.")
    if past.dirty and not allow_dirty:
        changes = f"uncommitted changes (its artifact {DIFF}), which no commit holds"
        raise bad("run_id", run_id, f"was run with {changes}: -P allow_dirty=true compares it all the same.")
    try:
        check_repository(past.repo)
    except click.BadParameter:
        raise bad("run_id", run_id, f"came from {past.repo}, from which MLflow cannot fetch a commit.") from None
    return past


def _check_ended(info: RunInfo) -> None:
    """Refuse a run that is deleted, unfinished or failed."""
    experiment = MlflowClient().get_experiment(info.experiment_id)
    if experiment.lifecycle_stage == "deleted":
        cure = f"mlflow experiments restore -x {experiment.experiment_id} brings it back."
        raise bad("run_id", info.run_id, f"lies in a deleted experiment: {cure}")
    if info.lifecycle_stage == "deleted":
        raise bad("run_id", info.run_id, "is a deleted run: mlflow runs restore brings it back.")
    if info.status in ("RUNNING", "SCHEDULED"):
        raise bad("run_id", info.run_id, f"is still {info.status}: wait until it ends.")
    if info.status != "FINISHED":
        raise bad("run_id", info.run_id, f"ended as {info.status}: there is no result to reproduce.")


def unquoted(value: str) -> str:
    """A parameter as the user gave it: MLflow records it as it stands on the command line, quoted for the shell."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == value else value


def foreseen(past: Past) -> list[str]:
    """What the past run did outside of itself, as far as was recorded: versions registered, places that it names."""
    found = []
    for run in tree_of(past.project_run):
        versions = MlflowClient().search_model_versions(f"run_id = '{run.info.run_id}'")
        found += [f"registered version {each.version} of {each.name}" for each in versions]
    inputs = past.project_run.inputs
    sources = " ".join(item.dataset.source for item in inputs.dataset_inputs) if inputs else ""
    for name, place in past.parameters.items():
        away = place.startswith(("/", "~", "s3:", "gs:", "abfss:", "dbfs:", "hdfs:")) and not TEMPORARY.match(place)
        if away and place not in sources:
            found.append(f"has {name}={place}, a place outside of it, to which it may have written")
    return found


@dataclass(frozen=True)
class RecordedModel:
    """A model that a run logged."""

    name: str
    uri: str
    signature: dict[str, Any] | None = None
    has_example: bool = False
    inside: dict[str, str] = field(default_factory=dict)  # the digest of each file that holds what was learned
    requirements: dict[str, str] = field(default_factory=dict)  # the version of each package, `python` as well
    folder: Path | None = None  # a local copy
    config: Any = None  # the `model_config` that it was logged with


@dataclass(frozen=True)
class Recorded:
    """What a run recorded."""

    run_id: str
    name: str
    status: str = "FINISHED"
    commit: str = ""
    entry_point: str = ""
    start: float = 0.0  # seconds since 1970
    parameters: dict[str, str] = field(default_factory=dict)
    datasets: list[tuple[str, str, str]] = field(default_factory=list)  # name, context and digest of each
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # the steps and values of each, by step
    models: list[RecordedModel] = field(default_factory=list)  # the first logged first; several may have one name
    artifacts: dict[str, Path] = field(default_factory=dict)  # where each file lies, by its path in the run
    below: list[Recorded] = field(default_factory=list)  # the first started first

    def tree(self) -> Iterator[Recorded]:
        """The run and all below it."""
        yield self
        for run in self.below:
            yield from run.tree()


def read(run: Run) -> Recorded:
    """Everything that is compared of a run and of the runs below it."""
    client = MlflowClient()
    logged = [client.get_logged_model(each.model_id) for each in (run.outputs.model_outputs if run.outputs else [])]
    models = []
    for model in sorted(logged, key=lambda each: each.creation_timestamp):
        uri = f"models:/{model.model_id}"
        if model.status == "READY" and model.tags.get("mlflow.model.isExternal") != "true":
            models.append(_described(model.name, uri, Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))))
        else:  # begun and never finished, or kept elsewhere
            models.append(RecordedModel(model.name, uri))
    files = _artifacts(run)
    folders = [Path(path).parent for path in files if Path(path).name == "MLmodel"]
    for folder in folders:  # as clients of MLflow 2 log models: among the artifacts
        there = files[(folder / "MLmodel").as_posix()].parent
        models.append(_described(folder.as_posix(), str(there), there))
    datasets, metrics = [], {}
    for item in run.inputs.dataset_inputs if run.inputs else []:
        context = next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), "")
        datasets.append((item.dataset.name, context, item.dataset.digest))
    for name in run.data.metrics:
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda each: (each.step, each.timestamp))
        metrics[name] = [(each.step, each.value) for each in history]
    return Recorded(
        run.info.run_id,
        str(run.info.run_name),
        run.info.status,
        run.data.tags.get("mlflow.source.git.commit", ""),
        run.data.tags.get("mlflow.project.entryPoint", ""),
        run.info.start_time / 1000,
        dict(run.data.params),
        sorted(datasets),
        metrics,
        models,
        {path: file for path, file in files.items() if not any(Path(path).is_relative_to(each) for each in folders)},
        [read(child) for child in children_of(run, deleted=True)],
    )


def _artifacts(run: Run) -> dict[str, Path]:
    """A local copy of each artifact of a run, by its path; the models that MLflow 3 logs lie elsewhere."""
    uri = str(run.info.artifact_uri)
    if not mlflow.artifacts.list_artifacts(artifact_uri=uri):
        return {}
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files.pop(DIFF, None)
    return files


def _described(name: str, uri: str, folder: Path) -> RecordedModel:
    """What the files of a model say of it."""
    model = Model.load(str(folder))
    example = (model.saved_input_example_info or {}).get("artifact_path", "")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (*PACKING, example)]
    listed, python = folder / "requirements.txt", folder / "python_env.yaml"
    lines = [line.strip().partition("==") for line in (listed.read_text().splitlines() if listed.exists() else [])]
    requirements = {package: version or "(not pinned)" for package, _, version in lines if package[:1] not in "#-"}
    if python.exists():
        requirements["python"] = str(yaml.safe_load(python.read_text())["python"])
    return RecordedModel(
        name,
        uri,
        model.signature.to_dict() if model.signature else None,
        bool(example),
        {path.relative_to(folder).as_posix(): digest(path) for path in files},
        requirements,
        folder,
        plain(model.flavors.get("python_function", {}).get("config")),
    )


@dataclass(frozen=True)
class Answers:
    """What two models predict on one example, and what they hold; None, and a reason, where that is unknown."""

    predictions: Sequence[Any] | None = None
    fitted: Sequence[Any] | None = None
    why: str = ""


def ask_both(original: RecordedModel, again: RecordedModel, env_manager: str, folder: Path) -> Answers:
    """What two models predict on the input example of the original, and what they hold.

    env_manager: makes an environment for models that cannot be loaded here; local for none.
    folder: for what these predict.
    """
    if not original.folder or not again.folder:
        return Answers(why="its files are not there")
    folders, fitted = (original.folder, again.folder), None
    try:
        both = [mlflow.pyfunc.load_model(str(each)) for each in folders]
        fitted = [plain(_inside(each)) for each in both]
        return Answers([_predict(each, folders[0]) for each in both] if original.has_example else None, fitted)
    except Exception as error:  # whatever a foreign model needs that is not here
        why = f"cannot be loaded or asked here: {' '.join(str(error).split())[:200]}"
    if env_manager == "local" or not original.has_example:
        return Answers(None, fitted, why)
    example, output = str(folders[0] / "serving_input_example.json"), folder / "predicted.json"
    how: dict[str, Any] = {"content_type": "json", "output_path": str(output), "env_manager": env_manager}
    predictions = []
    try:
        for each in folders:
            mlflow.models.predict(str(each), input_path=example, **how)
            predictions.append(json.loads(output.read_text())["predictions"])
        return Answers(predictions, fitted)
    except Exception as error:
        return Answers(None, fitted, f"cannot be asked: {' '.join(str(error).split())[:200]}")


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
