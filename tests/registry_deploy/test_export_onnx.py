"""`export_onnx.py`: a registered scikit-learn Pipeline in ONNX, with the same answers, beside the original."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import skops.io
from mlflow.models import infer_signature
from running import COLLECTION, PATIENCE, PROGRAMS, Outcome, Store, free_port
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """800 customers: numbers that float32 cannot hold, text with missing values, a boolean, and who left."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "months": generator.integers(0, 72, 800).astype(float),
            "charges": generator.normal(60, 20, 800),
            "contract": generator.choice(["monthly", "one year", "two years", ""], 800),
            "online": generator.random(800) < 0.5,
        }
    )
    chance = 1 / (1 + np.exp(table["months"] / 12 - table["charges"] / 25 + 2 * (table["contract"] == "two years")))
    table["left"] = np.where(generator.random(800) < chance, "yes", "no")
    table.loc[::9, "charges"] = np.nan
    path = tmp_path_factory.mktemp("customers") / "customers.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def register(store: Store, customers: Path, run: Run) -> Callable[..., Pipeline]:
    """Fits a Pipeline that ends in an estimator, and registers it under a name with the alias challenger."""
    X = pd.read_csv(customers).astype({"contract": object})
    y = X.pop("left").astype(object)

    def fit_and_register(name: str, estimator: BaseEstimator, *before: BaseEstimator) -> Pipeline:
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), *before)
        words = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2, sparse_output=False)
        columns = ColumnTransformer(
            [("numbers", numbers, ["months", "charges"]), ("words", words, ["contract", "online"])]
        )
        pipeline = Pipeline([("columns", columns), ("classifier", estimator)])
        pipeline.fit(X, X["months"] if isinstance(estimator, Ridge) else y)
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                pipeline,
                name="model",
                signature=infer_signature(X, pipeline.predict(X)),
                input_example=X.head(2),
                skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(pipeline)),
                pip_requirements=[f"mlflow=={installed('mlflow')}"],
            )
        outcome = run("register.py", model_uri=logged.model_uri, name=name)
        assert outcome.code == 0, outcome.output
        return pipeline

    return fit_and_register


@pytest.fixture(scope="module")
def forest(register: Callable[..., Pipeline], run: Run, customers: Path) -> Pipeline:
    """A random forest, `leavers` version 1; its ONNX form is version 2."""
    pipeline = register("leavers", RandomForestClassifier(30, random_state=0))
    outcome = run("export_onnx.py", model_uri="models:/leavers@challenger", data=customers)
    assert outcome.code == 0, outcome.output
    assert "Version 1 of leavers and its ONNX form agree on 800 rows." in outcome.output
    assert "models:/leavers/2 is its ONNX form." in outcome.output
    return pipeline


@pytest.fixture
def rows(customers: Path) -> pd.DataFrame:
    """Customers as the model takes them; some have a contract that it has never seen, or none."""
    table = pd.read_csv(customers).drop(columns="left").astype({"contract": object})
    table.loc[::7, "contract"] = "three years"
    return table


def tensors(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): column.to_numpy() for name, column in rows.items()}


def test_the_exported_model_stands_beside_the_original_and_says_so(forest: Pipeline, store: Store, run: Run) -> None:
    version = store.client.get_model_version_by_alias("leavers", "onnx")
    assert str(version.version) == "2"
    assert (version.tags["format"], version.tags["converted_from"]) == ("onnx", "1")
    assert version.description == (
        "ONNX form of version 1: equal predictions on all 800 rows of customers.csv, probabilities within 1e-05."
    )
    assert str(store.client.get_model_version_by_alias("leavers", "challenger").version) == "1"
    again = run("export_onnx.py", model_uri="models:/leavers/1")
    assert "Version 1 of leavers is registered as ONNX already." in again.output
    mistaken = run("export_onnx.py", model_uri="models:/leavers/1", data="none.csv")
    assert mistaken.code == 2
    assert "Invalid value for '--data': 'none.csv' does not exist" in mistaken.output
    assert len(store.client.search_model_versions("name='leavers'")) == 2


def test_the_exported_model_answers_as_the_original_does(forest: Pipeline, rows: pd.DataFrame) -> None:
    exported = mlflow.pyfunc.load_model("models:/leavers@onnx")
    assert exported.predict(tensors(rows)).tolist() == forest.predict(rows).tolist()
    probabilities = exported.predict(tensors(rows), params={"predict_method": "predict_proba"})
    assert list(probabilities) == ["no", "yes"]
    np.testing.assert_allclose(probabilities, forest.predict_proba(rows), rtol=0, atol=1e-5)


