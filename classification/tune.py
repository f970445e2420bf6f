"""Search for the parameters of a classifier, or for the classifier itself, by cross-validation on the training rows."""

from __future__ import annotations

import json
import re
import shlex
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib
import mlflow
import optuna
from matplotlib import pyplot
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from classifiers import CLASSIFIERS, COUNT, build
from engines import new_study, search_locally, search_on_spark
from evaluation import Result, fit_and_evaluate
from features import ROWS_PER_CLASS, TABLE_OPTIONS, Split, load_split, with_preprocessing
from objective import METRICS, RANGES, Objective, Search, split_name
from support.entry_point import FiniteRange, describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, decimal, tr
from support.parameters import option
from support.style import COLORS, in_language
from support.table import bad
from support.texts import shown
from tracking import log_result
from trials import check_settings, load_trials, runs_of

SEARCH_OPTIONS = [
    option("model", click.Choice(["all", *RANGES]), "all", "The classifier to tune; all: it is itself a choice."),
    option("n_trials", COUNT, 50, "Trials that the study has in the end."),
    option("timeout", FiniteRange(min=0), 0.0, "Seconds after which no trial begins; 0 for no limit."),
    option("metric", click.Choice(METRICS), "roc_auc", "What the search is for."),
    option("cv", click.IntRange(2, 20), 5, "Folds of the training rows."),
    option("study", help="A name; a later search with this name continues the study."),
    option("engine", click.Choice(["local", "spark"]), "local", "What runs the trials."),
    option("jobs", COUNT, 1, "Trials at a time: worker processes, or tasks of Spark."),
]


@click.command(params=[*TABLE_OPTIONS, LANGUAGE, *SEARCH_OPTIONS])
def tune(**given: Any) -> None:
    """Search, refit the best on all training rows, and compare it with the defaults on the test rows."""
    table = {str(each.name): given.pop(str(each.name)) for each in TABLE_OPTIONS}
    search = Search(**given, random_state=table["random_state"])
    if search.study and not re.fullmatch(r"[A-Za-z0-9._-]+", search.study):
        raise bad("study", search.study, "is not a name of letters, digits, dots, hyphens and underscores.")
    split = load_split(**table)
    check_folds(search.cv, split)
    if search.engine == "spark":
        from support.on_spark import spark_session  # late: most searches need no Spark

        spark_session()  # where there is none, no run is begun
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    with mlflow.start_run() as parent:
        describe_run(parent, "tune")
        earlier, search = take_up(search, split, parent)
        mlflow.log_inputs(datasets=[split.train, split.test], contexts=["training", "test"], tags_list=[None, None])
        objective, started = Objective(split, search), time.time()
        if search.engine == "spark":
            trials = search_on_spark(objective, parent)
        else:
            trials = search_locally(objective, parent, earlier)
        found = best_of(search, trials, time.time() - started)

        by_default = evaluate_defaults(search, split)
        with mlflow.start_run(run_name=f"best {found.name}", nested=True) as child:
            mlflow.log_params({"classifier": found.name, **CLASSIFIERS[found.name].defaults, **found.values})
            model = with_preprocessing(build(found.name, found.values, search.random_state), split.kinds)
            result = fit_and_evaluate(model, split, threshold="")
            log_result(found.name, result, split)
        beats, sentence = verdict(search, found.name, result, by_default)
        command, best_uri = command_line(found, table), f"runs:/{child.info.run_id}/model"
        mlflow.set_tags(
            {"best_classifier": found.name, "best_model_uri": best_uri, "beats_defaults": str(beats).lower()}
        )
        mlflow.set_tag("mlflow.note.content", as_markdown(found, sentence, command))
        log_found(found, result, by_default, split)
        log_pictures(found)
        say_found(found, result, by_default, split)
        click.echo(f"{sentence}\n{tr('Train it again: {command}', command=command)}")
        click.echo(tr("Best model: {uri}", uri=best_uri))
        say_where_to_look()


@dataclass(frozen=True)
class Found:
    """What a search has found: all finished trials as a study, the best classifier and its parameters.

    said: how many trials there are, in words; seconds: that the search took.
    """

    search: Search
    study: optuna.Study
    name: str
    values: dict[str, Any]
    pruned: int
    seconds: float

    @property
    def said(self) -> str:
        return tr("{count} trials, {pruned} of them given up", count=len(self.study.trials), pruned=self.pruned)


def best_of(search: Search, trials: list[FrozenTrial], seconds: float) -> Found:
    """What the finished trials of a search come to. Raises click.BadParameter where there is none."""
    study = new_study(search, search.random_state)
    study.add_trials(trials)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    if pruned == len(trials):
        raise bad("timeout", search.timeout, "seconds are too few: no trial has finished.")
    return Found(search, study, *split_name(study.best_params, search.model), pruned, seconds)


