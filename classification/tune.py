"""Search for the parameters of a classifier, or for the classifier itself, by cross-validation on the training rows."""

from __future__ import annotations

import re
import shlex
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
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
from optuna.trial import FrozenTrial, TrialState

from classifiers import CLASSIFIERS, COUNT, build
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
from trials import new_study, search_locally, search_on_spark, take_up

SEARCH_OPTIONS = [
    option("model", click.Choice(["all", *RANGES]), "all", "The classifier to tune; all: it is itself a choice."),
    option("n_trials", COUNT, 50, "Trials that the study has in the end."),
    option("timeout", FiniteRange(min=0), 0.0, "Seconds after which no trial begins; 0 for no limit."),
    option("metric", click.Choice(METRICS), "roc_auc", "The metric to improve."),
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
        objective, started, spark = Objective(split, search), time.time(), search.engine == "spark"
        trials = search_on_spark(objective, parent) if spark else search_locally(objective, parent, earlier)
        study, seconds = study_of(trials, search), time.time() - started
        name, values = split_name(study.best_params, search.model)

        by_default = evaluate_defaults(search, split)
        with mlflow.start_run(run_name=f"best {name}", nested=True) as child:
            mlflow.log_params({"classifier": name, **CLASSIFIERS[name].defaults, **values})
            model = with_preprocessing(build(name, values, search.random_state), split.kinds)
            result = fit_and_evaluate(model, split, threshold="")
            log_result(name, result, split)
        found = Found(search, study, seconds, name, values, result, by_default)
        log_found(found, split)
        log_pictures(found)
        say_found(found, split, command_line(found, table), f"runs:/{child.info.run_id}/model")
        say_where_to_look()


def check_folds(cv: int, split: Split) -> None:
    """Refuse by click.BadParameter a number of folds that the rarest class cannot fill, or leave with enough rows."""
    counts = split.y_train.value_counts()
    rarest, rows = shown(counts.idxmin()), int(counts.min())
    if cv > rows or rows - -(-rows // cv) < ROWS_PER_CLASS:
        needed = f"a fold needs one of them, and {ROWS_PER_CLASS} outside it to train on."
        raise bad("cv", cv, f"does not suit the {rows} training rows of class {rarest}: {needed}")


def study_of(trials: list[FrozenTrial], search: Search) -> optuna.Study:
    """The finished trials of a search as Optuna has them. Raises click.BadParameter where no trial has finished."""
    study = new_study(search, search.random_state)
    study.add_trials(trials)
    if all(trial.state == TrialState.PRUNED for trial in trials):
        raise bad("timeout", search.timeout, "seconds are too few: no trial has finished.")
    return study


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


@dataclass(frozen=True)
class Found:
    """What a search has found.

    study: its finished trials; seconds: that they took.
    name, values, result: the best classifier, its parameters, and what it reaches on the test rows.
    by_default: what classifiers with their defaults reach there, the best first.
    """

    search: Search
    study: optuna.Study
    seconds: float
    name: str
    values: dict[str, Any]
    result: Result
    by_default: dict[str, Result]

    @property
    def pruned(self) -> int:
        return len(self.study.get_trials(states=[TrialState.PRUNED]))

    def verdict(self) -> tuple[bool, str]:
        """Whether the tuned classifier beats every default on the test rows, beyond chance; and a sentence on it."""
        metric, [first, *_] = self.search.metric, self.by_default
        value, best = self.result.metrics[metric], self.by_default[first].metrics[metric]
        alike = self.result.may_equal(self.by_default[first], metric)
        beats = not alike and (value > best) == self.search.greater_is_better
        if alike:
            text = (
                "The tuned {name}, with {metric} {value:.4f}, cannot be told apart from the best default, {first}, "
                "with {best:.4f}: chance in the choice of the test rows may explain the difference."
            )
        elif beats:
            text = (
                "The tuned {name}, with {metric} {value:.4f}, beats every default; the best one is {first}, with "
                "{best:.4f}."
            )
        else:
            text = (
                "The tuned {name}, with {metric} {value:.4f}, does not beat the best default, {first}, with {best:.4f}."
            )
        sentence = tr(text, name=self.name, metric=metric, value=value, first=first, best=best)
        if "ann" not in self.by_default:
            sentence += " " + tr("The ann was not compared: TensorFlow is loaded only if the search includes it.")
        return beats, sentence


def command_line(found: Found, table: dict[str, Any]) -> str:
    """The command that trains the best classifier again, with the parameters that are not the defaults."""
    usual = {str(each.name): each.default for each in TABLE_OPTIONS}
    given = {key: value for key, value in table.items() if value != usual[key]} | found.values
    words = [f"-P {shlex.quote(f'{key}={value}')}" for key, value in given.items()]
    folder = shlex.quote(Path(__file__).resolve().parent.name)
    return " ".join([f"mlflow run {folder} -e {found.name}", *words, "--env-manager local"])


def log_found(found: Found, split: Split) -> None:
    """Log the trials of a search to the active run as a table, and its metrics."""
    trials = found.study.trials_dataframe(("number", "state", "value", "duration", "params"))
    trials = trials.assign(run_id=[trial.user_attrs["run_id"] for trial in found.study.trials])
    mlflow.log_text(trials.to_csv(index=False), "trials.csv")
    metric = found.search.metric
    metrics = {
        f"best_{metric}": found.result.metrics[metric],
        f"best_cv_{metric}": found.study.best_value,
        **{f"default_{metric}_{name}": one.metrics[metric] for name, one in found.by_default.items()},
        "trials": len(found.study.trials),
        "pruned_trials": found.pruned,
        "search_seconds": found.seconds,
    }
    mlflow.log_metrics(metrics, dataset=split.test)


def say_found(found: Found, split: Split, command: str, best_uri: str) -> None:
    """Print what a search has found, and leave it on the page of the active run.

    command: trains the best classifier again. best_uri: of its model.
    """
    metric, name = found.search.metric, found.name
    beats, sentence = found.verdict()
    said = tr("{count} trials, {pruned} of them given up", count=len(found.study.trials), pruned=found.pruned)
    resume = tr("{said}. `-P study={study}` continues them.", said=said, study=found.search.study)
    mlflow.set_tags({"best_classifier": name, "best_model_uri": best_uri, "beats_defaults": str(beats).lower()})
    mlflow.set_tag("mlflow.note.content", f"{sentence}\n\n    {command}\n\n{resume}")

    best = f"{metric} {found.study.best_value:.4f}"
    click.echo("\n" + tr("{said}, in {seconds:.0f} s", said=said, seconds=found.seconds))
    click.echo(tr("Best of the folds: {name}, {reached}", name=name, reached=best))
    click.echo(tr("On the {rows:,} test rows, which no trial saw:", rows=len(split.y_test)))
    reached = {tr("{name}, defaults", name=other): result for other, result in found.by_default.items()}
    for title, result in {**reached, tr("{name}, tuned", name=name): found.result}.items():
        click.echo(f"  {title:<34} {metric} {result.metrics[metric]:.4f}")
    click.echo(f"{sentence}\n{tr('Train it again: {command}', command=command)}")
    click.echo(tr("Best model: {uri}", uri=best_uri))


def log_pictures(found: Found) -> None:
    """Log the history of a search, and for its best classifier the parallel coordinates and importances, by Optuna.

    A picture that the trials do not allow is left out, with a line.
    """
    from optuna.visualization import matplotlib as drawings

    matplotlib.use("Agg")  # Optuna draws with pyplot, which would look for a screen
    target = tr("{metric} (mean of the folds)", metric=found.search.metric)
    of_best = trials_of_best(found)
    pictures: dict[str, tuple[str, Callable[..., Any], optuna.Study]] = {
        "optimization_history": (tr("Optimisation history"), drawings.plot_optimization_history, found.study),
        "parallel_coordinate": (tr("The {name} trials", name=found.name), drawings.plot_parallel_coordinate, of_best),
        "param_importances": (
            tr("What matters to the {name}", name=found.name),
            drawings.plot_param_importances,
            of_best,
        ),
    }
    for picture, (title, plot, study) in pictures.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that Optuna's pictures are experimental, and axes without a length
                plot(study, target_name=target)
            if picture == "optimization_history":
                pyplot.gca().xaxis.set_major_locator(MaxNLocator(integer=True))  # no half trials
            mlflow.log_figure(in_our_style(pyplot.gcf(), title), f"{picture}.png", save_kwargs={"bbox_inches": "tight"})
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


def in_our_style(figure: Figure, title: str) -> Figure:
    """A picture of Optuna's with the title, the white ground and the colours of ours, in the language of the run."""
    figure.set_size_inches(11, 6)
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
    return in_language(figure)


if __name__ == "__main__":
    run_command(tune)
