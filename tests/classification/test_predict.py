"""`predict` scores new instances as people write them, with the model as it was logged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from running import COLLECTION, Store, model_uri

CLASSIFICATION = COLLECTION / "classification"
INSTANCES = CLASSIFICATION / "data" / "new_customers.jsonl"


def predictions(store: Store, tree: Run, data: Path, output: Path, **parameters: object) -> pd.DataFrame:
    outcome = store.run(script(tree, data, output=output, **parameters))
    assert outcome.code == 0, outcome.output
    return pd.read_csv(output)


def script(tree: Run, data: Path, **parameters: object) -> list[str]:
    """The command of the entry point, without `mlflow run` before it (other tests have that)."""
    command = [sys.executable, str(CLASSIFICATION / "predict.py"), "--model_uri", model_uri(tree), "--data", str(data)]
    for name, value in parameters.items():
        command += [f"--{name}", str(value)]
    return command


def test_the_bundled_instances_are_predicted_by_default(store: Store, tree: Run) -> None:
    outcome = store.mlflow_run(CLASSIFICATION, "predict", {"model_uri": model_uri(tree)})
    assert outcome.code == 0, outcome.output
    table = pd.read_csv(store.artifact(outcome.run, "predictions.csv"))
    assert table["prediction"].tolist() == ["Yes", "No", "Yes", "No"]
    assert outcome.run.data.metrics["instances"] == 4
    assert outcome.run.inputs.dataset_inputs[0].dataset.name == "new_customers"
    assert outcome.run.inputs.model_inputs[0].model_id == store.model(tree).model_id
    assert "probability_Yes" in outcome.output


def test_every_way_of_writing_the_instances_gives_the_same_predictions(store: Store, tree: Run, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in INSTANCES.read_text().splitlines()]
    frame = pd.DataFrame(rows)
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=2))
    frame.to_csv(tmp_path / "comma.csv", index=False)
    frame.to_csv(tmp_path / "semicolon.csv", index=False, sep=";", decimal=",")
    frame.to_parquet(tmp_path / "table.parquet")
    expected = predictions(store, tree, INSTANCES, output=tmp_path / "expected")["probability_Yes"].tolist()
    for name in ("array.json", "comma.csv", "semicolon.csv", "table.parquet"):
        written = predictions(store, tree, tmp_path / name, output=tmp_path / "written")
        assert written["probability_Yes"].tolist() == expected, name


def test_batches_give_what_one_batch_gives(store: Store, tree: Run, tmp_path: Path) -> None:
    churn = CLASSIFICATION / "data" / "churn.csv"
    whole = predictions(store, tree, churn, output=tmp_path / "whole.csv")
    batched = predictions(store, tree, churn, output=tmp_path / "batched.csv", batch_size=1000)
    assert len(batched) == 7043
    pd.testing.assert_frame_equal(whole, batched)


def test_missing_values_are_allowed(store: Store, tree: Run, tmp_path: Path) -> None:
    row = json.loads(INSTANCES.read_text().splitlines()[0])
    lines = [json.dumps({**row, name: None}) for name in ("tenure", "contract", "total_charges")]
    (tmp_path / "missing.jsonl").write_text("\n".join(lines))
    table = predictions(store, tree, tmp_path / "missing.jsonl", output=tmp_path / "out.csv")
    assert table["prediction"].notna().all()


def test_an_unseen_category_is_scored_with_a_warning(store: Store, tree: Run, tmp_path: Path) -> None:
    row = json.loads(INSTANCES.read_text().splitlines()[0])
    (tmp_path / "new.jsonl").write_text(json.dumps({**row, "contract": "Ten years"}))
    outcome = store.run(script(tree, tmp_path / "new.jsonl"))
    assert outcome.code == 0, outcome.output
    assert "Warning: column 'contract' holds categories that the model has not seen: 'Ten years' (1)." in outcome.output


@pytest.mark.parametrize("classifier", ["decision_tree", "ann"])
def test_a_model_predicts_with_its_own_requirements_and_nothing_else(
    classifier: str, store: Store, tmp_path: Path
) -> None:
    """In a new environment made of the model's requirements.txt, from an empty folder, raw rows go in."""
    run = store.mlflow_run(CLASSIFICATION, classifier).run
    logged = store.model(run)
    uv = [sys.executable, "-m", "uv"]
    environment = tmp_path / "environment"
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    requirements = Path(logged.artifact_location) / "requirements.txt"
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", environment, "--requirements", requirements],
        check=True,
        env={**store.environment, "UV_COMPILE_BYTECODE": "0"},
    )
    program = (
        "import json, sys, mlflow, pandas as pd\n"
        "rows = pd.DataFrame([json.loads(line) for line in open(sys.argv[2])])\n"
        "rows = rows.astype({name: 'float64' for name in rows.select_dtypes('number')})\n"
        "print(json.dumps(list(mlflow.pyfunc.load_model(sys.argv[1]).predict(rows))))\n"
    )
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", program, logged.artifact_location, INSTANCES],
        cwd=tmp_path / "empty",
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["Yes", "No", "Yes", "No"]


def test_all_seven_models_load_in_an_empty_folder(store: Store, tmp_path: Path) -> None:
    parent = store.mlflow_run(CLASSIFICATION).run
    program = (
        "import sys, mlflow\n"
        "for path in sys.argv[1:]:\n"
        "    model = mlflow.pyfunc.load_model(path)\n"
        "    assert set(model.predict(model.input_example)) <= {'Yes', 'No'}\n"
        "print('loaded', len(sys.argv) - 1)\n"
    )
    locations = [store.model(child).artifact_location for child in store.children(parent)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *locations],
        cwd=tmp_path,
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "loaded 7", done.stderr
