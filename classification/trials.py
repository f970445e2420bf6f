"""The trials of a search as child runs in the tracking store, which is where an interrupted search is found again."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
import mlflow
import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from classifiers import CLASSIFIERS
from objective import Search, split_name
from support.language import tr
from support.table import bad

# A finished trial's run is FINISHED; one that was given up is KILLED, as MLflow's own Optuna storage has it.
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED"}


def log_trial(trial: FrozenTrial, search: Search, parent: Run) -> None:
    """Log a finished or pruned trial as a child of the search's run, in three calls.

    The run counts as a trial of the study from the moment that the second call, with all of its record, is through.
    """
    client = MlflowClient()
    name, values = split_name(trial.params, search.model)
    times = (trial.datetime_start, trial.datetime_complete)
    begun, ended = (int(moment.timestamp() * 1000) for moment in times if moment)  # a trial that has ended has both
    run = client.create_run(
        parent.info.experiment_id,
        start_time=begun,
        run_name=f"trial {trial.number} {name}",
        tags={MLFLOW_PARENT_RUN_ID: parent.info.run_id, "classifier": name},
    )
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
    client.log_batch(
        run.info.run_id,
        metrics=metrics,
        params=[Param(key, str(value)) for key, value in {**CLASSIFIERS[name].defaults, **values}.items()],
        tags=[RunTag("study", search.study), RunTag("trial", json.dumps(record))],
    )
    client.set_terminated(run.info.run_id, status=STATUS[trial.state], end_time=ended)


def runs_of(study: str, experiment_id: str) -> list[Run]:
    """All runs of a study in an experiment, the first started first: the searches and their trials."""
    wanted, first = f"tags.study = '{study}'", ["attributes.start_time ASC"]
    found: Any = mlflow.search_runs([experiment_id], wanted, order_by=first, output_format="list")
    return list(found)


def load_trials(runs: list[Run]) -> list[FrozenTrial]:
    """The trials that `log_trial` left, as Optuna has them; the run of each is its user attribute `run_id`."""
    trials = []
    for run in runs:
        if "trial" not in run.data.tags:
            continue
        record = json.loads(run.data.tags["trial"])
        trial = optuna.trial.create_trial(
            state=TrialState[record["state"]],
            value=record["value"],
            params=record["params"],
            distributions={key: json_to_distribution(value) for key, value in record["distributions"].items()},
            intermediate_values={int(step): value for step, value in record["steps"].items()},
            user_attrs={"run_id": run.info.run_id},
        )
        trial.datetime_start = datetime.fromtimestamp(run.info.start_time / 1000)
        if run.info.end_time is None:  # killed between the second call and the third
            MlflowClient().set_terminated(run.info.run_id, status=STATUS[trial.state])
            run = MlflowClient().get_run(run.info.run_id)
        trial.datetime_complete = datetime.fromtimestamp(run.info.end_time / 1000)
        trials.append(trial)
    return trials


def check_settings(study: str, settings: dict[str, Any], runs: list[Run]) -> None:
    """Refuse by click.BadParameter to continue a study that was begun with other settings."""
    for run in runs:
        begun = json.loads(run.data.tags.get("study_settings", "{}"))
        other = [key for key in begun if begun[key] != settings.get(key)]
        if other:
            had, has = (", ".join(f"{key}={found.get(key)}" for key in other) for found in (begun, settings))
            raise bad(
                "study", study, f"was begun with {had}; this is {has}: give what it was begun with, or a new name."
            )


def say(trial: FrozenTrial, number: int, search: Search) -> None:
    """Print one line on a trial."""
    name, _ = split_name(trial.params, search.model)
    if trial.state == TrialState.COMPLETE:
        result = f"cv {search.metric} {trial.value:.4f}"
    else:
        last = f"{trial.intermediate_values[max(trial.intermediate_values)]:.4f}"
        result = tr("given up at {metric} {value}", metric=search.metric, value=last)
    width = len(str(search.n_trials))
    click.echo(f"[{number:>{width}}/{search.n_trials}] {name:<22} {result}")
