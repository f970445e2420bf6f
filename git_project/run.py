"""Run entry points of any MLflow Project in a Git repository, all at one commit, as child runs of one parent."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
import yaml
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV

from children import Child, Start, run_children, temporary_folder
from repository import Project, check_repository, default_repository, forget_surroundings, load, resolve
from support.entry_point import describe_run, run_command, say_where_to_look
from support.table import absolute, bad

CLASSIFIERS = "ann,decision_tree,gaussian_nb,hist_gradient_boosting,knn,logistic_regression,random_forest,svm"


def parse_runs(runs: str) -> list[Child]:
    """What to run, as the user wrote it.

    runs: entry points, comma-separated; or YAML or JSON, inline or in a file that ends in .yaml, .yml or .json: a
        list of entry points, each a name or `{name: {parameter: value}}`, or one mapping of that kind.

    Raises click.BadParameter for anything else.
    """
    text = runs.strip()
    if text.endswith((".yaml", ".yml", ".json")):
        try:
            text = Path(absolute(text)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            hint = "" if Path(runs).is_absolute() else " (a relative path starts in this project's folder)"
            raise bad("runs", runs, f"cannot be read: {getattr(error, 'strerror', 'not UTF-8')}{hint}.") from None
    said = _yaml(text, "runs", runs)
    if isinstance(said, str):
        said = [name.strip() for name in said.split(",") if name.strip()]
    if isinstance(said, dict):
        said = [{name: parameters} for name, parameters in said.items()]
    if not said:
        raise bad("runs", runs, "names no entry point.")
    return [_child(item, runs) for item in said]


def read_parameters(parameters: str) -> dict[str, str]:
    """Parameters as YAML or JSON, `{name: value}`; none where the text is empty. Raises click.BadParameter."""
    said = _yaml(parameters, "parameters", parameters) or {}
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise bad("parameters", parameters, "must be YAML or JSON of this form: {name: value}.")
    return said


def _yaml(text: str, parameter: str, value: str) -> Any:
    """YAML in which every value stays the text that it is: a plain loader makes true of `yes`, a number of `1e3`."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise bad(parameter, value, f"is malformed YAML{where}: {getattr(error, 'problem', None) or error}.") from None


def _child(item: Any, runs: str) -> Child:
    if isinstance(item, str):
        return Child(item)
    right = "an item must be the name of an entry point or {name: {parameter: value}}."
    if not isinstance(item, dict) or len(item) != 1:
        raise bad("runs", runs, f"holds {json.dumps(item)}: {right}")
    name, parameters = next(iter(item.items()))
    if parameters == "":  # `- name:` with nothing behind it
        parameters = {}
    if not isinstance(parameters, dict) or not all(isinstance(value, str) for value in parameters.values()):
        raise bad("runs", runs, f"holds {json.dumps(item)}: {right}")
    return Child(name, parameters)


