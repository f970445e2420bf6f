"""Rules of the deployment targets that need no server and no cloud."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from examples import module
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Array, DataType, Object, Property

candidate: Any = module("registry_deploy", "candidate")
deploy: Any = module("registry_deploy", "deploy")


def test_instances_keep_every_digit_and_missing_values_become_null() -> None:
    table = pd.DataFrame({"a": [0.1 + 0.2, np.nan], "b": ["x", None], "c": [1, 2], "d": [True, False]}, index=[5, 7])
    assert json.loads(json.dumps(candidate.payload(table), allow_nan=False)) == {
        "columns": ["a", "b", "c", "d"],
        "index": [5, 7],
        "data": [[0.1 + 0.2, "x", 1, True], [None, None, 2, False]],
    }


def test_the_server_reads_every_type_of_a_signature_as_it_was_sent() -> None:
    """The columns of an endpoint's request, after MLflow's own reading of it by the signature."""
    each = {"p": np.int64(1), "q": "z"}
    table = pd.DataFrame(
        {
            "float": np.array([0.1, np.nan, 3], "float32"),
            "long": np.arange(3) + 2**53 + 1,
            "boolean": [True, False, True],
            "string": ["é", None, '"'],
            "datetime": np.array(["2026-01-01", "NaT", "2026-01-02T03:04:05.678901234"], "datetime64[ns]"),
            "binary": [b"\x00\xff", b"a", b""],
            "array": [np.array([0.1, 2]), np.array([3.0]), np.array([4.0])],
            "object": [each, each, each],
        }
    )
    kinds: dict[str, Any] = {"array": Array(DataType.double)}
    kinds["object"] = Object([Property("p", DataType.long), Property("q", DataType.string)])
    schema = Schema([ColSpec(kinds.get(name, name), name, required=name != "datetime") for name in map(str, table)])
    body = json.loads(json.dumps({"dataframe_split": candidate.payload(table)}, allow_nan=False))
    read = scoring_server.infer_and_parse_data(body, schema)
    assert read["array"].map(list).tolist() == table["array"].map(list).tolist()
    assert read["object"].tolist() == [each] * 3
    rest = table.drop(columns=["array", "object"])
    pd.testing.assert_frame_equal(read[list(rest)], rest, check_dtype=False)


def test_of_an_onnx_model_one_list_a_column_is_sent() -> None:
    arrays = {"tenure": np.array([2.5, np.nan], "float32"), "contract": np.array(["One year", "Two year"], object)}
    sent = json.loads(json.dumps(candidate.payload(arrays), allow_nan=False))
    assert sent == {"tenure": [2.5, None], "contract": ["One year", "Two year"]}
    assert candidate.payload(np.array([[1.0, np.nan]])) == [[1.0, None]]


def test_another_answer_than_here_is_refused() -> None:
    version = candidate.Candidate("", "numbers", "2", "m-1", None, None, [], "", [1.0, 2.0])
    version.check([1.0, 2.000001], "green of live")
    with pytest.raises(candidate.DeploymentError, match=r"numbers version 2: wrong answer from green of live: \[1.0\]"):
        version.check([1.0], "green of live")


def test_one_change_of_an_endpoint_at_a_time(tmp_path: Path) -> None:
    """Also while it is being undeployed: the message says what is under way."""

    def target() -> Any:
        return deploy.LocalTarget("numbers", directory=tmp_path / "numbers", port=-1)

    for under_way in ("undeploy", "deploy"):
        with target()._changing(under_way):
            for other in (lambda: target().deploy("models:/numbers/2"), target().rollback, target().undeploy):
                with pytest.raises(deploy.DeploymentError, match=f"^{under_way} by process .* is under way: try again"):
                    other()
    target().undeploy()
    assert not (tmp_path / "numbers").exists()


def test_a_server_that_is_up_already_and_does_not_answer_is_said_with_its_log(tmp_path: Path) -> None:
    """Before a rollback, say; of one that is being started, the end of the log is printed."""
    target = deploy.LocalTarget("numbers", directory=tmp_path, start_timeout=0)
    server = module("registry_deploy", "processes").Server(str(tmp_path), "", "models:/numbers/1", "1", "", [])
    with pytest.raises(deploy.DeploymentError, match=f"did not answer /ping in 0 s: see {tmp_path}/server.log$"):
        target._wait(server)
    with pytest.raises(deploy.DeploymentError, match=r"did not answer /ping in 0 s$"):
        target._wait(server, SimpleNamespace(poll=lambda: None))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("local", "live: stopped; nothing is deployed any more.\n"),
        ("azureml", "live: stopped; nothing is deployed any more, and no machine of it is billed.\n"),
    ],
)
def test_undeploy_says_that_a_cloud_bills_nothing_any_more(
    kind: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SimpleNamespace(kind=kind, name="live", undeploy=lambda: True)
    monkeypatch.setattr(deploy, "make_target", lambda **options: target)
    monkeypatch.setattr(deploy.owners, "record", lambda *given: None)
    assert CliRunner().invoke(deploy.deployment, ["undeploy"]).output == told
