"""`mlflow run clustering` tries 2 to 20 segments of the bundled customers and chooses 4, by evidence."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.models import get_model_info
from pages import assert_quoted, steps
from running import COLLECTION, Outcome, Store, datasets, metrics_without_times, model_uri
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, pairwise_distances, silhouette_score
from sklearn.preprocessing import StandardScaler

CLUSTERING = COLLECTION / "clustering"
CUSTOMERS = CLUSTERING / "data" / "customers.csv"


@pytest.fixture(scope="module")
def finished(store: Store) -> Outcome:
    """As the page has it: tests/test_readme.py leaves this command to these tests.

    In an experiment of its own: of equal tables, MLflow keeps the source that it met first there.
    """
    outcome = store.mlflow_run(CLUSTERING, "main", None, "--experiment-name", "nineteen")
    assert outcome.code == 0, outcome.output
    return outcome


@pytest.fixture(scope="module")
def parent(finished: Outcome) -> Run:
    return finished.run


@pytest.fixture(scope="module")
def children(store: Store, parent: Run) -> dict[int, Run]:
    return {int(child.data.params["n_clusters"]): child for child in store.children(parent)}


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    """The criteria for each number of segments, computed here with scikit-learn and without the example's code."""
    Z = StandardScaler().fit_transform(pd.read_csv(CUSTOMERS)[["tenure", "monthly_charges"]].astype(float))
    distances = pairwise_distances(Z)
    rows = {}
    for k in range(2, 21):
        kmeans = KMeans(n_clusters=k, n_init=10, random_state=0).fit(Z)
        rows[k] = {
            "inertia": kmeans.inertia_,
            "silhouette": silhouette_score(distances, kmeans.labels_, metric="precomputed"),
            "davies_bouldin": davies_bouldin_score(Z, kmeans.labels_),
            "calinski_harabasz": calinski_harabasz_score(Z, kmeans.labels_),
            "sizes": sorted(np.bincount(kmeans.labels_).tolist(), reverse=True),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def test_it_prints_what_the_page_quotes(finished: Outcome) -> None:
    first = steps(CLUSTERING / "README.md")[0]
    assert first.command == "mlflow run clustering --env-manager local"
    assert_quoted(first.quoted, finished.output)


def test_every_number_of_segments_is_a_finished_child_run(parent: Run, children: dict[int, Run]) -> None:
    assert sorted(children) == list(range(2, 21))
    assert {run.info.status for run in [parent, *children.values()]} == {"FINISHED"}
    assert {k: child.info.run_name for k, child in children.items()} == {k: f"k = {k}" for k in children}
    assert parent.info.run_name == "sweep"


def test_criteria_and_sizes_are_those_that_scikit_learn_computes(
    children: dict[int, Run], expected: pd.DataFrame
) -> None:
    for criterion in ("inertia", "silhouette", "davies_bouldin", "calinski_harabasz"):
        recorded = {k: child.data.metrics[criterion] for k, child in children.items()}
        assert recorded == pytest.approx(expected[criterion].to_dict(), rel=1e-9)
    assert {k: json.loads(child.data.tags["sizes"]) for k, child in children.items()} == expected["sizes"].to_dict()


def test_each_criterion_chooses_as_it_is_defined(parent: Run, expected: pd.DataFrame) -> None:
    # Kneedle: of the curve scaled to the unit square, the point farthest below the diagonal.
    inertia = expected["inertia"]
    k_scaled = (expected.index - 2) / 18
    fall = (inertia - inertia.min()) / (inertia.max() - inertia.min())
    chosen = {
        "silhouette": expected["silhouette"].idxmax(),
        "davies_bouldin": expected["davies_bouldin"].idxmin(),
        "calinski_harabasz": expected["calinski_harabasz"].idxmax(),
        "elbow": expected.index[(1 - k_scaled - fall).argmax()],
    }
    assert {name: parent.data.metrics[f"k_by_{name}"] for name in chosen} == chosen
    assert parent.data.metrics["chosen_k"] == chosen["silhouette"] == 4
    assert parent.data.metrics["silhouette"] == pytest.approx(expected["silhouette"][4], rel=1e-9)


def test_what_the_criteria_say_is_told(finished: Outcome, parent: Run, children: dict[int, Run], store: Store) -> None:
    told = (
        "The criteria disagree on the number of segments: 4 (silhouette, davies_bouldin), 5 (elbow), 19 "
        "(calinski_harabasz; at the end of the range: the best may lie beyond). Chosen by silhouette: 4."
    )
    assert told in finished.output
    assert told in store.artifact(parent, "segments.md").read_text()
    assert told in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["chosen_by"] == "silhouette"
    assert parent.data.tags["chosen_model_uri"] == model_uri(children[4])
    assert f"Model: {model_uri(children[4])}" in finished.output
    assert "[19/19] k = 20" in finished.output
    assert parent.info.run_id in finished.output.split("See the run")[1]
    assert "Warning" not in finished.output
    assert "Hint" not in finished.output


def test_tables_and_pictures_of_the_choice(parent: Run, store: Store, expected: pd.DataFrame) -> None:
    pictures = {"criteria.png", "candidates.png", "scatter.png", "silhouette.png", "profile.png"}
    assert pictures | {"criteria.csv", "profile.csv", "segments.md"} <= store.artifacts(parent)
    for picture in pictures:
        assert store.artifact(parent, picture).read_bytes().startswith(b"\x89PNG")
    criteria = pd.read_csv(store.artifact(parent, "criteria.csv"), index_col="n_clusters")
    assert criteria["silhouette"].to_dict() == pytest.approx(expected["silhouette"].to_dict(), rel=1e-9)
    profile = pd.read_csv(store.artifact(parent, "profile.csv"))
    assert profile["size"].tolist() == [*expected["sizes"][4], 7043]
    assert "contract = Two year 56% (all: 24%)" in profile["apart"][3]


def test_metrics_belong_to_model_and_dataset(children: dict[int, Run], store: Store) -> None:
    child = children[4]
    silhouette = next(metric for metric in store.model(child).metrics or [] if metric.key == "silhouette")
    assert silhouette.value == child.data.metrics["silhouette"]
    assert silhouette.dataset_name == "customers"
    [dataset] = datasets(child)
    assert json.loads(str(dataset.source))["uri"] == str(CUSTOMERS)
    assert len(dataset.digest) == 8
    assert child.data.metrics["rows"] == child.data.metrics["silhouette_rows"] == 7043


def test_model_says_what_it_takes_and_what_it_needs(children: dict[int, Run], store: Store) -> None:
    folder = Path(store.model(children[4]).artifact_location)
    info = get_model_info(str(folder))
    assert info.signature.inputs.input_names() == ["tenure", "monthly_charges"]
    assert {column.type.name for column in info.signature.inputs.inputs} == {"double"}
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    assert all("==" in line for line in (folder / "requirements.txt").read_text().splitlines())
    assert not list(folder.glob("*.pkl"))
    assert (folder / "input_example.json").exists()
    model = mlflow.sklearn.load_model(str(folder))
    assert (info.metadata or {})["farthest"] == [
        pytest.approx(np.linalg.norm(members, axis=1).max())
        for Z in [model[:-1].transform(pd.read_csv(CUSTOMERS))]
        for segment, centre in enumerate(model[-1].cluster_centers_)
        for members in [Z[model[-1].predict(Z) == segment] - centre]
    ]


def test_all_models_load_and_predict_without_the_example(children: dict[int, Run], store: Store) -> None:
    locations = [store.model(child).artifact_location for child in children.values()]
    program = COLLECTION / "tests" / "programs" / "segments.py"
    done = store.run(["python", "-I", str(program), str(CUSTOMERS), "tenure,monthly_charges", *locations])
    assert done.code == 0, done.output
    assert done.output.splitlines()[-19:] == [child.data.tags["sizes"] for child in children.values()]


def test_nothing_is_written_into_the_examples_folder(finished: Outcome) -> None:
    assert not list(CLUSTERING.glob("mlflow.db*"))
    assert not (CLUSTERING / "mlruns").exists()


def test_one_number_of_segments_alone_gives_the_same_metrics_to_the_last_digit(
    segmented: Run, children: dict[int, Run], store: Store
) -> None:
    assert metrics_without_times(segmented) == metrics_without_times(children[4])
    assert segmented.data.params["n_clusters"] == "4"
    assert segmented.info.run_name == "k = 4"
    assert {"scatter.png", "silhouette.png", "profile.png", "profile.csv", "segments.md"} <= store.artifacts(segmented)
    assert "mlflow.source.git.dirty" in segmented.data.tags