@pytest.fixture
def endpoint(forest: Pipeline, run: Run) -> Iterator[str]:
    port = free_port()
    outcome = run("deploy.py", "deploy", endpoint="onnx", port=port, model_uri="models:/leavers@onnx")
    assert outcome.code == 0, outcome.output
    yield f"http://127.0.0.1:{port}/invocations"
    run("deploy.py", "undeploy", endpoint="onnx")


def test_the_exported_model_is_deployed_and_served_like_any_other(
    endpoint: str, forest: Pipeline, rows: pd.DataFrame, run: Run, tmp_path: Path
) -> None:
    rows.loc[0, "contract"] = np.nan
    expected = forest.predict(rows).tolist()
    rows.to_csv(tmp_path / "new.csv", index=False)
    outcome = run("deploy.py", "score", endpoint="onnx", data=tmp_path / "new.csv", output=tmp_path / "scored.csv")
    assert outcome.code == 0, outcome.output
    assert pd.read_csv(tmp_path / "scored.csv")["prediction"].tolist() == expected

    one = {"months": 3.0, "charges": None, "contract": "monthly", "online": True}
    right = forest.predict(pd.DataFrame([one]).astype({"charges": float})).tolist()
    for body in (
        {"inputs": {name: [value] for name, value in one.items()}},
        {"dataframe_records": [one]},  # what those send who called the original
    ):
        answer = requests.post(endpoint, json=body, timeout=PATIENCE)
        assert answer.json() == {"predictions": right}, answer.text
    chances = requests.post(
        endpoint,
        json={"inputs": {name: [value] for name, value in one.items()}, "params": {"predict_method": "predict_proba"}},
        timeout=PATIENCE,
    ).json()["predictions"]
    assert set(chances[0]) == {"no", "yes"}
    refused = requests.post(endpoint, json={"inputs": {"months": [3.0]}}, timeout=PATIENCE)
    assert refused.status_code == 400
    assert "missing inputs ['charges', 'contract', 'online']" in refused.text


def test_a_regressor_and_a_plain_classifier_are_converted_too(
    register: Callable[..., Pipeline], run: Run, customers: Path, rows: pd.DataFrame
) -> None:
    for name, estimator in (("months", Ridge()), ("logistic", LogisticRegression())):
        pipeline = register(name, estimator)
        outcome = run("export_onnx.py", model_uri=f"models:/{name}/1", data=customers)
        assert outcome.code == 0, outcome.output
        answers = mlflow.pyfunc.load_model(f"models:/{name}@onnx").predict(tensors(rows))
        if name == "months":
            np.testing.assert_allclose(answers, pipeline.predict(rows), rtol=1e-5)
        else:
            assert answers.tolist() == pipeline.predict(rows).tolist()


def test_what_cannot_be_converted_is_refused_by_name_and_nothing_is_registered(
    register: Callable[..., Pipeline], log: Callable[..., str], run: Run, store: Store, customers: Path
) -> None:
    register("clipped", LogisticRegression(), FunctionTransformer(np.abs))
    line = run("export_onnx.py", model_uri="models:/clipped/1", data=customers).error
    assert "'models:/clipped/1' cannot become ONNX: step 'columns" in line
    assert "FunctionTransformer" in line

    # Distances that are equal up to rounding are ordered otherwise by ONNX Runtime: some neighbours are others.
    register("neighbours", KNeighborsClassifier(3), FunctionTransformer())
    line = run("export_onnx.py", model_uri="models:/neighbours/1", data=customers).error
    assert "answers differently as ONNX: " in line
    assert "its last step is KNeighborsClassifier" in line

    assert run("register.py", model_uri=log("slow"), name="code").code == 0
    line = run("export_onnx.py", model_uri="models:/code/1", data=customers).error
    assert "is no scikit-learn model; its flavours: python_function." in line

    line = run("export_onnx.py", model_uri="models:/clipped/1", data="nowhere.csv").error
    assert "'--data': 'nowhere.csv' does not exist" in line
    for name in ("clipped", "neighbours", "code"):
        assert len(store.client.search_model_versions(f"name='{name}'")) == 1


def test_without_its_packages_it_says_what_to_install(store: Store) -> None:
    environment = {"PYTHONPATH": str(COLLECTION / "registry_deploy")}
    outcome = store.run([sys.executable, str(PROGRAMS / "without_onnx.py")], environment=environment)
    assert outcome.code == 2
    assert outcome.error == ("onnxruntime, skl2onnx cannot be imported: install this project's requirements-onnx.txt")
