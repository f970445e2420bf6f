"""What a search tries, the range of each parameter, and what it maximizes: cross-validation on the training rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

from classifiers import CLASSIFIERS
from evaluation import scores
from features import Columns, with_preprocessing

# What may be searched for. The other metrics have a trivial best: a recall of 1 comes from suspecting everybody.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "roc_auc": "maximize",
    "average_precision": "maximize",
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "f1": "maximize",
    "log_loss": "minimize",
    "brier_score_loss": "minimize",
}
CHOICE = "classifier"  # the name of the parameter that chooses among all classifiers


def defaults(name: str) -> dict[str, Any]:
    """The parameters of a classifier's entry point, with their defaults."""
    return {str(option.name): option.default for option in CLASSIFIERS[name].params}


def build(name: str, values: dict[str, Any], random_state: int) -> BaseEstimator:
    """A classifier with these parameters, the others at their defaults."""
    make = CLASSIFIERS[name].callback
    assert make is not None
    classifier = make(**{**defaults(name), **values})
    if "random_state" in classifier.get_params():
        classifier.set_params(random_state=random_state)
    return classifier


def suggest(trial: optuna.trial.BaseTrial, model: str, rows: int) -> tuple[str, dict[str, Any]]:
    """Choose a classifier and its parameters.

    model: the name of a classifier, or `all`: the classifier is then itself a choice.
    rows: those that a fold trains on, which bound the neighbours.

    In the study a parameter is called <classifier>.<parameter>, so that two classifiers may both have a `C`. The
    defaults are in the ranges.
    """
    name = trial.suggest_categorical(CHOICE, list(CLASSIFIERS)) if model == "all" else model

    def integer(key: str, low: int, high: int, log: bool = False) -> int:
        return trial.suggest_int(f"{name}.{key}", low, high, log=log)

    def number(key: str, low: float, high: float, log: bool = False, step: float | None = None) -> float:
        return trial.suggest_float(f"{name}.{key}", low, high, log=log, step=step)

    def one_of(key: str, choices: list[Any]) -> Any:
        return trial.suggest_categorical(f"{name}.{key}", choices)

    values: dict[str, Any]
    if name == "ann":
        values = {
            "epochs": integer("epochs", 5, 30),
            "batch_size": one_of("batch_size", [32, 64, 128, 256]),
            "units": integer("units", 8, 128, log=True),
            "learning_rate": number("learning_rate", 1e-4, 1e-2, log=True),
        }
    elif name == "decision_tree":
        values = {
            "criterion": one_of("criterion", ["gini", "entropy"]),
            "max_depth": integer("max_depth", 2, 20),
            "min_samples_leaf": integer("min_samples_leaf", 1, 200, log=True),
        }
    elif name == "gaussian_nb":
        values = {"var_smoothing": number("var_smoothing", 1e-12, 1.0, log=True)}
    elif name == "knn":
        values = {
            "n_neighbors": integer("n_neighbors", 1, min(200, rows), log=True),
            "metric": one_of("metric", ["minkowski", "euclidean", "manhattan", "chebyshev", "cosine"]),
        }
        if values["metric"] == "minkowski":
            values["p"] = number("p", 1.0, 4.0)
    elif name == "logistic_regression":
        values = {
            "C": number("C", 1e-3, 100.0, log=True),
            "l1_ratio": number("l1_ratio", 0.0, 1.0, step=0.25),
        }
    elif name == "random_forest":
        values = {
            "n_estimators": integer("n_estimators", 50, 400, log=True),
            "criterion": one_of("criterion", ["gini", "entropy"]),
            "max_depth": integer("max_depth", 2, 20),
        }
    else:
        values = {
            "C": number("C", 0.01, 10.0, log=True),
            "kernel": one_of("kernel", ["rbf", "linear", "poly", "sigmoid"]),
        }
        if values["kernel"] != "linear":
            values["gamma"] = one_of("gamma", ["scale", "auto", 0.001, 0.01, 0.1])
    return name, values


