"""`predict` gives each new instance a class, and carries what the model does not take untouched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from examples import module
from mlflow.models import infer_signature
from sklearn.dummy import DummyClassifier

from support.kinds import Kind, to_metadata
from support.scoring import score_here

predict = module("classification", "predict")
HEADER = "id,amount,contract"


def predictor(classes: list[str], **metadata: Any) -> Any:
    """A classifier of `amount` and `contract` that gives the last class the probability amount / 10."""

    def probabilities(X: pd.DataFrame) -> np.ndarray:
        last = X["amount"].fillna(0).to_numpy() / 10
        return np.column_stack([*[(1 - last) / (len(classes) - 1)] * (len(classes) - 1), last])

    example = pd.DataFrame({"amount": [1.0, None], "contract": ["monthly", None]})
    known = {
        "categories": {"contract": ["monthly", "yearly"]},
        "kinds": to_metadata({"amount": Kind("number"), "contract": Kind("category")}),
    }
    info = SimpleNamespace(signature=infer_signature(example), metadata={**known, **metadata})
    return predict.Predictor(info, probabilities, lambda X: None, classes)


def predicted(text: str, tmp_path: Path, model: Any, *, batch_size: int = 1000, name: str = "prediction") -> Any:
    """What scoring comes to for a CSV file, and the file that it writes, as text."""
    (tmp_path / "new.csv").write_text(text)
    called, file = {"prediction": name}, tmp_path / "out.csv"
    found = score_here(model, str(tmp_path / "new.csv"), file, called=called, batch_size=batch_size)
    return found, file.read_text()


def rows(count: int) -> str:
    return "\n".join([HEADER, *(f"{number:05},{number % 10},monthly" for number in range(count))]) + "\n"


def test_columns_of_the_users_leave_as_they_came(tmp_path: Path) -> None:
    text = f"{HEADER},note\n00042,3,monthly,12345678901234567\n7,9,yearly,1.50\n"
    _, written = predicted(text, tmp_path, predictor(["no", "yes"]))
    lines = written.splitlines()
    assert lines[0] == f"{HEADER},note,prediction,probability_no,probability_yes"
    assert lines[1].startswith("00042,3,monthly,12345678901234567,no,")
    assert lines[2].startswith("7,9,yearly,1.50,yes,")


def test_the_index_of_a_parquet_file_is_kept(tmp_path: Path) -> None:
    table = pd.DataFrame({"amount": [1.0, 9.0], "contract": ["monthly", "yearly"]}, index=pd.Index([7, 9], name="key"))
    table.to_parquet(tmp_path / "new.parquet")
    data, file = str(tmp_path / "new.parquet"), tmp_path / "out.parquet"
    score_here(predictor(["no", "yes"]), data, file, called={}, batch_size=1000)
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert written.index.name == "key"
    assert written["prediction"].to_dict() == {7: "no", 9: "yes"}
    assert pyarrow.parquet.read_schema(tmp_path / "out.parquet").pandas_metadata


def test_a_name_that_is_taken_is_said_and_ours_gets_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{HEADER},prediction\n1,9,monthly,mine\n"
    found, written = predicted(text, tmp_path, predictor(["no", "yes"]))
    assert written.splitlines()[0].endswith(",prediction,prediction_2,probability_no,probability_yes")
    assert written.splitlines()[1].startswith("1,9,monthly,mine,yes,")
    assert "The table has a column 'prediction': the new one is called 'prediction_2'." in capsys.readouterr().err
    assert found.counts == {"yes": 1}
    _, written = predicted(text, tmp_path, predictor(["no", "yes"]), name="verdict")
    assert written.splitlines()[0].endswith(",prediction,verdict,probability_no,probability_yes")


def test_batches_give_what_one_batch_gives(tmp_path: Path) -> None:
    whole = predicted(rows(25), tmp_path, predictor(["no", "yes"]))
    batched = predicted(rows(25), tmp_path, predictor(["no", "yes"]), batch_size=10)
    assert batched[1] == whole[1]
    assert batched[0].counts == whole[0].counts


@pytest.mark.parametrize("wrong", [0, 9, 10, 24])
def test_a_wrong_value_is_refused_with_its_row_in_the_file(wrong: int, tmp_path: Path) -> None:
    lines = rows(25).splitlines()
    lines[1 + wrong] = "x,a while,monthly"
    with pytest.raises(click.BadParameter) as refused:
        predicted("\n".join(lines), tmp_path, predictor(["no", "yes"]), batch_size=10)
    said = f"'a while' in column 'amount', row {wrong + 1}, is not a (finite) number."
    assert said in refused.value.format_message()


def test_a_column_that_is_lacking_is_refused(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter) as refused:
        predicted("id\n1\n", tmp_path, SimpleNamespace(**_required()))
    assert "'amount' is a column that the model needs; the file has: id." in refused.value.format_message()


def _required() -> dict[str, Any]:
    example = pd.DataFrame({"amount": [1.0]})
    return {"info": SimpleNamespace(signature=infer_signature(example), metadata=None)}


def test_missing_values_are_predicted_and_unseen_categories_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{HEADER}\n1,,monthly\n2,9,\n3,9,for life\n4,9,for life\n"
    found, written = predicted(text, tmp_path, predictor(["no", "yes"]))
    assert [line.split(",")[3] for line in written.splitlines()[1:]] == ["no", "yes", "yes", "yes"]
    assert found.unseen == {"contract": {"for life": 2}}
    predict.say_predicted(found)
    printed = capsys.readouterr()
    assert "column 'contract' holds categories that the model has not seen: 'for life' (2)." in printed.err
    assert "4 instances: no 1 (25.0%), yes 3 (75.0%)" in printed.out


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_predicted_class_is_printed_whatever_the_number_of_classes(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [f"class {number}" for number in range(count)]
    found, _ = predicted(f"{HEADER}\n1,9,monthly\n", tmp_path, predictor(classes))
    predict.say_predicted(found)
    line = capsys.readouterr().out.splitlines()[1]
    assert f"class {count - 1}" in line
    assert "0.9" in line


def test_the_threshold_that_is_stored_with_a_model_decides(tmp_path: Path) -> None:
    _, written = predicted(
        f"{HEADER}\n1,2,monthly\n", tmp_path, predictor(["no", "yes"], positive="yes", threshold=0.2)
    )
    assert written.splitlines()[1].split(",")[3] == "yes"
    _, written = predicted(f"{HEADER}\n1,2,monthly\n", tmp_path, predictor(["no", "yes"]))
    assert written.splitlines()[1].split(",")[3] == "no"


def test_a_model_whose_packages_are_not_installed_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame({"amount": [1.0, 2.0, 3.0]})
    model = DummyClassifier().fit(rows, ["no", "yes", "no"])
    mlflow.sklearn.save_model(model, tmp_path / "model", input_example=rows, pip_requirements=[])

    def missing(model_uri: str) -> None:
        raise ModuleNotFoundError("No module named 'lightgbm'")

    monkeypatch.setattr(mlflow.sklearn, "load_model", missing)
    with pytest.raises(click.BadParameter, match="model' cannot be loaded: No module named 'lightgbm'"):
        predict.load_predictor(str(tmp_path / "model"))
