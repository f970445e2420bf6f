"""What a search tries, and what it seeks: the best mean of a metric over folds of the training rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import BaseTrial
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

from classifiers import CLASSIFIERS, build
from evaluation import scores
from features import Split, with_preprocessing

# What may be searched for. The other metrics have a trivial best: a recall of 1 comes from always predicting the class.
LOSSES = ("log_loss", "brier_score_loss")
METRICS = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", *LOSSES)
CHOICE = "classifier"  # the name of the parameter that chooses among all classifiers


@dataclass(frozen=True)
class Search:
    """What a search is asked for: the options of these names of `tune`, and the seed."""

    model: str
    metric: str
    cv: int
    n_trials: int
    timeout: float
    study: str
    engine: str
    jobs: int
    random_state: int
    begun: float = 0  # when the first trial may begin, in seconds since 1970

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no trial begins any more; None without a limit."""
        return max(0.0, self.begun + self.timeout - time.time()) if self.timeout else None

    @property
    def greater_is_better(self) -> bool:
        return self.metric not in LOSSES


Range = Callable[[BaseTrial, str], Any]  # from a trial and the name of a parameter to a value


def integer(low: int, high: int, log: bool = False) -> Range:
    return lambda trial, name: trial.suggest_int(name, low, high, log=log)


def number(low: float, high: float, log: bool = False, step: float | None = None) -> Range:
    return lambda trial, name: trial.suggest_float(name, low, high, log=log, step=step)


def one_of(*choices: Any) -> Range:
    return lambda trial, name: trial.suggest_categorical(name, choices)


# The defaults are in the ranges: a search begins with them.
RANGES: dict[str, dict[str, Range]] = {
    "ann": {
        "epochs": integer(5, 30),
        "batch_size": one_of(32, 64, 128, 256),
        "units": integer(8, 128, log=True),
        "learning_rate": number(1e-4, 1e-2, log=True),
    },
    "decision_tree": {
        "criterion": one_of("gini", "entropy"),
        "max_depth": integer(2, 20),
        "min_samples_leaf": integer(1, 200, log=True),
    },
    "gaussian_nb": {"var_smoothing": number(1e-12, 1.0, log=True)},
    "hist_gradient_boosting": {
        "learning_rate": number(0.01, 0.3, log=True),
        "max_iter": integer(20, 300, log=True),
        "max_leaf_nodes": integer(3, 63, log=True),
    },
    "knn": {
        "n_neighbors": integer(1, 200, log=True),
        "metric": one_of("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"),
        "p": number(1.0, 4.0),
    },
    "logistic_regression": {"C": number(1e-3, 100.0, log=True), "l1_ratio": number(0.0, 1.0, step=0.25)},
    "random_forest": {
        "n_estimators": integer(50, 400, log=True),
        "criterion": one_of("gini", "entropy"),
        "max_depth": integer(2, 20),
    },
    "svm": {
        "C": number(0.01, 10.0, log=True),
        "kernel": one_of("rbf", "linear", "poly", "sigmoid"),
        "gamma": one_of("scale", "auto", 0.001, 0.01, 0.1),
    },
}


def suggest(trial: BaseTrial, model: str, rows: int) -> tuple[str, dict[str, Any]]:
    """Choose a classifier and its parameters; rows: those that a fold trains on, which bound the neighbours.

    In the study a parameter is called <classifier>.<parameter>, so that two classifiers may both have a `C`.
    """
    name = trial.suggest_categorical(CHOICE, list(RANGES)) if model == "all" else model
    ranges = RANGES[name]
    if name == "knn":
        ranges = {**ranges, "n_neighbors": integer(1, min(200, rows), log=True)}
    values: dict[str, Any] = {}
    for key, choose in ranges.items():
        idle = (key == "p" and values["metric"] != "minkowski") or (key == "gamma" and values["kernel"] == "linear")
        if not idle:  # an idle parameter would only mislead the search
            values[key] = choose(trial, f"{name}.{key}")
    return name, values


