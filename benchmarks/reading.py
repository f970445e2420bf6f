"""What it costs to read a table: processor seconds, in turns with pandas and with the model alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

COLLECTION = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(COLLECTION))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import ColSpec, Schema  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from support.inputs import to_frame  # noqa: E402
from support.kinds import decide, to_metadata  # noqa: E402
from support.scoring import score_here  # noqa: E402
from support.table import open_table  # noqa: E402

BATCH = 100_000  # rows, as `predict` takes by default


def seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def with_labels(probabilities: np.ndarray) -> pd.DataFrame:
    """What `predict` writes beside the rows."""
    labels = pd.Index(["No", "Yes"])[probabilities.argmax(axis=1)]
    return pd.DataFrame({"prediction": labels, "no": probabilities[:, 0], "yes": probabilities[:, 1]})


def measure(folder: Path, rows: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Processor seconds of ours and of theirs, round by round, for a CSV file made of the churn table.

    read: with the kinds of the columns decided, beside `pandas.read_csv`.
    predict: what `predict` does, beside the `predict_proba` of its Pipeline.
    """
    churn = pd.read_csv(COLLECTION / "classification" / "data" / "churn.csv")
    file, output = folder / "churn.csv", folder / "predictions.csv"
    churn.sample(rows, replace=True, random_state=0).to_csv(file, index=False)

    def read() -> pd.DataFrame:
        table = open_table(str(file))
        return to_frame(table, decide(table))

    kinds = decide(open_table(str(file)))
    target = kinds.pop("churn")
    numbers = [name for name, kind in kinds.items() if kind.kind == "number"]
    texts = [name for name in kinds if name not in numbers]
    frame = to_frame(open_table(str(file)), {**kinds, "churn": target})
    encoded = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), texts)
    )
    model = make_pipeline(encoded, LogisticRegression()).fit(frame[:10_000], frame["churn"][:10_000])
    schema = Schema([ColSpec("double" if name in numbers else "string", name) for name in kinds])
    known = {name: sorted(frame[name].dropna().unique()) for name in texts}
    info = SimpleNamespace(
        signature=ModelSignature(schema), metadata={"kinds": to_metadata(kinds), "categories": known}
    )
    scorer: Any = SimpleNamespace(info=info, add=lambda X, first_row: with_labels(model.predict_proba(X)))

    def predict() -> None:
        score_here(scorer, str(file), output, called={}, batch_size=BATCH)

    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "read": (read, lambda: pd.read_csv(file)),
        "predict": (predict, lambda: model.predict_proba(frame)),
    }
    return {
        name: [{"ours": seconds(ours), "theirs": seconds(theirs)} for _ in range(rounds)]
        for name, (ours, theirs) in pairs.items()
    }
