"""Search for the parameters of a classifier, or for the classifier itself, by cross-validation on the training rows."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import re
import shlex
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import matplotlib
import mlflow
import optuna
import pandas as pd
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from classifiers import CLASSIFIERS
from evaluation import scores
from features import ROWS_PER_CLASS, Split, load_split, with_preprocessing
from objective import CHOICE, DIRECTIONS, Objective, build, first_choices, split_name
from support.entry_point import FiniteRange, log_working_tree, run_command, say_where_to_look
from support.table import bad
from train import describe, fit_and_log, log_datasets, parameters, table_options
from trials import check_settings, load_trials, log_trial, runs_of, say

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def new_study(metric: str, seed: int, folder: str | None = None) -> optuna.Study:
    """A study with the sampler and the pruner of every engine; one that processes share lies in a folder."""
    # Given up is a trial whose mean is below the median of the earlier ones at the same step, once there are ten.
    pruner = optuna.pruners.MedianPruner(n_startup_trials=10)
    storage = None
    if folder:
        path = str(Path(folder) / "study.log")
        storage = optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    return optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=pruner,
        study_name="search",
        direction=DIRECTIONS[metric],
        load_if_exists=True,
    )


def run_trials(
    study: optuna.Study,
    objective: Objective,
    deadline: float,
    take: Callable[[], bool],
    done: Callable[[FrozenTrial], None],
) -> None:
    """Run trials in this process, one after another, for as long as `take` allows; none begins after the deadline."""
    while time.time() < deadline and take():
        study.optimize(objective, n_trials=1, callbacks=[lambda _, trial: done(trial)])


def run_trials_in_processes(
    objective: Objective,
    folder: str,
    n_trials: int,
    deadline: float,
    jobs: int,
    seed: int,
    done: Callable[[FrozenTrial], None],
) -> None:
    """Run trials in worker processes on the study that lies in a folder.

    seed: of the first worker's sampler; the next one's is one more.

    Raises click.ClickException where a worker dies.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads, as BLAS has them, may hang
    tickets, finished = context.Semaphore(n_trials), context.Queue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    workers = [
        context.Process(
            target=_work, args=(objective, folder, deadline, tickets, finished, threads, seed + number), daemon=True
        )
        for number in range(min(jobs, n_trials))
    ]
    for worker in workers:
        worker.start()
    while True:
        working = any(worker.is_alive() for worker in workers)
        try:
            done(finished.get(timeout=0.2))
        except queue.Empty:
            for worker in workers:
                if worker.exitcode:
                    raise click.ClickException(
                        f"a worker process of the search died with exit code {worker.exitcode}; "
                        "the finished trials are kept."
                    ) from None
            if not working:
                return