def split_name(params: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
    """The classifier and its parameters from what a trial of a study recorded."""
    name = params.get(CHOICE, model)
    return name, {key.partition(".")[2]: value for key, value in params.items() if key != CHOICE}


def first_choices(model: str, rows: int) -> list[dict[str, Any]]:
    """The defaults, as what a trial would record: a search begins with them."""
    found = []
    for name in RANGES if model == "all" else [model]:
        defaults = CLASSIFIERS[name].defaults
        if defaults.get("n_neighbors", 0) <= rows:
            values = {f"{name}.{key}": value for key, value in defaults.items()}
            trial = optuna.trial.FixedTrial({CHOICE: name, **values})
            suggest(trial, model, rows)
            optuna.create_trial(value=0, params=trial.params, distributions=trial.distributions)  # refuses one outside
            found.append(trial.params)
    return found


class Objective:
    """The mean of a metric over the folds of the training rows, for the parameters that a trial chooses.

    After each fold the trial is told the mean so far, and may be pruned; an ANN also after each quarter of its epochs.
    The step is the share of the work in percent of a fold, so that networks of unlike length compare.

    It is sent to other processes and machines, without the test rows; the folds are made where they are used.
    """

    def __init__(self, split: Split, search: Search) -> None:
        self.X, self.y = split.X_train, split.y_train
        self.kinds, self.classes, self.counted = split.kinds, split.classes, split.counted
        self.search = search

    @property
    def rows(self) -> int:
        """How many rows each fold trains on at least."""
        held = -(-len(self.y) // self.search.cv) + len(self.classes)  # each class is shared out, and rounded, by itself
        return max(1, len(self.y) - held)

    @cached_property
    def folds(self) -> list[tuple[np.ndarray, pd.Series, np.ndarray, np.ndarray]]:
        """X_fit, y_fit, X_held and the places of its classes, for each fold; the preprocessing is fitted on X_fit."""
        folds, truth = [], pd.Index(self.classes).get_indexer(self.y)
        splitter = StratifiedKFold(self.search.cv, shuffle=True, random_state=self.search.random_state)
        for fit, held in splitter.split(self.X, self.y):
            preprocessing = with_preprocessing(BaseEstimator(), self.kinds)[:-1]
            X_fit = preprocessing.fit_transform(self.X.iloc[fit], self.y.iloc[fit])
            folds.append((X_fit, self.y.iloc[fit], preprocessing.transform(self.X.iloc[held]), truth[held]))
        return folds

    def __call__(self, trial: optuna.Trial) -> float:
        name, values = suggest(trial, self.search.model, self.rows)
        measured: list[float] = []

        def report(share: int, probabilities: np.ndarray, truth: np.ndarray) -> float:
            """Tell the trial the mean of the folds so far; share: percent of the last one that is done."""
            predicted = probabilities.argmax(axis=1)
            value = scores(truth, probabilities, predicted, self.classes, self.counted)[self.search.metric]
            trial.report(float(np.mean([*measured, value])), 100 * len(measured) + share)
            if trial.should_prune():
                raise optuna.TrialPruned
            return value

        for X_fit, y_fit, X_held, truth in self.folds:
            classifier = build(name, values, self.search.random_state)
            more = {}
            if name == "ann":
                more["callbacks"] = [_each_quarter(classifier, X_held, partial(report, truth=truth))]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                classifier.fit(X_fit, y_fit, **more)
            measured.append(report(100, classifier.predict_proba(X_held), truth))
        return float(np.mean(measured))


def _each_quarter(network: Any, X_held: np.ndarray, report: Callable[[int, np.ndarray], Any]) -> Any:
    """A Keras callback that reports a network's probabilities after a quarter, a half and three quarters of it."""
    import keras  # loaded by the network already

    shares = {round(network.epochs * share / 100): share for share in (25, 50, 75)}

    def at_the_end_of(epoch: int, logs: Any) -> None:
        if (share := shares.get(epoch + 1)) and epoch + 1 < network.epochs:
            report(share, network.predict_proba(X_held))

    return keras.callbacks.LambdaCallback(on_epoch_end=at_the_end_of)
