"""The eight classifiers: the estimator of each, and what a user may set of it, under the estimator's own names.

To add one, add an entry to CLASSIFIERS and an entry point of the same name to MLproject. For `tune` to search its
parameters, add their ranges to RANGES in objective.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread of OpenMP that waits leaves its core to others

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from support.entry_point import FiniteRange
from support.parameters import Or


@dataclass(frozen=True)
class Classifier:
    """An estimator (`make` gives one that is not fitted), and the type and the default of each of its parameters."""

    make: Callable[..., BaseEstimator]
    parameters: dict[str, tuple[click.ParamType, Any]]

    @property
    def defaults(self) -> dict[str, Any]:
        return {name: default for name, (_, default) in self.parameters.items()}


def neural_network(**parameters: Any) -> BaseEstimator:
    """A dense neural network in Keras."""
    from ann import NeuralNetwork  # late: TensorFlow takes seconds to load, and only this classifier needs it

    return NeuralNetwork(**parameters)


def logistic_regression(l1_ratio: float, **parameters: Any) -> BaseEstimator:
    """A logistic regression; its penalty is L2, L1 or between."""
    solver = "saga" if l1_ratio > 0 else "lbfgs"  # lbfgs is the fast one, but knows no L1 penalty
    return LogisticRegression(l1_ratio=l1_ratio, solver=solver, **parameters)


def svm(**parameters: Any) -> BaseEstimator:
    """A support vector machine with probabilities: the decision function of one SVC, calibrated on three folds."""
    return CalibratedClassifierCV(SVC(**parameters), ensemble=False, cv=3)  # SVC(probability=True) is deprecated


POSITIVE = FiniteRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)
LEAVES = click.IntRange(min=2)
DEPTH = Or(COUNT, "an integer of 1 or more", "none")
CRITERION = click.Choice(["gini", "entropy", "log_loss"])
METRIC = click.Choice(["minkowski", "euclidean", "manhattan", "chebyshev", "cosine"])
KERNEL = click.Choice(["rbf", "linear", "poly", "sigmoid"])
GAMMA = Or(POSITIVE, "a number above 0", "scale", "auto")
WEIGHT = {"class_weight": (Or(click.Choice(["balanced"]), "balanced", "none"), None)}

CLASSIFIERS = {
    "ann": Classifier(
        neural_network,
        {"epochs": (COUNT, 15), "batch_size": (COUNT, 64), "units": (COUNT, 32), "learning_rate": (POSITIVE, 0.0005)},
    ),
    "decision_tree": Classifier(
        DecisionTreeClassifier,
        {"criterion": (CRITERION, "gini"), "max_depth": (DEPTH, 5), "min_samples_leaf": (COUNT, 20), **WEIGHT},
    ),
    "gaussian_nb": Classifier(GaussianNB, {"var_smoothing": (FiniteRange(min=0), 1e-9)}),
    "hist_gradient_boosting": Classifier(
        HistGradientBoostingClassifier,
        {"learning_rate": (POSITIVE, 0.05), "max_iter": (COUNT, 100), "max_leaf_nodes": (LEAVES, 31), **WEIGHT},
    ),
    "knn": Classifier(
        KNeighborsClassifier,
        {"n_neighbors": (COUNT, 25), "metric": (METRIC, "minkowski"), "p": (FiniteRange(min=1), 2.0)},
    ),
    "logistic_regression": Classifier(
        logistic_regression,
        {"C": (POSITIVE, 1.0), "l1_ratio": (FiniteRange(0, 1), 0.0), "max_iter": (COUNT, 1000), **WEIGHT},
    ),
    "random_forest": Classifier(
        RandomForestClassifier,
        {"n_estimators": (COUNT, 200), "criterion": (CRITERION, "gini"), "max_depth": (DEPTH, 8), **WEIGHT},
    ),
    "svm": Classifier(svm, {"C": (POSITIVE, 1.0), "kernel": (KERNEL, "rbf"), "gamma": (GAMMA, "scale"), **WEIGHT}),
}


def build(name: str, values: Mapping[str, Any], random_state: int) -> BaseEstimator:
    """A classifier that is not fitted, with these values and the defaults for the others."""
    estimator = CLASSIFIERS[name].make(**{**CLASSIFIERS[name].defaults, **values})
    return estimator.set_params(random_state=random_state) if "random_state" in estimator.get_params() else estimator
