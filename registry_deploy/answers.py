"""Let a model answer a table and time its answers, here or in the model's own environment.

`python answers.py MODEL ROWS ANSWERS CLASSIFIER` does it for a model folder and a Parquet file, and writes JSON. It
needs only what the model itself asks for.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

TIMED = 50  # single rows that are sent to the model one by one, after a few to warm up


@dataclass(frozen=True)
class Answers:
    """What a model says to the rows of a table.

    predictions: one for each row.
    classes: in the order of the probabilities; empty where the model gives no probabilities.
    probabilities: (rows, classes), or empty.
    latency: median time that it takes to answer a single row, in milliseconds, without the network.
    """

    predictions: list[Any]
    classes: list[Any]
    probabilities: list[list[float]]
    latency: float


def ask(model: str, X: pd.DataFrame, *, classifier: bool) -> Answers:
    """Load a model and let it answer.

    model: URI or folder of any pyfunc model.
    X: the columns of its signature.
    classifier: whether it predicts classes, so that probabilities are asked for.
    """
    seconds = []
    with redirect_stdout(io.StringIO()):  # Keras draws a progress bar for each row
        loaded = mlflow.pyfunc.load_model(model)
        predictions, classes, probabilities = _predict(loaded, X) if classifier else (loaded.predict(X), [], [])
        rows = [X.iloc[[number % len(X)]] for number in range(TIMED + 3)]
        for row in rows:
            started = time.perf_counter()
            loaded.predict(row)
            seconds.append(time.perf_counter() - started)
    return Answers(
        np.asarray(predictions).ravel().tolist(),
        list(np.asarray(classes).tolist()),
        np.asarray(probabilities, dtype=float).tolist(),
        1000 * statistics.median(seconds[3:]),
    )


def ask_in(python: list[str], model: Path, X: pd.DataFrame, folder: Path, *, classifier: bool) -> Answers:
    """The same in another environment.

    python: the command that starts its Python.
    folder: for the files that go there and back.

    Raises RuntimeError with the last line that the model wrote.
    """
    X.to_parquet(folder / "rows.parquet", index=False)
    files = [str(model), str(folder / "rows.parquet"), str(folder / "answers.json"), str(classifier)]
    done = subprocess.run([*python, __file__, *files], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return Answers(**json.loads((folder / "answers.json").read_text()))


def _predict(loaded: Any, X: pd.DataFrame) -> tuple[Any, Any, Any]:
    """Predictions, classes and probabilities of a classifier."""
    metadata = loaded.metadata
    known = (metadata.metadata or {}).get("classes")
    if "sklearn" in metadata.flavors:
        raw = loaded.get_raw_model()
        if hasattr(raw, "predict_proba"):
            return loaded.predict(X), raw.classes_, raw.predict_proba(X)
        return loaded.predict(X), [], []
    # The networks of this collection give probabilities when asked by this inference parameter.
    params = metadata.get_params_schema()
    if known and params is not None and "predict_method" in [param.name for param in params.params]:
        return loaded.predict(X), known, loaded.predict(X, params={"predict_method": "predict_proba"})
    output = np.asarray(loaded.predict(X))
    if not {"keras", "tensorflow"} & set(metadata.flavors):
        return output, [], []
    # A Keras model answers with the output of its last layer: one unit (sigmoid) or one a class (softmax).
    probabilities = output.reshape(len(X), -1)
    if probabilities.shape[1] == 1:
        probabilities = np.hstack([1 - probabilities, probabilities])
    classes = np.asarray(known or range(probabilities.shape[1]))
    return classes[probabilities.argmax(axis=1)], classes, probabilities


if __name__ == "__main__":
    result = ask(sys.argv[1], pd.read_parquet(sys.argv[2]), classifier=sys.argv[4] == "True")
    Path(sys.argv[3]).write_text(json.dumps(asdict(result)))
