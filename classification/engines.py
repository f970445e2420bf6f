"""What runs the trials of a search: this process, worker processes, or Spark."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import mlflow
import optuna
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from objective import Objective, Search, first_choices
from trials import load_trials, log_trial, runs_of, say

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def new_study(search: Search, seed: int, folder: str = "") -> optuna.Study:
    """A study with the sampler and the pruner of every engine; one that processes share lies in a folder."""
    storage = None
    if folder:
        path = os.path.join(folder, "study.log")
        storage = optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    return optuna.create_study(
        storage=storage,
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
    deadline = time.time() + search.timeout if search.timeout else float("inf")
    if left > 0:
        with tempfile.TemporaryDirectory() as folder:
            study = new_study(search, seed, folder if search.jobs > 1 else "")
            study.add_trials(earlier)
            for choice in first_choices(search.model, objective.rows):
                study.enqueue_trial(choice, skip_if_exists=True)
            if search.jobs > 1:
                trials = _in_processes(objective, folder, left, deadline, seed)
            else:
                trials = _in_turn(study, objective, deadline, threading.Semaphore(left))
            for number, trial in enumerate(trials, start=len(earlier) + 1):
                log_trial(trial, search, parent)
                say(trial, number, search)
    return load_trials(runs_of(search.study, parent.info.experiment_id))


def _in_turn(study: optuna.Study, objective: Objective, deadline: float, tickets: Any) -> Iterator[FrozenTrial]:
    """Run trials one after another, for as long as there are tickets and what started this process lives.

    deadline: the time after which none begins. tickets: a semaphore, of threads or of processes.
    """
    parent, ended = multiprocessing.parent_process(), list[FrozenTrial]()
    while (parent is None or parent.is_alive()) and time.time() < deadline and tickets.acquire(False):
        study.optimize(objective, n_trials=1, callbacks=[lambda _, trial: ended.append(trial)])
        yield ended.pop()


def _in_processes(objective: Objective, folder: str, left: int, deadline: float, seed: int) -> Iterator[FrozenTrial]:
    """Run as many trials as are left in worker processes, on the study that lies in a folder.

    seed: of the first worker's sampler; the next one's is one more. Raises click.ClickException where a worker dies.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads, as BLAS has them, may hang
    tickets, finished = context.Semaphore(left), context.Queue()
    workers = []
    for number in range(min(objective.search.jobs, left)):
        given = (objective, folder, deadline, tickets, finished, seed + number)
        workers.append(context.Process(target=_work, args=given, daemon=True))
        workers[-1].start()
    while any(worker.is_alive() for worker in workers) or not finished.empty():
        try:
            yield finished.get(timeout=0.2)
        except queue.Empty:
            for worker in workers:
                if worker.exitcode:
                    died = f"a worker process of the search died with exit code {worker.exitcode}"
                    raise click.ClickException(f"{died}; the finished trials are kept.") from None


def _work(objective: Objective, folder: str, deadline: float, tickets: Any, finished: Any, seed: int) -> None:
    """Run trials as a worker process, with its share of the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    threads = max(1, (os.cpu_count() or 1) // objective.search.jobs)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    with threadpool_limits(threads):
        for trial in _in_turn(new_study(objective.search, seed, folder), objective, deadline, tickets):
            finished.put(trial)


def search_on_spark(objective: Objective, parent: Run) -> list[FrozenTrial]:
    """Continue a study until it has `n_trials` trials, as tasks of Spark; returns all of its finished ones.

    MLflow keeps the study and its trials as runs of the experiment; here they become children of the search.
    """
    from mlflow.optuna.storage import MlflowStorage
    from mlflow.pyspark.optuna.study import MlflowSparkStudy

    from support.on_spark import send_modules, spark_session

    send_modules(spark_session())
    search, name = objective.search, f"study {objective.search.study}"
    storage = MlflowStorage(parent.info.experiment_id)
    template = new_study(search, search.random_state)
    sampler, pruner = template.sampler, template.pruner
    study = MlflowSparkStudy(name, storage, sampler=sampler, pruner=pruner, direction=template.direction.name.lower())
    study_id = str(storage.get_study_id_from_name(name))  # the id of its run
    if not study.is_resumed_study:
        mlflow.MlflowClient().set_tag(study_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)
    earlier = sum(trial.state in FINISHED for trial in study.trials)
    left = search.n_trials - earlier
    if left > 0:
        study.sampler = new_study(search, search.random_state + earlier).sampler  # as where the search is local
        study.optimize(objective, n_trials=left, timeout=search.timeout or None, n_jobs=min(search.jobs, left))

    of_study = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{study_id}'"
    runs: Any = mlflow.search_runs([parent.info.experiment_id], of_study, output_format="list")
    ids = {storage.get_trial_number_from_id(run.info.run_id): run.info.run_id for run in runs}
    found = sorted((trial for trial in study.trials if trial.state in FINISHED), key=lambda trial: trial.number)
    for trial in found:
        trial.set_user_attr("run_id", ids[trial.number])
    return found