def split_name(params: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
    """The classifier and its parameters from what a trial of a study recorded."""
    name = params.get(CHOICE, model)
    return name, {key.partition(".")[2]: value for key, value in params.items() if key != CHOICE}


def first_choices(model: str, rows: int) -> list[dict[str, Any]]:
    """The defaults, as what a trial would record: a search begins with them."""
    found = []
    for name in CLASSIFIERS if model == "all" else [model]:
        values = {f"{name}.{key}": value for key, value in defaults(name).items()}
        if values.get("knn.n_neighbors", 0) > rows:
            continue
        trial = optuna.trial.FixedTrial({CHOICE: name, **values})
        suggest(trial, model, rows)
        found.append(trial.params)
    return found


class Objective:
    """The mean of a metric over the folds of the training rows, for the parameters that a trial chooses.

    After each fold the trial is told the mean so far, and may be pruned; an ANN also after each quarter of its epochs.
    The step is the share of the work in percent of a fold, so that networks of unlike length compare.

    X, y: the training rows; nothing else is seen.
    cv: folds, with the classes in equal shares; shuffled by `random_state`.

    It is sent to other processes and machines; the folds are made where they are used.
    """

    def __init__(
        self,
        X: pd.DataFrame,
        y: pd.Series,
        columns: Columns,
        classes: list[object],
        positive: object | None,
        *,
        model: str,
        metric: str,
        cv: int,
        random_state: int,
    ) -> None:
        self.X, self.y, self.columns, self.classes, self.positive = X, y, columns, classes, positive
        self.model, self.metric, self.cv, self.random_state = model, metric, cv, random_state

    @property
    def rows(self) -> int:
        """How many rows each fold trains on at least."""
        held = -(-len(self.y) // self.cv) + len(self.classes)  # each class is shared out, and rounded, by itself
        return max(1, len(self.y) - held)

    @cached_property
    def folds(self) -> list[tuple[np.ndarray, pd.Series, np.ndarray, pd.Series]]:
        """X_fit, y_fit, X_held, y_held of each fold, the preprocessing fitted on its X_fit alone.

        It depends on no parameter that is searched, so that all trials share it.
        """
        folds = []
        splitter = StratifiedKFold(self.cv, shuffle=True, random_state=self.random_state)
        for fit, held in splitter.split(self.X, self.y):
            preprocessing = with_preprocessing(BaseEstimator(), self.columns)[:-1]
            X_fit = preprocessing.fit_transform(self.X.iloc[fit], self.y.iloc[fit])
            folds.append((X_fit, self.y.iloc[fit], preprocessing.transform(self.X.iloc[held]), self.y.iloc[held]))
        return folds

    def __call__(self, trial: optuna.Trial) -> float:
        name, values = suggest(trial, self.model, self.rows)
        measured: list[dict[str, float]] = []

        def report(share: int, probabilities: np.ndarray, truth: pd.Series) -> dict[str, float]:
            """Tell the trial the mean of the folds so far; share: percent of the last one that is done."""
            metrics = scores(truth, probabilities, self.classes, self.positive)
            mean = np.mean([*(fold[self.metric] for fold in measured), metrics[self.metric]])
            trial.report(float(mean), 100 * len(measured) + share)
            if trial.should_prune():
                raise optuna.TrialPruned
            return metrics

        for X_fit, y_fit, X_held, y_held in self.folds:
            classifier = build(name, values, self.random_state)
            more = {}
            if name == "ann":
                more["callbacks"] = [_each_quarter(classifier, X_held, partial(report, truth=y_held))]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                classifier.fit(X_fit, y_fit, **more)
            measured.append(report(100, classifier.predict_proba(X_held), y_held))
        trial.set_user_attr("metrics", {key: float(np.mean([fold[key] for fold in measured])) for key in DIRECTIONS})
        trial.set_user_attr("std", float(np.std([fold[self.metric] for fold in measured])))
        return float(np.mean([fold[self.metric] for fold in measured]))


def _each_quarter(network: Any, X_held: np.ndarray, report: Callable[[int, np.ndarray], Any]) -> Any:
    """A Keras callback that reports a network's probabilities after a quarter, a half and three quarters of it."""
    import keras  # loaded by the network already

    shares = {round(network.epochs * share / 100): share for share in (25, 50, 75)}

    def at_the_end_of(epoch: int, logs: Any) -> None:
        if epoch + 1 in shares and epoch + 1 < network.epochs:
            report(shares[epoch + 1], network.predict_proba(X_held))

    return keras.callbacks.LambdaCallback(on_epoch_end=at_the_end_of)
