"""Train the network and track its epochs: network.py PIPELINES ours|naive EPOCHS.

naive: `fit` as Keras has it, one step of the optimiser a call into TensorFlow, and a callback that logs each metric
of each epoch when the epoch ends. ours: the example's, many steps a call, and one call to the store after the training.

Prints processor seconds of training and tracking, without imports, and the ROC AUC on the test part.
"""

import json
import os
import sys
import time

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import mlflow
import numpy as np
import tensorflow as tf
from churn import pipelines, roc_auc, split
from mlflow import MlflowClient
from mlflow.entities import Metric
from sklearn.model_selection import train_test_split


class Log(keras.callbacks.Callback):
    """Logs each metric of an epoch when it ends."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log the metrics of an epoch."""
        for key, value in (logs or {}).items():
            mlflow.log_metric(key, value, step=epoch)


X_train, X_test, y_train, y_test = split()
pipeline, epochs = pipelines(sys.argv[1])["ann"], int(sys.argv[3])
with mlflow.start_run() as run:
    mlflow.log_param("epochs", epochs)  # the store is open now, whichever is measured
    started = time.process_time()
    if sys.argv[2] == "ours":
        pipeline[-1].set_params(epochs=epochs)
        history = pipeline.fit(X_train, y_train)[-1].history_
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, each in history.items() for step, value in enumerate(each)]
        MlflowClient().log_batch(run.info.run_id, metrics)
        seconds = time.process_time() - started
        probabilities = pipeline.predict_proba(X_test)
    else:
        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
        preprocessing = pipeline[:-1]
        X = preprocessing.fit_transform(X_train).astype("float32")
        codes = np.unique(y_train, return_inverse=True)[1]
        X_fit, X_val, y_fit, y_val = train_test_split(X, codes, test_size=0.1, random_state=0)
        layers = [keras.layers.Dense(32, activation="relu") for _ in range(2)]
        network = keras.Sequential(
            [keras.Input((X.shape[1],)), *layers, keras.layers.Dense(2, activation="softmax")],
        )
        network.compile(
            optimizer=keras.optimizers.Adam(0.0005), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        given = {"validation_data": (X_val, y_val), "epochs": epochs, "batch_size": 64, "callbacks": [Log()]}
        network.fit(X_fit, y_fit, verbose=0, **given)
        seconds = time.process_time() - started
        probabilities = network.predict(preprocessing.transform(X_test).astype("float32"), verbose=0)
print(json.dumps({"cpu": seconds, "roc_auc": roc_auc(y_test, probabilities)}))