def check_folds(cv: int, split: Split) -> None:
    """Refuse by click.BadParameter more folds than the rarest class has training rows, or too few of it in a fold."""
    counts = split.y_train.value_counts()
    rarest, rows = counts.idxmin(), int(counts.min())
    if cv > rows:
        raise bad("cv", cv, f"is more than the {rows} training rows of class {shown(rarest)}.")
    if rows - -(-rows // cv) < ROWS_PER_CLASS:
        left = f"{ROWS_PER_CLASS} of the {rows} training rows of class {shown(rarest)}"
        raise bad("cv", cv, f"folds leave fewer than {left} to train on.")


def take_up(search: Search, split: Split, parent: Run) -> tuple[list[FrozenTrial], Search]:
    """The trials that a study of this name has, and the search with the name of its study.

    A study without a name is called by the run of its search. Raises click.BadParameter where it had other settings.
    """
    runs = runs_of(search.study, parent.info.experiment_id) if search.study else []
    search = replace(search, study=search.study or parent.info.run_id)
    settings = {
        "training_rows": split.train.digest,
        "target": split.target,
        "positive": str(split.positive),
        **{key: getattr(search, key) for key in ("model", "metric", "cv", "random_state", "engine")},
    }
    check_settings(search.study, settings, runs)
    mlflow.set_tags({"study": search.study, "study_settings": json.dumps(settings)})
    earlier = load_trials(runs)
    if earlier:
        click.echo(tr("Study {study}: {count} trials are there already.", study=search.study, count=len(earlier)))
    return earlier, search


def evaluate_defaults(search: Search, split: Split) -> dict[str, Result]:
    """What classifiers with their defaults reach on the test rows, the best first; nothing is logged.

    The ann is among them only where it was searched: TensorFlow takes long to load.
    """
    reached = {}
    for name, each in CLASSIFIERS.items():
        searched = name != "ann" or search.model in ("ann", "all")
        if searched and each.defaults.get("n_neighbors", 0) <= len(split.X_train):
            model = with_preprocessing(build(name, {}, search.random_state), split.kinds)
            reached[name] = fit_and_evaluate(model, split, threshold="")
    ranked = sorted(reached, key=lambda name: reached[name].metrics[search.metric], reverse=search.greater_is_better)
    return {name: reached[name] for name in ranked}


def verdict(search: Search, name: str, tuned: Result, by_default: dict[str, Result]) -> tuple[bool, str]:
    """Whether a tuned classifier beats every default on the test rows, beyond chance; and the sentence that says so.

    by_default: what classifiers with their defaults reach, the best first.
    """
    metric, [first, *_] = search.metric, by_default
    best = by_default[first]
    better = (tuned.metrics[metric] > best.metrics[metric]) == search.greater_is_better
    alike = tuned.may_equal(best, metric)
    if alike:
        text = (
            "The tuned {name}, with {metric} {value:.4f}, cannot be told apart from the best defaults, {first}'s, with "
            "{best:.4f}: chance in the choice of the test rows may explain the difference."
        )
    elif better:
        text = (
            "The tuned {name}, with {metric} {value:.4f}, beats every default; the best defaults, {first}'s, with "
            "{best:.4f}."
        )
    else:
        text = (
            "The tuned {name}, with {metric} {value:.4f}, does not beat the best defaults, {first}'s, with {best:.4f}."
        )
    reached = {"value": tuned.metrics[metric], "best": best.metrics[metric]}
    sentence = tr(text, name=name, metric=metric, first=first, **reached)
    if "ann" not in by_default:
        sentence += " " + tr("The ann is not among them: TensorFlow is loaded only if the search includes it.")
    return better and not alike, sentence


def command_line(found: Found, table: dict[str, Any]) -> str:
    """The command that trains the best classifier again, with the parameters that are not the defaults."""
    usual = {str(each.name): each.default for each in TABLE_OPTIONS}
    given = {key: value for key, value in table.items() if value != usual[key]} | found.values
    words = [f"-P {shlex.quote(f'{key}={value}')}" for key, value in given.items()]
    folder = shlex.quote(Path(__file__).resolve().parent.name)
    return " ".join([f"mlflow run {folder} -e {found.name}", *words, "--env-manager local"])


def log_found(found: Found, result: Result, by_default: dict[str, Result], split: Split) -> None:
    """Log the trials of a search to the active run as a table, and its metrics."""
    trials = found.study.trials_dataframe(("number", "state", "value", "duration", "params"))
    trials = trials.assign(run_id=[trial.user_attrs["run_id"] for trial in found.study.trials])
    mlflow.log_text(trials.to_csv(index=False), "trials.csv")
    metric = found.search.metric
    metrics = {
        f"best_{metric}": result.metrics[metric],
        f"best_cv_{metric}": found.study.best_value,
        **{f"default_{metric}_{name}": one.metrics[metric] for name, one in by_default.items()},
        "trials": len(found.study.trials),
        "pruned_trials": found.pruned,
        "search_seconds": found.seconds,
    }
    mlflow.log_metrics(metrics, dataset=split.test)


def as_markdown(found: Found, sentence: str, command: str) -> str:
    """What a search has found, for the page of its run."""
    values = "\n".join(f"| {key} | {value} |" for key, value in found.values.items())
    resume = tr("{said}. `-P study={study}` continues them.", said=found.said, study=found.search.study)
    return f"{sentence}\n\n| {found.name} | |\n|---|---|\n{values}\n\n    {command}\n\n{resume}"


def say_found(found: Found, result: Result, by_default: dict[str, Result], split: Split) -> None:
    """Print what a search has found."""
    metric = found.search.metric
    click.echo("\n" + tr("{said}, in {seconds:.0f} s", said=found.said, seconds=found.seconds))
    best = f"{metric} {found.study.best_value:.4f}"
    click.echo(tr("Best of the folds: {name}, {reached}", name=found.name, reached=best))
    click.echo(tr("On the {rows:,} test rows, which no trial saw:", rows=len(split.y_test)))
    for name, one in by_default.items():
        click.echo(f"  {tr('{name}, defaults', name=name):<34} {metric} {one.metrics[metric]:.4f}")
    click.echo(f"  {tr('{name}, tuned', name=found.name):<34} {metric} {result.metrics[metric]:.4f}")


def log_pictures(found: Found) -> None:
    """Log the history of a search, and for its best classifier the parallel coordinates and importances.

    A picture that the trials do not allow is left out, with a line.
    """
    from optuna.visualization import matplotlib as drawings

    target = tr("{metric} (mean of the folds)", metric=found.search.metric)
    of_all: dict[str, Any] = {"study": found.study}
    of_best = {"study": trials_of_best(found), "params": list(found.values)}
    trials, matters = tr("The {name} trials", name=found.name), tr("What matters to the {name}", name=found.name)
    pictures: list[tuple[str, str, Callable[..., Any], dict[str, Any]]] = [
        ("optimization_history", tr("Optimisation history"), drawings.plot_optimization_history, of_all),
        ("parallel_coordinate", trials, drawings.plot_parallel_coordinate, of_best),
        ("param_importances", matters, drawings.plot_param_importances, of_best),
    ]
    matplotlib.use("Agg")  # Optuna draws with pyplot, which would look for a screen
    for picture, title, plot, of in pictures:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that Optuna's pictures are experimental, and axes without a length
                plot(**of, target_name=target)
            figure = pyplot.gcf()
            figure.set_size_inches(11, 6)
            in_our_style(figure, title)
            if picture == "optimization_history":
                figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))  # no half trials
            mlflow.log_figure(figure, f"{picture}.png", save_kwargs={"bbox_inches": "tight"})
        except (ValueError, RuntimeError) as error:
            click.echo(f"No {picture}.png: {error}")
        finally:
            pyplot.close("all")


