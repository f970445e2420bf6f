"""The eight classifiers: the estimator of each, and what a user may set of it, under the estimator's own names.

To add one, add an entry to CLASSIFIERS, and an entry point of the same name to MLproject.
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
from support.parameters import Or, option


@dataclass(frozen=True)
class Classifier:
    """How to make an estimator, and what may be set of it.

    make: makes the estimator, not fitted, from the values of all options by name.
    options: each has a type, which refuses a wrong value by name, and a default.
    """

    make: Callable[..., BaseEstimator]
    options: list[click.Option]

    @property
    def defaults(self) -> dict[str, Any]:
        return {str(option.name): option.default for option in self.options}


def neural_network(**parameters: Any) -> BaseEstimator:
    """A dense neural network in Keras."""
    from ann import (
        NeuralNetwork,  # late: TensorFlow takes seconds to load, and only this classifier needs it
    )

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
DEPTH = Or(COUNT, "an integer of 1 or more", "none")
CRITERION = click.Choice(["gini", "entropy", "log_loss"])
METRIC = click.Choice(["minkowski", "euclidean", "manhattan", "chebyshev", "cosine"])
KERNEL = click.Choice(["rbf", "linear", "poly", "sigmoid"])
GAMMA = Or(POSITIVE, "a number above 0", "scale", "auto")
CLASS_WEIGHT = option("class_weight", Or(click.Choice(["balanced"]), "balanced", "none"), None, "Or balanced.")

CLASSIFIERS = {
    "ann": Classifier(
        neural_network,
        [
            option("epochs", COUNT, 15),
            option("batch_size", COUNT, 64),
            option("units", COUNT, 32, "Units of each of the two hidden layers."),
            option("learning_rate", POSITIVE, 0.0005),
        ],
    ),
    "decision_tree": Classifier(
        DecisionTreeClassifier,
        [
            option("criterion", CRITERION, "gini"),
            option("max_depth", DEPTH, 5),
            option("min_samples_leaf", COUNT, 20),
            CLASS_WEIGHT,
        ],
    ),
    "gaussian_nb": Classifier(GaussianNB, [option("var_smoothing", FiniteRange(min=0), 1e-9)]),
    "hist_gradient_boosting": Classifier(
        HistGradientBoostingClassifier,
        [
            option("learning_rate", POSITIVE, 0.05),
            option("max_iter", COUNT, 100, "Trees, each of which corrects those before it."),
            option("max_leaf_nodes", click.IntRange(min=2), 31),
            CLASS_WEIGHT,
        ],
    ),
    "knn": Classifier(
        KNeighborsClassifier,
        [
            option("n_neighbors", COUNT, 25),
            option("metric", METRIC, "minkowski"),
            option("p", FiniteRange(min=1), 2.0, "Power of the Minkowski metric."),
        ],
    ),
    "logistic_regression": Classifier(
        logistic_regression,
        [
            option("C", POSITIVE, 1.0, "Inverse of the strength of the penalty."),
            option("l1_ratio", FiniteRange(0, 1), 0.0, "Share of L1 in the penalty; 0 is pure L2."),
            option("max_iter", COUNT, 1000),
            CLASS_WEIGHT,
        ],
    ),
    "random_forest": Classifier(
        RandomForestClassifier,
        [
            option("n_estimators", COUNT, 200),
            option("criterion", CRITERION, "gini"),
            option("max_depth", DEPTH, 8),
            CLASS_WEIGHT,
        ],
    ),
    "svm": Classifier(
        svm,
        [
            option("C", POSITIVE, 1.0, "Inverse of the strength of the penalty."),
            option("kernel", KERNEL, "rbf"),
            option("gamma", GAMMA, "scale"),
            CLASS_WEIGHT,
        ],
    ),
}


def build(name: str, values: Mapping[str, Any], random_state: int) -> BaseEstimator:
    """A classifier that is not fitted, with these values and the defaults for the others."""
    classifier = CLASSIFIERS[name]
    estimator = classifier.make(**{**classifier.defaults, **values})
    return estimator.set_params(random_state=random_state) if "random_state" in estimator.get_params() else estimator
