"""What tests/conftest.py promises to each test file, whatever the files before it did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import mlflow
import pytest
from running import COLLECTION, PROGRAMS

pytest_plugins = ["pytester"]


@pytest.fixture
def kept() -> Iterator[None]:
    """This process is left as it was, also where the promise is broken."""
    environment, uri = dict(os.environ), mlflow.get_tracking_uri()
    yield
    os.environ.clear()
    os.environ.update(environment)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("kept")
def test_a_file_begins_afresh_whatever_the_one_before_it_left(pytester: pytest.Pytester) -> None:
    shutil.copy(COLLECTION / "tests" / "conftest.py", pytester.path)
    for place, program in enumerate(["leaving_things_behind", "beginning_afresh"]):
        shutil.copy(PROGRAMS / f"{program}.py", pytester.path / f"test_{place}_{program}.py")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