def trials_of_best(found: Found) -> optuna.Study:
    """A study of the complete trials of the best classifier. Its parameters have short names: Optuna cuts long ones."""
    study = optuna.create_study(direction=found.study.direction)
    for trial in found.study.get_trials(states=[TrialState.COMPLETE]):
        name, values = split_name(trial.params, found.search.model)
        if name == found.name:
            ranges = {key: trial.distributions[f"{name}.{key}"] for key in values}
            study.add_trial(optuna.create_trial(value=trial.value, params=values, distributions=ranges))
    return study


def in_our_style(figure: Figure, title: str) -> None:
    """Give a picture of Optuna's the title, the white ground and the colours of ours."""
    for axes in figure.axes:
        for place in ("left", "center"):  # Optuna's own titles stand in different places
            axes.set_title("", loc=place)
        legend = axes.get_legend()
        for text in (axes.xaxis.label, axes.yaxis.label, *getattr(legend, "texts", [])):
            text.set_text(tr(text.get_text()))
        axes.set_facecolor("white")
        axes.grid(False)
        if len(figure.axes) == 1:  # parallel coordinates have lines enough
            axes.grid(color="#dddddd")
        for drawn in (*axes.collections, *axes.lines, *axes.patches, *getattr(legend, "legend_handles", [])):
            if isinstance(drawn, LineCollection):  # parallel coordinates: the better, the bluer
                drawn.set_cmap(LinearSegmentedColormap.from_list("", [COLORS[1], COLORS[0]]))
            elif isinstance(drawn, PathCollection | Patch):
                drawn.set_color(COLORS[0])
            elif isinstance(drawn, Line2D):
                drawn.set(color=COLORS[1], alpha=1)
        for text in axes.texts:
            text.set_text(f" {decimal(text.get_text())}")  # beside its bar, not on it
        for label in axes.get_yticklabels():
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})  # above a line
    figure.axes[0].set_title(title)
    in_language(figure)


if __name__ == "__main__":
    run_command(tune)
