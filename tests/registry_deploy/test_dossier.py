"""The dossier of a version says what the registry and the tracking store say, and notices where they disagree."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from running import Outcome, Store
from sklearn.metrics import accuracy_score, roc_auc_score

NAME = "it's a model"


@pytest.fixture(scope="module")
def judged(
    store: Store,
    run: Callable[..., Outcome],
    log: Callable[..., str],
    validation: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Version 1 of a model was promoted, on a table of its own with two groups."""
    data = tmp_path_factory.mktemp("dossier") / "rows.csv"
    table = pd.read_csv(validation)
    table.assign(half=["upper" if z > 0 else "lower" for z in table["z"]]).to_csv(data, index=False)
    assert run("register.py", model_uri=log("good", roc_auc=0.9), name=NAME, description="A | b").code == 0
    given = {"model_uri": f"models:/{NAME}/1", "data": data, "target": "y", "slices": "half"}
    outcome = run("promote.py", environment={"MLFLOW_TRACKING_USERNAME": "ann"}, **given)
    assert outcome.code == 0, outcome.output
    return data


def page(store: Store, run: Callable[..., Outcome], **options: str) -> dict[str, list[str]]:
    """The rows of a new dossier, by their first cell."""
    outcome = run("dossier.py", name=NAME, version="1", **options)
    assert outcome.code == 0, outcome.output
    written = store.client.get_run(store.client.get_model_version(NAME, "1").tags["dossier"].split("/")[1])
    assert f"runs:/{written.info.run_id}/dossier.html" in outcome.output
    assert {"dossier.md", "dossier.html"} <= store.artifacts(written)
    lines = store.artifact(written, "dossier.md").read_text().splitlines()
    return {
        cells[0]: cells[1:] for cells in ([each.strip() for each in line.strip("|").split(" | ")] for line in lines)
    }


def test_each_fact_is_read_and_compared_and_what_is_not_recorded_is_not_known(
    store: Store, run: Callable[..., Outcome], judged: Path
) -> None:
    rows, version = page(store, run), store.client.get_model_version(NAME, "1")
    gate = store.client.get_run(version.tags["evaluation_run"])
    assert rows["Training data"] == [version.tags["dataset"], "confirmed by the run"]
    assert rows["Description"][0] == "A \\| b"
    assert rows["Reproduced"][0] == "not known"
    assert rows["Model, data, code and environment: Reproduced: not known"] == []  # among the limits
    [decided] = [cells for cells in rows.values() if gate.info.run_id in cells]
    assert decided[:3] == ["ann", "promoted", "none"]
    assert decided[-1] == "confirmed by the history of champions"
    assert rows["Data and answers today"] == ["confirmed by the run"]

    table = pd.read_csv(judged)
    model = mlflow.sklearn.load_model(f"models:/{NAME}/1")
    scored, yes = model.predict_proba(table[["x", "z"]])[:, 1], table["y"] == "yes"
    assert rows["accuracy_score"][:2] == ["500", f"{accuracy_score(table['y'], model.predict(table[['x', 'z']])):.4g}"]
    upper = table["half"] == "upper"
    assert rows["roc_auc, half=upper"][1] == f"{roc_auc_score(yes[upper], scored[upper]):.4g}"
    low, high = map(float, rows["log_loss"][2].split(" – "))
    assert low < float(rows["log_loss"][1]) < high
    assert rows["log_loss"][3] == "confirmed by the run"
    assert float(rows["x"][0]) > 0.2 > abs(float(rows["z"][0]))  # x tells y, z hardly
    assert "upper" not in rows  # a column that the model does not take


def test_what_was_changed_afterwards_is_contradicted_or_not_measured(
    store: Store, run: Callable[..., Outcome], judged: Path
) -> None:
    version = store.client.get_model_version(NAME, "1")
    store.client.set_model_version_tag(NAME, "1", "dataset", "other 12345678")
    store.client.set_model_version_tag(NAME, "1", "promoted_by", "nobody")
    store.client.set_tag(version.tags["source_run"], "mlflow.source.git.commit", "a" * 40)  # the version has no tag
    store.client.delete_registered_model_alias(NAME, "champion")
    store.client.set_tag(version.tags["evaluation_run"], "decision", "refused")
    shutil.copy(judged, judged.with_suffix(".kept"))
    pd.read_csv(judged).head(400).to_csv(judged, index=False)
    rows = page(store, run, language="fr")
    assert rows["Données d’apprentissage"][1] == f"CONTREDIT par l’exécution : {version.tags['dataset']}"
    assert rows["Commit du code"] == ["a" * 40, "donné à un seul endroit"]
    assert rows["Alias"][0] == "aucun"
    [decided] = [cells for cells in rows.values() if version.tags["evaluation_run"] in cells]
    assert decided[1] == "refusée"
    assert decided[-1] == "CONTREDIT par l’historique des champions : promue"
    [moved] = [cells for cells in rows.values() if "nobody" in cells]
    assert moved[-1].startswith("CONTREDIT par l’historique des champions : ")
    assert rows["Données et réponses d’aujourd’hui"][0].startswith("CONTREDIT")
    assert rows["non mesuré"] == ["l’évaluation avait d’autres données ou réponses"]
    assert "roc_auc, half=upper" not in rows

    judged.unlink()
    assert "non mesuré" in page(store, run, language="fr")
    wrong = run("dossier.py", name=NAME, version="9")
    assert wrong.code == 2
    assert f"'--version': {f'models:/{NAME}/9'!r} is not in the registry" in wrong.error
