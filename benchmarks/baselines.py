"""The ways that others do it, as baselines: a script a model, and the naive Keras loop.

`a script a model`: a process for each classifier, each parameter and metric logged by a call of its own, the model
with requirements that MLflow infers. It is started by plain `python`, which is cheaper than `mlflow run`.

`the naive Keras loop`: `fit` as Keras has it (one step of the optimiser a call into TensorFlow), and a callback that
logs each metric of each epoch when the epoch ends. Ours is `classification/ann.py`: many steps a call, and one call to
the tracking store after the training.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from measuring import COLLECTION, mlflow_run, must, surroundings

EXAMPLE = COLLECTION / "classification"
MODELS = ("decision_tree", "gaussian_nb", "knn", "logistic_regression", "random_forest", "svm")

EPOCHS = (15, 100)  # the default of the example, and what the naive loops of others train for

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import mlflow
from classifiers import CLASSIFIERS
from features import load_split, with_preprocessing
from sklearn.metrics import (
    accuracy_score, balanced_accuracy_score, f1_score, log_loss, precision_score, recall_score, roc_auc_score
)

name = sys.argv[2]
split = load_split("data/churn.csv", "churn", "", "", 0.25, 0)
arguments = ["--max_depth", "5"] if name in ("decision_tree", "random_forest") else []
classifier = CLASSIFIERS[name].main(arguments, standalone_mode=False)
if "random_state" in classifier.get_params():
    classifier.set_params(random_state=0)
with mlflow.start_run():
    mlflow.set_tag("baseline", name)
    for key, value in classifier.get_params(deep=False).items():
        mlflow.log_param(key, value)
    pipeline = with_preprocessing(classifier, split.columns).fit(split.X_train, split.y_train)
    probabilities = pipeline.predict_proba(split.X_test)
    predicted, truth = pipeline.predict(split.X_test), split.y_test
    for metric in (accuracy_score, balanced_accuracy_score):
        mlflow.log_metric(metric.__name__, metric(truth, predicted))
    for metric in (f1_score, precision_score, recall_score):
        mlflow.log_metric(metric.__name__, metric(truth, predicted, pos_label="Yes"))
    mlflow.log_metric("log_loss", log_loss(truth, probabilities))
    mlflow.log_metric("roc_auc", roc_auc_score(truth == "Yes", probabilities[:, 1]))
    mlflow.sklearn.log_model(pipeline, name="model", serialization_format="cloudpickle")
"""

# Prints the processor seconds of training and logging its epochs, without imports, and the ROC AUC on the test part.
ANN = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import keras, mlflow, numpy as np, tensorflow as tf
from ann import NeuralNetwork
from features import load_split, with_preprocessing
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from train import _log_epochs

split = load_split("data/churn.csv", "churn", "", "", 0.25, 0)
epochs = int(sys.argv[3])
with mlflow.start_run() as run:
    mlflow.log_param("epochs", epochs)  # the store is open now, whoever is measured
    started = time.process_time()
    if sys.argv[2] == "ours":
        network = NeuralNetwork(epochs=epochs, random_state=0)
        pipeline = with_preprocessing(network, split.columns).fit(split.X_train, split.y_train)
        _log_epochs(run.info.run_id, pipeline[-1].history_)
        seconds = time.process_time() - started
        probabilities = pipeline.predict_proba(split.X_test)
    else:
        class Log(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                for key, value in logs.items():
                    mlflow.log_metric(key, value, step=epoch)

        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
        preprocessing = with_preprocessing(None, split.columns)[:-1]
        X = preprocessing.fit_transform(split.X_train).astype("float32")
        classes, codes = np.unique(split.y_train, return_inverse=True)
        X_fit, X_val, y_fit, y_val = train_test_split(X, codes, test_size=0.1, random_state=0)
        network = keras.Sequential([
            keras.Input((X.shape[1],)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ])
        network.compile(
            optimizer=keras.optimizers.Adam(0.0005), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        network.fit(
            X_fit, y_fit, validation_data=(X_val, y_val), epochs=epochs, batch_size=64, verbose=0, callbacks=[Log()]
        )
        seconds = time.process_time() - started
        probabilities = network.predict(preprocessing.transform(split.X_test).astype("float32"), verbose=0)
print(json.dumps({"cpu": seconds, "roc_auc": roc_auc_score(split.y_test == "Yes", probabilities[:, 1])}))
"""


def measure_scripts(folder: Path) -> dict[str, float]:
    """One round: processor seconds of a script for each of six classifiers, and of one `mlflow run` with all six.

    Both must reach the same ROC AUC.
    """
    environment, client = surroundings(folder)
    scripts = sum(must([sys.executable, "-c", SCRIPT, str(EXAMPLE), name], environment, folder).cpu for name in MODELS)
    main = must(mlflow_run("classification", models=",".join(MODELS), max_depth=5), environment, folder).cpu
    found: dict[str, set[float]] = {}
    for run in client.search_runs(["0"]):
        name = run.data.tags.get("baseline") or run.data.tags.get("classifier")
        if name:
            found.setdefault(name, set()).add(round(run.data.metrics["roc_auc"], 9))
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(MODELS, 1), found
    return {"scripts": scripts, "main": main}


def measure_ann(folder: Path, epochs: int) -> dict[str, float]:
    """One round: processor seconds of training the network, naive and ours; their ROC AUC may differ by 0.005."""
    environment, _ = surroundings(folder)
    environment |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    found = {}
    for way in ("naive", "ours"):
        used = must([sys.executable, "-c", ANN, str(EXAMPLE), way, str(epochs)], environment, folder)
        found[way] = json.loads(used.output.splitlines()[-1])
    assert abs(found["naive"]["roc_auc"] - found["ours"]["roc_auc"]) < 0.005, found
    return {f"{way}_{key}": value for way, each in found.items() for key, value in each.items()}
