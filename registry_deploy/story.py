"""A model's life after training, told step by step on the bundled table: register, gate, deploy, switch, roll back."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from textwrap import indent
from threading import Event
from typing import Any

import click
import mlflow
import pandas as pd
import requests
import skops.io
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import convert_input_example_to_serving_input, infer_signature
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

import gate
from deploy import one_line, roll_back, take_down
from local_proxy import VERSION_HEADER
from local_target import LocalTarget
from owners import record
from promote import Judged, Rules, promote_version
from register import register_version
from registry import description_of, reigns
from support.datasets import as_dataset
from support.entry_point import describe_run, run_command, say_where_to_look
from support.requirements import OF_A_PIPELINE, pinned
from support.stories import fresh_start
from support.table import absolute, short_name
from target import Status
from versions import CHAMPION, PREVIOUS, aliases, find_version, quiet

TRAINING, VALIDATION, TARGET = "data/churn_training.csv", "data/churn_validation.csv", "churn"
CLIENTS = 4  # that send requests at the same time


def features_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The features with one type a kind: numbers as float64, so that missing values fit in, and text as objects."""
    X = frame.drop(columns=TARGET)
    numbers = X.select_dtypes("number").columns
    return X.astype({name: "float64" if name in numbers else object for name in X.columns})


def with_preprocessing(classifier: BaseEstimator) -> Pipeline:
    """A Pipeline that takes the raw columns: missing numbers become the median, text is one-hot encoded."""
    columns = make_column_transformer(
        (SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include=object)),
    )
    return make_pipeline(columns, classifier)


def train(name: str, classifier: BaseEstimator, X: pd.DataFrame, y: pd.Series, dataset: Any) -> str:
    """Fit a classifier and track it as a child run; returns the URI of its model."""
    with mlflow.start_run(run_name=name, nested=True) as run:
        describe_run(run, name, {"classifier": name, **classifier.get_params()})
        mlflow.log_input(dataset, context="training")
        pipeline = with_preprocessing(classifier).fit(X, y)
        info = mlflow.sklearn.log_model(
            pipeline,
            name="model",
            signature=infer_signature(X, pipeline.predict(X.head())),
            input_example=X.head(),
            serialization_format="skops",  # on Databricks the default is a pickle
            # The types in a model that was fitted here are scikit-learn's and numpy's own.
            skops_trusted_types=skops.io.get_untrusted_types(data=skops.io.dumps(pipeline)),
            pip_requirements=pinned(*OF_A_PIPELINE),
            metadata={"target": TARGET, "classes": pipeline.classes_.tolist()},
        )
        scored = pipeline.predict_proba(X)[:, 1]
        mlflow.log_metrics(
            {"training_roc_auc": float(roc_auc_score(y == pipeline.classes_[1], scored))},
            dataset=dataset,
            model_id=info.model_id,
        )
    return f"runs:/{run.info.run_id}/model"


@contextmanager
def requests_under_way(status: Status, rows: pd.DataFrame) -> Iterator[list[str]]:
    """Send requests from several clients for as long as the block runs; yields who answered each of them."""
    body, headers = convert_input_example_to_serving_input(rows), {"Content-Type": "application/json"}
    answers: list[str] = []
    stop = Event()

    def client() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not stop.wait(0.02):
                answered = False
                with suppress(requests.RequestException, ValueError, LookupError):
                    reply = session.post(status.scoring_uri, data=body, headers=headers, timeout=120)
                    answered = reply.status_code == 200 and len(reply.json()["predictions"]) == len(rows)
                answers.append(f"version {reply.headers[VERSION_HEADER]}" if answered else "lost")

    with ThreadPoolExecutor(CLIENTS) as pool:
        try:  # Ctrl-C may come while they start
            clients = [pool.submit(client) for _ in range(CLIENTS)]
            yield answers
        finally:
            stop.set()
    for each in clients:
        each.result()


def begin(step: int, what: str) -> None:
    """Announce a step."""
    click.echo(f"\n[{step}/10] {what}")


def result(what: str) -> None:
    """Show what came of it."""
    click.echo(indent(what, "    "))


def tell(name: str, random_state: int, env_manager: str, directory: Path) -> None:
    """The story itself, within an active run.

    directory: for the deployment; empty again at the end.
    """
    fresh_start(name, "registry_deploy")
    training = pd.read_csv(absolute(TRAINING))
    X, y = features_of(training), training[TARGET]
    first, second = two_versions(name, X, y, random_state)
    pass_the_gate(name, first, second, env_manager)
    target = LocalTarget(name, directory=directory, port=-1, env_manager=env_manager, say=lambda _: None)
    with ExitStack() as ending:
        ending.callback(take_down, target)
        serve_and_roll_back(target, name, X.head(3))
        begin(10, "The end: the endpoint is removed, its processes are stopped, and the registry keeps the history.")
    result(reigns(name).tail(3).drop(columns=["by", "evaluation_run"]).to_string(index=False))


