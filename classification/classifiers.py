"""The seven classifiers: the parameters of each, under scikit-learn's and Keras's names, and the estimator they make.

Each is a click command, so that a value which is no number, or out of range, is refused by name. `random_state` is set
by whoever trains them.
"""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import click
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from support.entry_point import FiniteRange

POSITIVE = FiniteRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)


class Depth(click.ParamType):
    """A depth of at least 1, or `none` for no bound."""

    name = "integer or none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or str(value).lower() == "none":
            return None
        try:
            return COUNT.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither an integer of 1 or more nor none.", param, ctx)


class Gamma(click.ParamType):
    """The `gamma` of an SVC: `scale`, `auto` or a number above 0."""

    name = "scale, auto or a number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if value in ("scale", "auto"):
            return str(value)
        try:
            return POSITIVE.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is none of: scale, auto, a number above 0.", param, ctx)


@click.command("ann")
@click.option("--epochs", type=COUNT, default=15)
@click.option("--batch_size", type=COUNT, default=64)
@click.option("--units", type=COUNT, default=32, help="Units of each of the two hidden layers.")
@click.option("--learning_rate", type=POSITIVE, default=0.0005)
def ann(**parameters: Any) -> BaseEstimator:
    """A dense neural network in Keras."""
    return _neural_network()(**parameters)


@cache
def _neural_network() -> type[BaseEstimator]:
    """Its class, loaded late: TensorFlow takes seconds to load, and only this classifier needs it."""
    gc.disable()  # as in project.py: what the imports make stays, and Python need not look through it for garbage
    from ann import NeuralNetwork

    gc.freeze()
    gc.enable()
    return NeuralNetwork


@click.command("decision_tree")
@click.option("--criterion", type=click.Choice(["gini", "entropy", "log_loss"]), default="gini")
@click.option("--max_depth", type=Depth(), default=5)
@click.option("--min_samples_leaf", type=COUNT, default=20)
def decision_tree(**parameters: Any) -> BaseEstimator:
    """A decision tree."""
    return DecisionTreeClassifier(**parameters)


@click.command("gaussian_nb")
@click.option("--var_smoothing", type=FiniteRange(min=0), default=1e-9)
def gaussian_nb(**parameters: Any) -> BaseEstimator:
    """Gaussian naive Bayes."""
    return GaussianNB(**parameters)


@click.command("knn")
@click.option("--n_neighbors", type=COUNT, default=25)
@click.option(
    "--metric", type=click.Choice(["minkowski", "euclidean", "manhattan", "chebyshev", "cosine"]), default="minkowski"
)
@click.option("--p", type=POSITIVE, default=2.0, help="Power of the Minkowski metric.")
def knn(**parameters: Any) -> BaseEstimator:
    """The k nearest neighbours."""
    return KNeighborsClassifier(**parameters)


@click.command("logistic_regression")
@click.option("--C", "C", type=POSITIVE, default=1.0, help="Inverse of the strength of the penalty.")
@click.option("--l1_ratio", type=FiniteRange(0, 1), default=0.0, help="Share of L1 in the penalty; 0 is pure L2.")
@click.option("--max_iter", type=COUNT, default=1000)
def logistic_regression(l1_ratio: float, **parameters: Any) -> BaseEstimator:
    """Logistic regression, its penalty L2, L1 or between."""
    solver = "saga" if l1_ratio > 0 else "lbfgs"  # lbfgs is the fast one, but knows no L1 penalty
    return LogisticRegression(l1_ratio=l1_ratio, solver=solver, **parameters)


@click.command("random_forest")
@click.option("--n_estimators", type=COUNT, default=200)
@click.option("--criterion", type=click.Choice(["gini", "entropy", "log_loss"]), default="gini")
@click.option("--max_depth", type=Depth(), default=8)
def random_forest(**parameters: Any) -> BaseEstimator:
    """A random forest."""
    return RandomForestClassifier(**parameters)


@click.command("svm")
@click.option("--C", "C", type=POSITIVE, default=1.0, help="Inverse of the strength of the penalty.")
@click.option("--kernel", type=click.Choice(["rbf", "linear", "poly", "sigmoid"]), default="rbf")
@click.option("--gamma", type=Gamma(), default="scale")
def svm(**parameters: Any) -> BaseEstimator:
    """A support vector machine, RBF unless told otherwise."""
    # SVC(probability=True) is deprecated: the decision function of a single SVC is calibrated instead.
    return CalibratedClassifierCV(SVC(**parameters), ensemble=False, cv=3)


CLASSIFIERS = {
    str(command.name): command
    for command in (ann, decision_tree, gaussian_nb, knn, logistic_regression, random_forest, svm)
}
