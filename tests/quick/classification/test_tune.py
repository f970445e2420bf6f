"""When a search may say that it has found something better, and what it begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import module
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

tune = module("classification", "tune")
SPREAD = np.random.default_rng(0).normal(0, 0.01, 500)


def reached(metric: str, value: float, draws: np.ndarray) -> Any:
    nothing = np.empty(0)
    return tune.Result(None, None, nothing, nothing, {metric: value}, {metric: draws})


def verdict(metric: str, tuned: float, first: float, alike: bool = True) -> tuple[bool, str]:
    """Of a tuned knn; `alike`: both do better and worse on the same test rows, so that little chance is left."""
    search = tune.Search("knn", metric, 5, 50, 0, "", "local", 1, 0)
    by_default = {"svm": reached(metric, first, first + SPREAD), "ann": reached(metric, 0.5, 0.5 + SPREAD)}
    result = reached(metric, tuned, tuned + (SPREAD if alike else SPREAD[::-1]))
    return tune.Found(search, None, 1.0, "knn", {}, result, by_default).verdict()


def test_better_than_every_default() -> None:
    beats, sentence = verdict("roc_auc", 0.81, 0.80)
    assert beats
    assert sentence == ("The tuned knn, with roc_auc 0.8100, beats every default; the best one is svm, with 0.8000.")


def test_worse_than_the_best_default() -> None:
    beats, sentence = verdict("roc_auc", 0.79, 0.80)
    assert not beats
    assert "does not beat the best default, svm, with 0.8000." in sentence


def test_a_difference_that_chance_explains_is_not_called_one() -> None:
    beats, sentence = verdict("roc_auc", 0.81, 0.80, alike=False)
    assert not beats
    assert "cannot be told apart from the best default" in sentence
    assert "chance" in sentence


@pytest.mark.parametrize(("tuned", "expected"), [(0.39, True), (0.41, False)])
def test_less_is_better_for_a_loss(tuned: float, expected: bool) -> None:
    assert verdict("log_loss", tuned, 0.40)[0] is expected


def test_the_command_that_trains_it_again_names_this_folder_and_what_is_not_a_default() -> None:
    search = tune.Search("svm", "roc_auc", 5, 50, 0, "", "local", 1, 0)
    found = tune.Found(search, None, 1.0, "svm", {"C": 2.0, "kernel": "linear"}, None, {})
    table = {option.name: option.default for option in tune.TABLE_OPTIONS} | {"target": "has left"}
    assert tune.command_line(found, table) == (
        "mlflow run classification -e svm -P 'target=has left' -P C=2.0 -P kernel=linear --env-manager local"
    )


def test_a_search_begins_with_the_defaults_of_every_classifier() -> None:
    objective = module("classification", "objective")
    choices = objective.first_choices("all", rows=1000)
    defaults = {name: each.defaults for name, each in tune.CLASSIFIERS.items()}
    assert [choice["classifier"] for choice in choices] == list(defaults)
    for choice in choices:
        name, values = objective.split_name(choice, "all")
        assert values == {key: defaults[name][key] for key in values}
        assert values


def test_neighbours_are_no_more_than_the_rows_of_a_fold() -> None:
    objective = module("classification", "objective")
    assert objective.first_choices("knn", rows=20) == []
    study = tune.optuna.create_study()
    for _ in range(20):
        _, values = objective.suggest(study.ask(), "knn", rows=20)
        assert 1 <= values["n_neighbors"] <= 20
        assert ("p" in values) == (values["metric"] == "minkowski")


@pytest.mark.parametrize("picture", ["optimization_history", "parallel_coordinate", "param_importances"])
def test_optunas_pictures_have_the_colours_of_ours(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tune.optuna.create_study()
    for number in range(6):
        ranges = {name: tune.optuna.distributions.FloatDistribution(0, 9) for name in ("C", "gamma")}
        given = {"C": float(number), "gamma": float(number % 3)}
        study.add_trial(tune.optuna.create_trial(value=number, params=given, distributions=ranges))
    search = tune.Search("svm", "roc_auc", 5, 6, 0, "", "local", 1, 0)
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(tune, "trials_of_best", lambda found: study)
    monkeypatch.setattr(tune.mlflow, "log_figure", lambda figure, name, **_: drawn.update({name: colours(figure)}))
    tune.log_pictures(tune.Found(search, study, 1.0, "svm", {"C": 0.0, "gamma": 0.0}, None, {}))
    assert drawn[f"{picture}.png"]
    assert drawn[f"{picture}.png"] <= set(map(to_rgb, tune.COLORS[:2]))


def colours(figure: Figure) -> set[Any]:
    """The colours of points, lines and bars; of parallel coordinates the two ends of their scale."""
    found: list[Any] = []
    for axes in figure.axes:
        for each in axes.collections:
            if each.get_array() is not None:
                found += [each.get_cmap()(end) for end in (0.0, 1.0)]
            elif isinstance(each, PathCollection):
                found += list(each.get_facecolor())
        found += [line.get_color() for line in axes.lines]
        found += [patch.get_facecolor() for patch in axes.patches]
    return set(map(to_rgb, found))


def test_a_range_without_the_default_is_refused_before_the_first_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = module("classification", "objective")
    ranges = {"n_estimators": objective.integer(300, 400)}  # the default is 200
    monkeypatch.setitem(objective.RANGES, "random_forest", ranges)
    with pytest.raises(ValueError, match="200"):
        objective.first_choices("random_forest", rows=1000)
