"""Let a model answer a table and time single rows, here or in the model's own environment.

`python answers.py FOLDER CLASSIFIER` does it for the model and the rows in a folder, in the environment of the model:
it needs only what the model itself asks for. It writes the answers as JSON, then times each row whose number it reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from processes import without_credentials


@dataclass(frozen=True)
class Answers:
    """What a model says to the rows of a table.

    predictions: one for each row.
    classes: in the order of the probabilities; empty where the model gives no probabilities.
    probabilities: (rows, classes), or empty.
    """

    predictions: list[Any]
    classes: list[Any]
    probabilities: list[list[float]]

    def of(self, member: np.ndarray) -> Answers:
        """The answers to some of the rows: member (rows,) says which."""
        chosen = list(compress(self.probabilities, member))
        return Answers(list(compress(self.predictions, member)), self.classes, chosen)


class Asked:
    """A model in this process that has answered a table.

    model: URI or folder of any pyfunc model.
    X: (rows, columns), as its signature names them.
    labels: the classes in the truth where it is a classifier, otherwise None.
    """

    def __init__(self, model: str, X: pd.DataFrame, labels: list[Any] | None) -> None:
        self.loaded = mlflow.pyfunc.load_model(model)
        self.schema = self.loaded.metadata.get_input_schema()
        self.X, self.labels = X, labels
        self.answers = self.answer(X)
        for row in range(min(3, len(X))):  # the first calls are slower than the others
            self.milliseconds(row)

    def answer(self, X: pd.DataFrame) -> Answers:
        """What it says to a table."""
        return answers_of(self.loaded, as_input(X, self.schema), len(X), self.labels)

    def milliseconds(self, row: int) -> float:
        """The time that it takes to answer one row, without the network."""
        given = as_input(self.X.iloc[[row]], self.schema)
        started = time.perf_counter()
        self.loaded.predict(given)
        return 1000 * (time.perf_counter() - started)


class AskedElsewhere:
    """The same in another environment, with no credentials in its variables.

    python: the command that starts its Python.
    folder: for the files that go there and back; holds the model as `model`.

    Raises RuntimeError with the last line that the model wrote.
    """

    def __init__(self, python: list[str], model: Path, X: pd.DataFrame, labels: list[Any] | None, folder: Path) -> None:
        X.to_parquet(folder / "rows.parquet", index=False)
        (folder / "asked.json").write_text(json.dumps({"model": str(model), "labels": labels}))
        self.log = folder / "log.txt"
        command = [*python, __file__, str(folder)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, env=without_credentials(), stderr=log, text=True, **pipes)
        self._read()
        self.answers = Answers(**json.loads((folder / "answers.json").read_text()))

    def milliseconds(self, row: int) -> float:
        """The time that it takes to answer one row, without the network."""
        print(row, file=self.process.stdin, flush=True)
        return float(self._read())

    def _read(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            code = self.process.wait()
            raise RuntimeError((self.log.read_text().strip().splitlines() or [f"exit code {code}"])[-1])
        return line

    def close(self) -> None:
        """End its process."""
        self.process.kill()
        self.process.communicate()


def as_input(X: pd.DataFrame, schema: Any) -> Any:
    """Rows as a model takes them: a table, one array, or one array for each name, by its signature."""
    if schema is None or not schema.is_tensor_spec():
        return X
    if schema.has_input_names():
        return {each.name: X[each.name].to_numpy(each.type).reshape(-1, *each.shape[1:]) for each in schema.inputs}
    tensor = schema.inputs[0]
    return X.to_numpy(tensor.type).reshape(-1, *tensor.shape[1:])


def answers_of(loaded: Any, given: Any, rows: int, labels: list[Any] | None) -> Answers:
    """What a loaded pyfunc model says to rows, whatever the form of its output. labels: as of `Asked`."""
    output = loaded.predict(given)
    if labels is None:
        return Answers(_one_a_row(output, rows), [], [])
    truth = {str(label): label for label in labels}  # a model may write 1 as "1"
    # A model that learned the numbers of the classes has their names in its metadata.
    named = (loaded.metadata.metadata or {}).get("classes") or []
    own = np.asarray(getattr(raw_model(loaded), "classes_", [])).tolist()
    renamed = len(own) == len(named) and set(map(str, own)) != set(map(str, named))
    beside, probabilities = _probabilities(loaded, given, rows, output)
    known = own if own and not renamed else named
    classes = beside if set(map(str, beside)) in ({*map(str, known)}, {*truth}) else known or beside
    if probabilities is not None and probabilities.shape[1] == 1:  # of the second of two classes
        probabilities = np.hstack([1 - probabilities, probabilities])
    if probabilities is not None:
        classes = [truth.get(str(each), each) for each in classes or range(probabilities.shape[1])]
        if len(classes) != probabilities.shape[1]:
            raise ValueError(f"gives {probabilities.shape[1]} probabilities a row and names {len(classes)} classes")
        chances = probabilities.astype(float).tolist()
        if _is_probability(output, rows, loaded):
            return Answers([classes[place] for place in probabilities.argmax(axis=1)], classes, chances)
    predictions = _one_a_row(output, rows)
    if renamed or (not own and not set(map(str, predictions)) <= set(map(str, named))):
        names = dict(zip(own or range(len(named)), named, strict=True))
        predictions = [names.get(each, each) for each in predictions]
    predictions = [truth.get(str(each), each) for each in predictions]
    return Answers(predictions, *([], []) if probabilities is None else (classes, chances))


def _probabilities(loaded: Any, given: Any, rows: int, output: Any) -> tuple[list[Any], np.ndarray | None]:
    """The names that stand with probabilities, and these (rows, classes or 1); None where a classifier has none."""
    # The models of this collection give probabilities when asked by this inference parameter.
    params = loaded.metadata.get_params_schema()
    if params is not None and "predict_method" in [param.name for param in params.params]:
        found = loaded.predict(given, params={"predict_method": "predict_proba"})
        return list(getattr(found, "columns", [])), np.asarray(found, dtype=float)
    raw = raw_model(loaded)
    if hasattr(raw, "predict_proba"):  # scikit-learn, XGBoost, LightGBM, CatBoost
        return [], np.asarray(raw.predict_proba(given), dtype=float)
    if isinstance(output, pd.DataFrame) and "prediction" in output:
        beside = output.drop(columns="prediction").select_dtypes("number")
        found = beside.to_numpy(dtype=float)
        return list(beside), found if _sums_to_one(found) else None
    if not _is_probability(output, rows, loaded):
        return [], None
    values = np.asarray(_values(output), dtype=float).reshape(rows, -1)
    names = list(output) if isinstance(output, pd.DataFrame) and len(output.columns) == values.shape[1] > 1 else []
    return names, values


def raw_model(loaded: Any) -> Any:
    """The model of the flavor behind a pyfunc model, None where there is none."""
    try:
        return loaded.get_raw_model()
    except Exception:  # a pyfunc of one's own has none, and says so each in its own way
        return None


def _is_probability(output: Any, rows: int, loaded: Any) -> bool:
    """Whether an output holds probabilities: rows that sum to 1, or one number between 0 and 1."""
    try:
        numbers = np.asarray(_values(output), dtype=float).reshape(rows, -1)
    except (TypeError, ValueError):
        return False
    if numbers.shape[1] > 1:
        return _sums_to_one(numbers)
    within = bool(((numbers >= 0) & (numbers <= 1)).all())
    # Keras has no labels, whatever its numbers; of others 0 and 1 are labels.
    keras = bool({"keras", "tensorflow"} & set(loaded.metadata.flavors))
    return within and (keras or not np.isin(numbers, (0, 1)).all())


def _sums_to_one(numbers: np.ndarray) -> bool:
    return numbers.shape[1] > 1 and bool((numbers >= 0).all() and np.allclose(numbers.sum(axis=1), 1, atol=1e-3))


def _values(output: Any) -> Any:
    """The numbers or labels of an output, whatever holds them."""
    if isinstance(output, dict):
        if len(output) > 1:
            raise ValueError(f"answers {', '.join(map(str, output))}: the gate reads one output")
        return _values(next(iter(output.values())))
    if isinstance(output, pd.DataFrame) and "prediction" in output:
        return output["prediction"].to_numpy()
    values = np.asarray(output)
    if values.dtype == object and values.ndim <= 2 and values.size and isinstance(values.ravel()[0], list | np.ndarray):
        return np.stack([np.asarray(each) for each in values.ravel()])  # an array in each cell
    return values


def _one_a_row(output: Any, rows: int) -> list[Any]:
    """One answer for each row; ValueError where there are more or fewer."""
    values = np.asarray(_values(output))
    if values.size != rows or (values.ndim > 1 and values.shape[0] != rows):
        shape = " x ".join(map(str, values.shape))
        raise ValueError(f"answers {shape} values to {rows} rows: the gate reads one a row, or a column `prediction`")
    return values.reshape(rows).tolist()


def main(folder: Path) -> None:
    """Answer the rows in a folder, then time those whose numbers are read."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints must not get between
    asked = json.loads((folder / "asked.json").read_text())
    model = Asked(asked["model"], pd.read_parquet(folder / "rows.parquet"), asked["labels"])
    (folder / "answers.json").write_text(json.dumps(asdict(model.answers)))
    print("ready", file=said, flush=True)
    for line in sys.stdin:
        print(model.milliseconds(int(line)), file=said, flush=True)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # the code of a model must not find our modules
    main(Path(sys.argv[1]))
