"""A dense neural network in Keras: as a classifier of scikit-learn, to train it, and as the model that MLflow logs.

MLflow stores this file with the model and runs it when the model is loaded ("models from code"), so that no pickle is
involved and the example's folder is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences messages on absent GPUs
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its order of summation changes with the machine

import keras
import numpy as np
import pandas as pd
import skops.io
import tensorflow as tf
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split

tf.get_logger().setLevel("ERROR")  # silences warnings on compiling one network after another, which tuning does


def probabilities_of(network: keras.Model, X: np.ndarray) -> np.ndarray:
    """Probabilities (rows, classes) for X (rows, features). Called, a network answers in 2 ms; its `predict` in 40."""
    return np.asarray(network(np.asarray(X, dtype="float32")))


class NeuralNetwork(ClassifierMixin, BaseEstimator):
    """Two hidden layers of rectified linear units and a softmax over the classes, trained by Adam on cross-entropy.

    epochs: passes over the training rows. batch_size: rows a step. units: of each hidden layer. learning_rate: of Adam.
    random_state: seed of weights, order and validation split; TensorFlow runs with deterministic operations.

    After `fit`, `history_` maps `loss`, `accuracy`, `val_loss` and `val_accuracy` to a value an epoch, the last two
    on a tenth of the training rows that is kept out of the training.
    """

    def __init__(self, epochs: int, batch_size: int, units: int, learning_rate: float, random_state: int = 0) -> None:
        self.epochs, self.batch_size, self.units = epochs, batch_size, units
        self.learning_rate, self.random_state = learning_rate, random_state

    def fit(self, X: np.ndarray, y: np.ndarray, callbacks: Sequence[keras.callbacks.Callback] = ()) -> NeuralNetwork:
        """Train on X (rows, features), numbers on like scales, and y (rows,), classes of any type.

        callbacks: Keras's, called during the training.
        """
        keras.utils.set_random_seed(self.random_state)
        tf.config.experimental.enable_op_determinism()
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        X_fit, X_val, y_fit, y_val = train_test_split(
            np.asarray(X, dtype="float32"), codes, test_size=0.1, random_state=self.random_state
        )
        layers = [keras.layers.Dense(self.units, activation="relu") for _ in range(2)]
        layers.append(keras.layers.Dense(len(self.classes_), activation="softmax"))
        self.network_ = keras.Sequential([keras.Input((X.shape[1],)), *layers])
        self.network_.compile(
            optimizer=keras.optimizers.Adam(self.learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=min(100, -(-len(X_fit) // self.batch_size)),
        )
        # Rows as TensorFlow's own pipeline, which shuffles, and as many steps as possible in one call into it: an epoch
        # costs less than half the processor time that it does by `fit(X, y)`.
        rows = tf.data.Dataset.from_tensor_slices((X_fit, y_fit)).shuffle(len(X_fit), self.random_state)
        validation = tf.data.Dataset.from_tensor_slices((X_val, y_val)).batch(10_000)
        given = {"validation_data": validation, "epochs": self.epochs, "callbacks": list(callbacks), "verbose": 0}
        self.history_ = self.network_.fit(rows.batch(self.batch_size), shuffle=False, **given).history
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (rows, classes) in the order of `classes_`."""
        return probabilities_of(self.network_, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class LoggedNetwork(PythonModel):
    """The logged form: preprocessing (skops) and network (Keras), from raw columns to classes.

    `predict` gives the most probable class of each row or, where the model has a threshold, the positive class from
    that probability on; `params={"predict_method": "predict_proba"}` gives probabilities, one column a class.
    """

    def load_context(self, context: PythonModelContext) -> None:
        self.preprocessing = skops.io.load(context.artifacts["preprocessing"], trusted=["numpy.dtype"])
        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.config = context.model_config  # classes and, where there is a threshold, positive and threshold

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray | pd.DataFrame:
        probabilities = probabilities_of(self.network, self.preprocessing.transform(model_input))
        classes = list(self.config["classes"])
        if (params or {}).get("predict_method") == "predict_proba":
            return pd.DataFrame(probabilities, columns=list(map(str, classes)))
        predicted = probabilities.argmax(axis=1)
        if self.config.get("threshold") is not None:
            positive = classes.index(self.config["positive"])
            predicted = np.where(probabilities[:, positive] >= self.config["threshold"], positive, 1 - positive)
        return np.asarray(classes)[predicted]


set_model(LoggedNetwork())
