"""`mlflow run classification -P max_depth=5` in the environment that MLflow makes by default: conda's."""

from __future__ import annotations

import pytest
from conda_stand_in import install_conda, make_channel
from running import COLLECTION, Store

CLASSIFICATION = COLLECTION / "classification"
# Without the network, whose library takes longest to load.
PARAMETERS = {"max_depth": 5, "models": "decision_tree,gaussian_nb,random_forest"}


def test_conda_manager_is_the_default(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("conda")
    home = install_conda(folder, make_channel(folder))
    known = {"MLFLOW_CONDA_HOME": str(home), "PIP_NO_COMPILE": "1"}  # the environment is used once
    outcome = store.mlflow_run(CLASSIFICATION, "main", PARAMETERS, env_manager=None, environment=known)
    assert outcome.code == 0, outcome.output
    assert "conda activate" in outcome.output
    assert outcome.run.info.status == "FINISHED"
    assert outcome.run.data.metrics["best_roc_auc"] >= 0.83
    depths = {child.info.run_name: child.data.params.get("max_depth") for child in store.children(outcome.run)}
    assert depths == {"decision_tree": "5", "gaussian_nb": None, "random_forest": "5"}