def read_backend_config(backend_config: str) -> dict[str, Any]:
    """The configuration of a backend, from a JSON file or inline JSON. Raises click.BadParameter where it is none."""
    if not backend_config:
        return {}
    try:
        inline = backend_config.lstrip().startswith("{")
        config = json.loads(backend_config if inline else Path(absolute(backend_config)).read_text(encoding="utf-8"))
    except OSError as error:
        raise bad("backend_config", backend_config, f"cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise bad("backend_config", backend_config, f"is malformed JSON: {error}.") from None
    if not isinstance(config, dict):
        raise bad("backend_config", backend_config, "must be a JSON object.")
    return config


def table_of(children: list[Child], commit: str) -> pd.DataFrame:
    """One row a child: what was run, how it ended, its metrics, its commit and its run."""
    rows = [
        {
            "entry_point": child.entry_point,
            "parameters": " ".join(f"{key}={value}" for key, value in child.parameters.items()),
            "status": child.status,
            "run_seconds": round(child.seconds, 1),
            **(child.run.data.metrics if child.run else {}),
            "commit": commit,
            "run_id": child.run.info.run_id if child.run else "",
            "error": child.error,
        }
        for child in children
    ]
    table = pd.DataFrame(rows)
    last = ["commit", "run_id", "error"]
    return table[[*table.columns.drop(last), *last]]


def shown(table: pd.DataFrame, metrics: list[str]) -> str:
    """The table as it is printed: the metrics asked for, or the first five that there are, and a short commit."""
    first = ["entry_point", "parameters", "status"]
    there = [name for name in metrics if name in table]
    if not there:
        there = [name for name in table.columns[4:-3] if not name.endswith("_seconds")][:5]
    printed = table[[*first, *there, "commit", "run_id"]].assign(commit=table["commit"].str[:7])
    if not printed["parameters"].any():
        printed = printed.drop(columns="parameters")
    return printed.to_string(index=False, float_format="{:.4f}".format, na_rep="")


def check(source: Project, children: list[Child]) -> None:
    """Refuse what the project does not have, and say which parameters it does not declare.

    Raises click.BadParameter as `Project.check` does.
    """
    for child in children:
        source.check(child.entry_point, child.parameters)
        for name in child.parameters.keys() - source.declared(child.entry_point).keys():
            click.echo(f"{child.entry_point} does not declare {name}: handed on as --{name}, as `mlflow run` does.")


def announced(total: int) -> Callable[[Child], None]:
    """A function that prints a line for each child that ends."""
    number = itertools.count(1)

    def ended(child: Child) -> None:
        why = "" if child.status == "FINISHED" else f"  {child.error}"
        click.echo(f"[{next(number)}/{total}] {child.name}  {child.status}  {child.seconds:.0f} s{why}")

    return ended


@click.command()
@click.option("--repo", default="", help="https, ssh or git@ address; default: where this project came from.")
@click.option("--project", default="classification", help="The project's folder in the repository; . for the top.")
@click.option("--version", default="", help="Branch, tag or commit, also shortened; default: the default branch.")
@click.option("--runs", default=CLASSIFIERS, help="Entry points: comma-separated, or YAML/JSON, or a file of it.")
@click.option("--backend", type=click.Choice(["local", "databricks-jobs"]), default="local")
@click.option("--backend_config", default="", help="JSON, or the path of a JSON file, for the backend.")
@click.option(
    "--env_manager",
    type=click.Choice(["", "conda", "uv", "virtualenv", "local"]),
    default="",
    help="Of the children; default: the one that this run was started with.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="How many to run at a time.")
@click.option("--metrics", default="roc_auc,average_precision,accuracy,f1,log_loss", help="Those to print.")
def run(
    repo: str,
    project: str,
    version: str,
    runs: str,
    backend: str,
    backend_config: str,
    env_manager: str,
    jobs: int,
    metrics: str,
) -> None:
    """Run entry points of a project in Git, each pinned to the one commit that `version` stands for."""
    forget_surroundings()
    children, config = parse_runs(runs), read_backend_config(backend_config)
    repo = check_repository(repo or default_repository())
    with temporary_folder():
        commit = resolve(repo, version)
        source = load(repo, commit, project.strip("./"))
        check(source, children)
        click.echo(f"{source.uri} at {commit}")
        with mlflow.start_run() as parent:
            describe_run(parent, "main")
            mlflow.set_tags({"repo": repo, "project": source.folder, "commit": commit, "resolved.version": commit})
            own = parent.data.tags.get(MLFLOW_PROJECT_ENV, "local")  # MLflow does not hand it on to children
            manager = env_manager or (own if backend == "local" else None)
            how = Start(parent, jobs, manager, backend, config, ended=announced(len(children)))
            try:
                run_children(source, children, how)
            finally:
                table = table_of(children, commit)
                mlflow.log_text(table.to_csv(index=False), "children.csv")
            failed = [child.name for child in children if child.status != "FINISHED"]
            mlflow.log_metrics({"children": len(children), "failed": len(failed)})
            click.echo(f"\n{shown(table, [name.strip() for name in metrics.split(',')])}")
            say_where_to_look()
            if failed:
                line = f"{len(failed)} of {len(children)} failed: {', '.join(failed)}."
                mlflow.set_tags({"error": line, "mlflow.note.content": line})
                click.echo(f"Error: {line}", err=True)
                sys.exit(1)


if __name__ == "__main__":
    run_command(run)