def two_versions(name: str, X: pd.DataFrame, y: pd.Series, random_state: int) -> tuple[ModelVersion, ModelVersion]:
    """Train a decision tree and gradient-boosted trees, and register both."""
    dataset = as_dataset(X.assign(**{TARGET: y}), TRAINING, short_name(TRAINING), targets=TARGET)
    begin(1, f"Two models learn from {len(X):,} customers who will leave.")
    tree = train("decision_tree", DecisionTreeClassifier(max_depth=3, random_state=random_state), X, y, dataset)
    boosted = train("gradient_boosting", GradientBoostingClassifier(random_state=random_state), X, y, dataset)
    result(f"a decision tree: {tree}\ngradient-boosted trees: {boosted}")

    begin(2, "Both are registered. Registering a model again changes nothing.")
    first = register_version(tree, name, "A decision tree, three questions deep.")
    second = register_version(boosted, name, "Gradient-boosted trees: more exact, slower.")
    again = register_version(tree, name)
    result(f"{name} versions {first.version} and {second.version}; the tree once more: version {again.version}")

    begin(3, f"What the registry knows of version {first.version}.")
    known = description_of(find_version(f"models:/{name}/{first.version}")).splitlines()
    shown = [line[:110] for line in known if line.startswith(("model ", "description", "dataset", "git_", "source"))]
    result("\n".join(shown))
    return first, second


def pass_the_gate(name: str, first: ModelVersion, second: ModelVersion, env_manager: str) -> None:
    """Make the first version champion, refuse the second under a rule too strict, and promote it by the ordinary ones.

    Raises click.ClickException where the gate does not promote a version that the story needs as champion.
    """

    def judge(version: ModelVersion, run_name: str, thresholds: str = Rules.thresholds) -> Judged:
        # Boosted trees are slower than one tree: the story is not about that.
        rules = Rules(thresholds=thresholds, env_manager=env_manager, max_slowdown=10.0)
        judged = promote_version(f"models:/{name}/{version.version}", VALIDATION, TARGET, rules, run_name)
        if judged is None:
            raise click.ClickException(f"version {version.version} of {name} is {CHAMPION} already: tell it once more.")
        if thresholds == Rules.thresholds and not judged.promoted:
            raise click.ClickException(f"the gate did not promote version {version.version}: {judged.reasons}.")
        return judged

    begin(4, f"The first {CHAMPION}: the gate knows no champion yet, so only the thresholds count.")
    judged = judge(first, "first champion")
    result(f"{gate.table(judged.rows)}\n{name}@{CHAMPION} -> version {first.version}")

    begin(5, f"Version {second.version} is compared with it, by a rule that no model can pass.")
    judged = judge(second, "too strict", "roc_auc>=0.99")
    result(f"{gate.table(judged.rows)}\nrefused, nothing has moved: {judged.reasons}")

    begin(6, f"The gate judges version {second.version} by the ordinary rules.")
    judged = judge(second, "challenger")
    moved = aliases(name)
    lines = f"{name}@{CHAMPION} -> version {moved[CHAMPION]}, {name}@{PREVIOUS} -> version {moved[PREVIOUS]}"
    result(f"{gate.table(judged.rows)}\n{lines}")


def serve_and_roll_back(target: LocalTarget, name: str, rows: pd.DataFrame) -> None:
    """Deploy the previous champion, switch to the champion under load, and roll back."""
    begin(7, f"{name}@{PREVIOUS} is deployed on this machine.")
    status = target.deploy(f"models:/{name}@{PREVIOUS}")
    record(target)
    version = aliases(name)[PREVIOUS]
    result(f"version {version} answers at {status.scoring_uri}: {', '.join(target.score(rows))}")

    begin(8, f"While {CLIENTS} clients send requests, {name}@{CHAMPION} takes over, first with 20 %, then with all.")
    with requests_under_way(status, rows) as answers:
        target.deploy(f"models:/{name}@{CHAMPION}", canary=20)
        time.sleep(2)
        target.deploy(f"models:/{name}@{CHAMPION}")
        record(target)
        time.sleep(1)
        result("both versions are up: the old one stays ready for a rollback")

        begin(9, "One command rolls back and moves the alias back; the requests keep coming in.")
        roll_back(target, move_alias=True, say=lambda _: None)
        time.sleep(1)
    counts = Counter(answers)
    lost = counts.pop("lost", 0)
    answered = ", ".join(f"{count:,} by {what}" for what, count in sorted(counts.items()))
    result(f"{name}@{CHAMPION} -> version {aliases(name)[CHAMPION]}\nanswers: {answered}; lost: {lost}")
    mlflow.log_metrics({"requests_answered": counts.total(), "requests_lost": lost})


@click.command()
@click.option("--name", default="churn_story", help="The registered model that the story makes.")
@click.option("--random_state", type=click.IntRange(0, 2**32 - 1), default=0)
@click.option("--env_manager", type=click.Choice(["local", "uv"]), default="local", help="uv: models in their own.")
def story(name: str, random_state: int, env_manager: str) -> None:
    """Tell a model's whole life after training."""
    quiet()
    started = time.monotonic()
    with one_line(), mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        describe_run(run, "main")
        tell(name, random_state, env_manager, Path(folder) / "endpoint")
        click.echo(f"\nTold in {time.monotonic() - started:.0f} s. The versions and their evaluations are still there:")
        say_where_to_look()


if __name__ == "__main__":
    run_command(story)