def _work(
    objective: Objective, folder: str, deadline: float, tickets: Any, finished: Any, threads: int, seed: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None
    with threadpool_limits(threads):
        run_trials(
            new_study(objective.metric, seed, folder),
            objective,
            deadline,
            lambda: parent.is_alive() and tickets.acquire(block=False),
            finished.put,
        )


def run_trials_on_spark(
    objective: Objective, study: str, n_trials: int, timeout: float, jobs: int, seed: int, parent: Run
) -> list[FrozenTrial]:
    """Run trials as tasks of Spark, until the study has `n_trials`; returns all of its finished ones.

    MLflow keeps the study and its trials as runs of the experiment; here they become children of the search.
    """
    from mlflow.optuna.storage import MlflowStorage
    from mlflow.pyspark.optuna.study import MlflowSparkStudy

    from support.on_spark import send_modules, spark_session

    send_modules(spark_session())
    template = new_study(objective.metric, seed)
    shared = MlflowSparkStudy(
        f"study {study}",
        MlflowStorage(parent.info.experiment_id),
        sampler=template.sampler,
        pruner=template.pruner,
        direction=DIRECTIONS[objective.metric],
    )
    if not shared.is_resumed_study:
        mlflow.MlflowClient().set_tag(str(shared._study_id), MLFLOW_PARENT_RUN_ID, parent.info.run_id)
    earlier = sum(trial.state in FINISHED for trial in shared.trials)
    left = n_trials - earlier
    if left > 0:
        shared.sampler = new_study(objective.metric, seed + earlier).sampler  # as where the search is local
        shared.optimize(objective, n_trials=left, timeout=timeout or None, n_jobs=min(jobs, left))
    found = sorted((trial for trial in shared.trials if trial.state in FINISHED), key=lambda trial: trial.number)
    for trial in found:
        trial.set_user_attr("run_id", trial._trial_id)
    return found


def score_defaults(names: list[str], split: Split, metric: str, random_state: int) -> dict[str, float]:
    """What classifiers with their defaults reach on the test rows; nothing is logged."""
    found = {}
    for name in names:
        classifier = build(name, {}, random_state)
        if getattr(classifier, "n_neighbors", 0) > len(split.X_train):
            continue
        pipeline = with_preprocessing(classifier, split.columns).fit(split.X_train, split.y_train)
        found[name] = scores(split.y_test, pipeline.predict_proba(split.X_test), split.classes, split.positive)[metric]
    return found


def verdict(metric: str, name: str, tuned: float, by_default: dict[str, float]) -> tuple[bool, str]:
    """Whether a tuned classifier beats every default on the test rows, and the sentence that says so.

    by_default: what each classifier reaches with its defaults.
    """
    sign = 1 if DIRECTIONS[metric] == "maximize" else -1
    ranking = sorted(by_default, key=lambda other: -sign * by_default[other])
    better = {other: sign * tuned > sign * value for other, value in by_default.items()}
    best = f"{ranking[0]}'s, with {by_default[ranking[0]]:.4f}"
    begin = f"The tuned {name}, with {metric} {tuned:.4f},"
    if better[ranking[0]]:
        return True, f"{begin} beats every default: the best of them are {best}."
    if name not in by_default or name == ranking[0]:
        return False, f"{begin} does not beat the best defaults, {best}."
    own = f"{'beats' if better[name] else 'does not beat'} its own defaults, with {by_default[name]:.4f}"
    return False, f"{begin} {own}, {'but' if better[name] else 'and'} does not beat the best defaults, {best}."


def command_line(name: str, values: dict[str, Any], table: dict[str, Any]) -> str:
    """The command that trains a classifier with these parameters, where they or the table's are not the defaults."""
    usual = {str(option.name): option.default for option in tune.params}
    given = {key: value for key, value in table.items() if value != usual[key]} | values
    return " ".join(
        [f"mlflow run classification -e {name}"]
        + [f"-P {shlex.quote(f'{key}={value}')}" for key, value in given.items()]
        + ["--env-manager local"]
    )


def log_pictures(study: optuna.Study, metric: str, model: str) -> None:
    """Log the history of a study, and for its best classifier the parallel coordinates and importances.

    A picture that the trials do not allow is left out, with a line.
    """
    matplotlib.use("Agg")  # Optuna draws with pyplot, which would look for a screen
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawings

    name, values = split_name(study.best_params, model)
    alike = optuna.create_study(direction=DIRECTIONS[metric])  # the trials of the best classifier, its names short
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        if split_name(trial.params, model)[0] == name:
            _, params = split_name(trial.params, model)
            _, distributions = split_name(trial.distributions, model)
            alike.add_trial(optuna.trial.create_trial(value=trial.value, params=params, distributions=distributions))
    searched = list(values)
    target = f"{metric} (mean of the folds)"
    pictures: dict[str, Callable[[], Any]] = {
        "optimization_history": lambda: drawings.plot_optimization_history(study, target_name=target),
        "parallel_coordinate": lambda: drawings.plot_parallel_coordinate(alike, searched, target_name=target),
        "param_importances": lambda: drawings.plot_param_importances(alike, params=searched, target_name=target),
    }
    titles = ["Optimisation history", f"The {name} trials", f"What matters to the {name}"]
    for (picture, draw), title in zip(pictures.items(), titles, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                draw()
            figure = pyplot.gcf()
            figure.set_size_inches(11, 6)
            for axes in figure.axes:  # Optuna's own titles stand in different places
                for place in ("left", "center"):
                    axes.set_title("", loc=place)
            figure.axes[0].set_title(title)
            mlflow.log_figure(figure, f"{picture}.png", save_kwargs={"bbox_inches": "tight"})
        except (ValueError, RuntimeError) as error:
            click.echo(f"No {picture}.png: {error}")
        finally:
            pyplot.close("all")


def trials_table(study: optuna.Study, model: str, metric: str) -> pd.DataFrame:
    """One row a trial: its result, its run, and each parameter as <classifier>.<parameter>."""
    rows = [
        {
            "trial": trial.number,
            "classifier": split_name(trial.params, model)[0],
            "state": trial.state.name,
            f"cv_{metric}": trial.value if trial.state == TrialState.COMPLETE else None,
            "seconds": round((trial.datetime_complete - trial.datetime_start).total_seconds(), 3),
            "run_id": trial.user_attrs["run_id"],
            **{key: value for key, value in trial.params.items() if key != CHOICE},
        }
        for trial in study.trials
        if trial.datetime_complete and trial.datetime_start
    ]
    return pd.DataFrame(rows)


def check_folds(cv: int, split: Split) -> None:
    """Refuse by click.BadParameter more folds than the rarest class has training rows, or too few of it in a fold."""
    counts = split.y_train.value_counts()
    rarest, rows = counts.idxmin(), int(counts.min())
    if cv > rows:
        raise bad("cv", cv, f"is more than the {rows} training rows of class {rarest!r}.")
    if rows - -(-rows // cv) < ROWS_PER_CLASS:
        right = f"folds leave fewer than {ROWS_PER_CLASS} of the {rows} training rows of class {rarest!r} to train on."
        raise bad("cv", cv, right)


@click.command()
@table_options
@click.option("--model", default="all", help="The classifier to tune, or all: it is then itself a choice.")
@click.option("--n_trials", type=click.IntRange(min=1), default=50, help="Trials that the study shall have.")
@click.option("--timeout", type=FiniteRange(min=0), default=0.0, help="Seconds until no trial begins; 0 for no bound.")
@click.option("--metric", type=click.Choice(list(DIRECTIONS)), default="roc_auc", help="What the search is for.")
@click.option("--cv", type=click.IntRange(2, 20), default=5, help="Folds of the training rows.")
@click.option("--study", default="", help="A name; the study that bears it in the experiment is gone on with.")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="What runs the trials.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Trials at a time: processes, or tasks of Spark.")
def tune(
    model: str,
    n_trials: int,
    timeout: float,
    metric: str,
    cv: int,
    study: str,
    engine: str,
    jobs: int,
    random_state: int,
    **table: Any,
) -> None:
    """Search, refit the best on all training rows, and compare it with the defaults on the test rows."""
    if model != "all" and model not in CLASSIFIERS:
        raise bad("model", model, f"is neither all nor a classifier; choose from: all, {', '.join(CLASSIFIERS)}.")
    if study and not re.fullmatch(r"[A-Za-z0-9._-]+", study):
        raise bad("study", study, "is not a name of letters, digits, dots, hyphens and underscores.")
    split = load_split(random_state=random_state, **table)
    check_folds(cv, split)
    if engine == "spark":
        from support.on_spark import spark_session  # late: most searches need no Spark

        spark_session()  # where there is none, no run is begun
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    description = describe(split)
    objective = Objective(
        split.X_train,
        split.y_train,
        split.columns,
        split.classes,
        split.positive,
        model=model,
        metric=metric,
        cv=cv,
        random_state=random_state,
    )
    settings = {
        "training_rows": description.train.digest,
        "target": split.target,
        "positive": str(split.positive),
        **{"model": model, "metric": metric, "cv": cv, "random_state": random_state, "engine": engine},
    }

    with mlflow.start_run() as parent:
        name = study or parent.info.run_id
        runs = runs_of(name, parent.info.experiment_id) if study else []
        check_settings(name, settings, runs)
        if not parent.data.params:  # `mlflow run` has logged them
            given = {"model": model, "n_trials": n_trials, "timeout": timeout, "metric": metric, "cv": cv}
            given |= {"study": study, "engine": engine, "jobs": jobs, "random_state": random_state}
            mlflow.log_params({**table, **given})
        mlflow.set_tags({"study": name, "study_settings": json.dumps(settings)})
        log_working_tree()
        log_datasets(description)

        started = time.time()
        earlier = load_trials(runs)
        if earlier:
            click.echo(f"Study {name}: {len(earlier)} trials are there already.")
        seed = random_state + len(earlier)  # a sampler that begins anew must not draw what the first one drew
        if engine == "spark":
            found = run_trials_on_spark(objective, name, n_trials, timeout, jobs, seed, parent)
        else:
            _search_locally(objective, name, n_trials, timeout, jobs, seed, parent, earlier)
            found = load_trials(runs_of(name, parent.info.experiment_id))
        seconds = time.time() - started
        complete = sum(trial.state == TrialState.COMPLETE for trial in found)
        if not complete:
            raise bad("timeout", timeout, "seconds are too few: no trial has finished.")
        finished = new_study(metric, seed)
        finished.add_trials(found)

        best, values = split_name(finished.best_params, model)
        compared = [other for other in CLASSIFIERS if other != "ann" or model in ("ann", "all")]
        by_default = score_defaults(compared, split, metric, random_state)
        with mlflow.start_run(run_name=f"best {best}", nested=True):
            classifier = build(best, values, random_state)
            mlflow.log_params(parameters(best, classifier))
            result = fit_and_log(best, classifier, split, description)
        beats, sentence = verdict(metric, best, result.metrics[metric], by_default)
        if "ann" not in compared:
            sentence += " The ann is not among them: TensorFlow is loaded only where it is searched."
        command = command_line(best, values, {**table, "random_state": random_state})

        mlflow.log_text(trials_table(finished, model, metric).to_csv(index=False), "trials.csv")
        log_pictures(finished, metric, model)
        mlflow.log_metrics(
            {
                f"best_{metric}": result.metrics[metric],
                f"best_cv_{metric}": finished.best_value,
                **{f"default_{metric}_{other}": value for other, value in by_default.items()},
                "trials": len(found),
                "pruned_trials": len(found) - complete,
                "search_seconds": seconds,
            },
            dataset=description.test,
        )
        mlflow.set_tags(
            {"best_classifier": best, "best_model_uri": result.model_uri, "beats_defaults": str(beats).lower()}
        )
        shown = "\n".join(f"| {key} | {value} |" for key, value in values.items())
        mlflow.set_tag(
            "mlflow.note.content",
            f"{sentence}\n\n| {best} | |\n|---|---|\n{shown}\n\n    {command}\n\n"
            f"{len(found)} trials, {len(found) - complete} of them given up. `-P study={name}` goes on with them.",
        )
        click.echo(f"\n{len(found)} trials, {len(found) - complete} of them given up, in {seconds:.0f} s")
        click.echo(f"Best of the folds: {best}, {metric} {finished.best_value:.4f}")
        click.echo(f"On the {len(split.y_test):,} test rows, which no trial saw:")
        for other, value in sorted(
            by_default.items(), key=lambda item: item[1], reverse=DIRECTIONS[metric] == "maximize"
        ):
            click.echo(f"  {other + ', defaults':<29} {metric} {value:.4f}")
        click.echo(f"  {best + ', tuned':<29} {metric} {result.metrics[metric]:.4f}")
        click.echo(sentence)
        click.echo(f"Train it again: {command}")
        click.echo(f"Best model: {result.model_uri}")
        say_where_to_look()


def _search_locally(
    objective: Objective,
    study: str,
    n_trials: int,
    timeout: float,
    jobs: int,
    seed: int,
    parent: Run,
    earlier: list[FrozenTrial],
) -> None:
    """Go on with a study until it has `n_trials` trials, each of them logged as soon as it ends."""
    left, count = n_trials - len(earlier), len(earlier)
    deadline = time.time() + timeout if timeout else float("inf")

    def done(trial: FrozenTrial) -> None:
        nonlocal count
        count += 1
        log_trial(trial, study=study, model=objective.model, metric=objective.metric, parent=parent)
        say(trial, count, n_trials, objective.model, objective.metric)

    def take() -> bool:
        return count < n_trials

    if left <= 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        search = new_study(objective.metric, seed, folder if jobs > 1 else None)
        search.add_trials(earlier)
        for choice in first_choices(objective.model, objective.rows):
            search.enqueue_trial(choice, skip_if_exists=True)
        if jobs > 1:
            run_trials_in_processes(objective, folder, left, deadline, jobs, seed, done)
        else:
            run_trials(search, objective, deadline, take, done)


if __name__ == "__main__":
    run_command(tune)
