"""What is logged of a fitted classifier."""

from __future__ import annotations

import pytest
from examples import module

tracking = module("classification", "tracking")


def test_long_trainings_are_logged_in_calls_that_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list] = []

    class Client:
        def log_batch(self, run_id: str, metrics: list) -> None:
            calls.append(metrics)

    monkeypatch.setattr(tracking.mlflow, "MlflowClient", Client)
    history = {name: [1 / (epoch + 1) for epoch in range(700)] for name in ("loss", "val_loss", "accuracy")}
    tracking._log_epochs("a run", history)
    assert [len(metrics) for metrics in calls] == [1000, 1000, 100]
    points = {(point.key, point.step): point.value for metrics in calls for point in metrics}
    assert len(points) == 2100
    assert {key for key, _ in points} == {"train_loss", "val_loss", "train_accuracy"}
    assert points["train_loss", 1] == 1
    assert points["val_loss", 700] == 1 / 700
