"""Run entry points of any MLflow Project in a Git repository, all at one commit, as child runs of one parent."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
import yaml

from children import Child, run_children, temporary_folder
from repository import Project, check_repository, default_repository, forget_surroundings, load, resolve
from support.entry_point import describe_run, run_command, say_where_to_look
from support.table import absolute, bad

MANAGERS = click.Choice(["", "conda", "uv", "virtualenv", "local"])
CLASSIFIERS = "ann,decision_tree,gaussian_nb,hist_gradient_boosting,knn,logistic_regression,random_forest,svm"


def parse_runs(runs: str) -> list[Child]:
    """What to run, as the user wrote it.

    runs: entry points, comma-separated; or YAML or JSON, inline or in a file that ends in .yaml, .yml or .json: a
        list of entry points, each a name or `{name: {parameter: value}}`, or one mapping of that kind.

    Raises click.BadParameter for anything else.
    """
    text = runs.strip()
    said = _yaml(_read("runs", text) if text.endswith((".yaml", ".yml", ".json")) else text, "runs", runs)
    if isinstance(said, str):
        said = [name.strip() for name in said.split(",") if name.strip()]
    if isinstance(said, dict):
        said = [{name: parameters} for name, parameters in said.items()]
    if not said:
        raise bad("runs", runs, "names no entry point.")
    children = []
    for item in said:
        pairs = [*item.items()] if isinstance(item, dict) else [(item, {})]
        name, parameters = pairs[0] if len(pairs) == 1 else ("", None)
        parameters = parameters or {}  # `- name:` with nothing behind it
        if not isinstance(name, str) or not name or not _are_texts(parameters):
            right = "an item must be the name of an entry point or {name: {parameter: value}}."
            raise bad("runs", runs, f"holds {json.dumps(item)}: {right}")
        children.append(Child(name, parameters))
    return children


def read_parameters(parameters: str) -> dict[str, str]:
    """Parameters as YAML or JSON, `{name: value}`; none where the text is empty. Raises click.BadParameter."""
    said = _yaml(parameters, "parameters", parameters) or {}
    if not _are_texts(said):
        raise bad("parameters", parameters, "must be YAML or JSON of this form: {name: value}.")
    return said


def _are_texts(parameters: Any) -> bool:
    return isinstance(parameters, dict) and all(isinstance(value, str) for value in parameters.values())


def _read(parameter: str, path: str) -> str:
    """The text of a file that a parameter names."""
    try:
        return Path(absolute(path)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "" if Path(path).is_absolute() else " (a relative path starts in this project's folder)"
        raise bad(parameter, path, f"cannot be read: {getattr(error, 'strerror', 'not UTF-8')}{hint}.") from None


def _yaml(text: str, parameter: str, value: str) -> Any:
    """YAML in which every value stays the text that it is: a plain loader makes true of `yes`, a number of `1e3`."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise bad(parameter, value, f"is malformed YAML{where}: {getattr(error, 'problem', None) or error}.") from None


def read_backend_config(backend_config: str) -> dict[str, Any]:
    """The configuration of a backend, from a JSON file or inline JSON. Raises click.BadParameter where it is none."""
    inline = backend_config.lstrip().startswith("{")
    text = backend_config if inline else _read("backend_config", backend_config) if backend_config else "{}"
    try:
        config = json.loads(text)
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


def shown(table: pd.DataFrame, metrics: str) -> str:
    """The table as it is printed: the metrics asked for, or the first five that there are, and a short commit."""
    there = [name.strip() for name in metrics.split(",") if name.strip() in table]
    there = there or [name for name in table.columns[4:-3] if not name.endswith("_seconds")][:5]
    parameters = ["parameters"] if table["parameters"].any() else []
    printed = table[["entry_point", *parameters, "status", *there, "commit", "run_id"]]
    printed = printed.assign(commit=table["commit"].str[:7])
    return printed.to_string(index=False, float_format="{:.4f}".format, na_rep="")


def check(source: Project, children: list[Child]) -> None:
    """Refuse, as `Project.check` does, what the project does not have; say which parameters it does not declare."""
    for child in children:
        source.check(child.entry_point, child.parameters)
        for name in child.parameters.keys() - source.declared(child.entry_point).keys():
            click.echo(f"{child.entry_point} does not declare {name}: handed on as --{name}, as `mlflow run` does.")


def announce(total: int, number: int, child: Child) -> None:
    """Print how a child ended."""
    why = "" if child.status == "FINISHED" else f"  {child.error}"
    click.echo(f"[{number}/{total}] {child.name}  {child.status}  {child.seconds:.0f} s{why}")


@click.command()
@click.option("--repo", default="", help="https, ssh or git@ address; default: where this project came from.")
@click.option("--project", default="classification", help="The project's folder in the repository; . for the top.")
@click.option("--version", default="", help="Branch, tag or commit, also shortened; default: the default branch.")
@click.option("--runs", default=CLASSIFIERS, help="Entry points: comma-separated, or YAML/JSON, or a file of it.")
@click.option("--backend", type=click.Choice(["local", "databricks-jobs"]), default="local")
@click.option("--backend_config", default="", help="JSON, or the path of a JSON file, for the backend.")
@click.option("--env_manager", type=MANAGERS, default="", help="Of the children; default: that of this run.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="How many to run at a time.")
@click.option("--metrics", default="roc_auc,average_precision,accuracy,f1,log_loss", help="Metrics to print.")
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
            own = parent.data.tags.get("mlflow.project.env", "local")  # MLflow does not hand it on to children
            manager = env_manager or (own if backend == "local" else None)
            how = {"env_manager": manager, "backend": backend, "backend_config": config}
            try:
                run_children(source, children, parent, jobs, partial(announce, len(children)), **how)
            finally:
                table = table_of(children, commit)
                mlflow.log_text(table.to_csv(index=False), "children.csv")
            failed = [child.name for child in children if child.status != "FINISHED"]
            mlflow.log_metrics({"children": len(children), "failed": len(failed)})
            click.echo(f"\n{shown(table, metrics)}")
            say_where_to_look()
            if failed:
                line = f"{len(failed)} of {len(children)} failed: {', '.join(failed)}."
                mlflow.set_tags({"error": line, "mlflow.note.content": line})
                click.echo(f"Error: {line}", err=True)
                sys.exit(1)


if __name__ == "__main__":
    run_command(run)
