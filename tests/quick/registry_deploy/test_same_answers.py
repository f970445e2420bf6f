"""When a served model answers as it did before it was served."""

from __future__ import annotations

import pytest
from examples import module

same = module("registry_deploy", "model_files").same


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-9], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0], [1.0, 1.0], False),
        ([[0.25, 0.75]], [[0.25, 0.75]], True),
        ([{"yes": 0.5}], [{"no": 0.5}], False),
        ([float("nan")], [float("nan")], True),
        (["yes"], ["no"], False),
        ([None], [1.0], False),
    ],
)
def test_answers_of_a_served_model_are_compared_by_value(left: list, right: list, expected: bool) -> None:
    assert same(left, right) is expected
