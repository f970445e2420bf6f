"""The trials of a search: run here, in worker processes or on Spark, and kept as child runs in the tracking store."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from multiprocessing.connection import wait
from typing import Any

import click
import mlflow
import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from classifiers import CLASSIFIERS
from features import Split
from objective import Objective, Search, first_choices, split_name
from support.language import tr
from support.table import bad

# A finished trial's run is FINISHED; one that was given up is KILLED, as MLflow's own Optuna storage has it.
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED"}


def take_up(search: Search, split: Split, parent: Run) -> tuple[list[FrozenTrial], Search]:
    """The trials that a study of this name has, and the search with the name of its study.

    A study without a name is called by the run of its search. Raises click.BadParameter where it had other settings.
    """
    runs = _runs_of(search.study, parent) if search.study else []
    search = replace(search, study=search.study or parent.info.run_id, begun=time.time())
    settings = {
        "training_rows": split.train.digest,
        "target": split.target,
        "positive": str(split.positive),
        **{key: getattr(search, key) for key in ("model", "metric", "cv", "random_state", "engine")},
    }
    for run in runs:
        begun = json.loads(run.data.tags.get("study_settings", "{}"))
        if other := [key for key in begun if begun[key] != settings.get(key)]:
            had, has = (", ".join(f"{key}={found.get(key)}" for key in other) for found in (begun, settings))
            right = f"was begun with {had}; this is {has}: give what it was begun with, or a new name."
            raise bad("study", search.study, right)
    mlflow.set_tags({"study": search.study, "study_settings": json.dumps(settings)})
    if earlier := _load_trials(runs):
        click.echo(tr("Study {study}: {count} trials are there already.", study=search.study, count=len(earlier)))
    return earlier, search


def new_study(search: Search, seed: int, folder: str = "") -> optuna.Study:
    """A study with the sampler and the pruner of every engine; one that processes share lies in a folder."""
    path = os.path.join(folder, "study.log")
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path))) if folder else None,
        sampler=optuna.samplers.TPESampler(seed=seed),
        # Given up is a trial whose mean is below the median of the earlier ones at the same step, once there are ten.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=10),
        study_name="search",
        direction="maximize" if search.greater_is_better else "minimize",
        load_if_exists=True,
    )


def search_locally(objective: Objective, parent: Run, earlier: list[FrozenTrial]) -> list[FrozenTrial]:
    """Continue a study until it has `n_trials` trials, each of them logged as soon as it ends; returns them all.

    parent: the run of the search. earlier: the trials that the study has.
    """
    search, left = objective.search, objective.search.n_trials - len(earlier)
    seed = search.random_state + len(earlier)  # a sampler that begins anew must not draw what the first one drew
    with tempfile.TemporaryDirectory() as folder:
        study = new_study(search, seed, folder if search.jobs > 1 else "")
        study.add_trials(earlier)
        for choice in first_choices(search.model, objective.rows):
            study.enqueue_trial(choice, skip_if_exists=True)

        def keep(_: optuna.Study, trial: FrozenTrial) -> None:
            _log_trial(trial, search, parent)
            _say(trial, search)

        if left > 0 and search.jobs == 1:
            study.optimize(objective, n_trials=left, timeout=search.seconds_left, callbacks=[keep])
        elif left > 0:
            for trial in _in_processes(objective, study, folder, left, seed):
                keep(study, trial)
    return _load_trials(_runs_of(search.study, parent))


def _in_processes(
    objective: Objective, study: optuna.Study, folder: str, left: int, seed: int
) -> Iterator[FrozenTrial]:
    """Share the trials that are left among worker processes, on the study that lies in a folder.

    seed: of the first worker's sampler; the next one's is one more. Raises click.ClickException where a worker dies.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads, as BLAS has them, may hang
    jobs, known = min(objective.search.jobs, left), {trial.number for trial in study.get_trials(states=tuple(STATUS))}
    shares = [left // jobs + (number < left % jobs) for number in range(jobs)]
    workers = [
        context.Process(target=_work, args=(objective, folder, seed + number, share), daemon=True)
        for number, share in enumerate(shares)
    ]
    for worker in workers:
        worker.start()
    working = [worker.sentinel for worker in workers]
    while working:
        wait(working, timeout=0.5)
        working = [worker.sentinel for worker in workers if worker.is_alive()]
        for trial in study.get_trials(states=tuple(STATUS)):
            if trial.number not in known:
                known.add(trial.number)
                yield trial
        if any(worker.exitcode for worker in workers):
            break
    if died := [worker.exitcode for worker in workers if worker.exitcode]:
        said = f"a worker process of the search died with exit code {died[0]}"
        raise click.ClickException(f"{said}; the finished trials are kept.")


def _work(objective: Objective, folder: str, seed: int, n_trials: int) -> None:
    """Run trials as a worker process, with its share of the cores, for as long as what started it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search, parent = objective.search, multiprocessing.parent_process()
    threads = max(1, (os.cpu_count() or 1) // search.jobs)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)

    def stop_alone(study: optuna.Study, _: FrozenTrial) -> None:
        if parent is not None and not parent.is_alive():
            study.stop()

    with threadpool_limits(threads):
        study = new_study(search, seed, folder)
        study.optimize(objective, n_trials=n_trials, timeout=search.seconds_left, callbacks=[stop_alone])


def search_on_spark(objective: Objective, parent: Run) -> list[FrozenTrial]:
    """Continue a study until it has `n_trials` trials, as tasks of Spark; returns all of its finished ones.

    MLflow keeps the study and its trials as runs of the experiment; here they become children of the search.
    """
    from mlflow.optuna.storage import MlflowStorage
    from mlflow.pyspark.optuna.study import MlflowSparkStudy

    from support.on_spark import send_modules, spark_session

    send_modules(spark_session())
    search, storage = objective.search, MlflowStorage(parent.info.experiment_id)
    usual = new_study(search, search.random_state)
    direction = usual.direction.name.lower()
    study = MlflowSparkStudy(f"study {search.study}", storage, pruner=usual.pruner, direction=direction)
    study_id = str(storage.get_study_id_from_name(f"study {search.study}"))  # the id of its run
    if not study.is_resumed_study:
        MlflowClient().set_tag(study_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)
    earlier = sum(trial.state in STATUS for trial in study.trials)
    if (left := search.n_trials - earlier) > 0:
        study.sampler = new_study(search, search.random_state + earlier).sampler  # as where the search is local
        study.optimize(objective, n_trials=left, timeout=search.seconds_left, n_jobs=min(search.jobs, left))

    of_study = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{study_id}'"
    runs: Any = mlflow.search_runs([parent.info.experiment_id], of_study, output_format="list")
    ids = {storage.get_trial_number_from_id(run.info.run_id): run.info.run_id for run in runs}
    found = sorted((trial for trial in study.trials if trial.state in STATUS), key=lambda trial: trial.number)
    for trial in found:
        trial.set_user_attr("run_id", ids[trial.number])
    return found


def _say(trial: FrozenTrial, search: Search) -> None:
    """Print one line on a trial."""
    name, _ = split_name(trial.params, search.model)
    if trial.state == TrialState.COMPLETE:
        result = f"cv {search.metric} {trial.value:.4f}"
    else:
        last = f"{trial.intermediate_values[max(trial.intermediate_values)]:.4f}"
        result = tr("given up at {metric} {value}", metric=search.metric, value=last)
    click.echo(f"[{trial.number + 1:>{len(str(search.n_trials))}}/{search.n_trials}] {name:<22} {result}")


def _log_trial(trial: FrozenTrial, search: Search, parent: Run) -> None:
    """Log a finished or pruned trial as a child of the search's run.

    The run counts as a trial of the study from the moment that the last call, with all of its record, is through.
    """
    client = MlflowClient()
    name, values = split_name(trial.params, search.model)
    times = (trial.datetime_start, trial.datetime_complete)
    begun, ended = (int(moment.timestamp() * 1000) for moment in times if moment)  # a trial that has ended has both
    tags = {MLFLOW_PARENT_RUN_ID: parent.info.run_id, "classifier": name}
    run = client.create_run(parent.info.experiment_id, begun, tags, f"trial {trial.number} {name}")
    client.set_terminated(run.info.run_id, STATUS[trial.state], ended)
    record = {
        "state": trial.state.name,
        "value": trial.value,
        "params": trial.params,
        "distributions": {key: distribution_to_json(value) for key, value in trial.distributions.items()},
        "steps": {step: float(f"{value:.6g}") for step, value in trial.intermediate_values.items()},
    }
    metrics = [Metric("running_mean", value, ended, step) for step, value in trial.intermediate_values.items()]
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        metrics.append(Metric(f"cv_{search.metric}", trial.value, ended, 0))
    params = [Param(key, str(value)) for key, value in {**CLASSIFIERS[name].defaults, **values}.items()]
    record_tags = [RunTag("study", search.study), RunTag("trial", json.dumps(record))]
    client.log_batch(run.info.run_id, metrics, params, record_tags)


def _runs_of(study: str, parent: Run) -> list[Run]:
    """All runs of a study in the experiment of a run, the first started first: the searches and their trials."""
    wanted, first = f"tags.study = '{study}'", ["attributes.start_time ASC"]
    found: Any = mlflow.search_runs([parent.info.experiment_id], wanted, order_by=first, output_format="list")
    return list(found)


def _load_trials(runs: list[Run]) -> list[FrozenTrial]:
    """The trials that `_log_trial` left, as Optuna has them; the run of each is its user attribute `run_id`."""
    trials = []
    for run in [run for run in runs if "trial" in run.data.tags]:
        record = json.loads(run.data.tags["trial"])
        trial = optuna.trial.create_trial(
            state=TrialState[record["state"]],
            value=record["value"],
            params=record["params"],
            distributions={key: json_to_distribution(value) for key, value in record["distributions"].items()},
            intermediate_values={int(step): value for step, value in record["steps"].items()},
            user_attrs={"run_id": run.info.run_id},
        )
        times = (run.info.start_time, run.info.end_time)
        trial.datetime_start, trial.datetime_complete = (datetime.fromtimestamp(each / 1000) for each in times)
        trials.append(trial)
    return trials
