"""Score new instances with every model of a `main` run side by side, and with the best one alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from children import get_run, tree_of
from support.entry_point import describe_run, run_command, say_where_to_look
from support.inputs import kinds_of, model_inputs, values_of
from support.kinds import decide
from support.names import free_names
from support.server_errors import note_models_used
from support.table import OpenedTable, bad, dataset_source, open_table, short_name
from support.table_writer import TableWriter


@dataclass(frozen=True)
class Model:
    """A model that was logged below a run: the run's name and metrics, and the model itself, ready to predict."""

    name: str
    uri: str
    metrics: dict[str, float]
    info: ModelInfo
    loaded: Any

    def on(self, table: OpenedTable) -> Callable[[pa.Table, int], pd.DataFrame]:
        """What predicts for rows of a table, as its file has them: one column, or those that the model names.

        What the columns are, the model has stored; where it names none, the table says.
        """
        inputs = self.info.signature.inputs if self.info.signature else None
        schema = inputs if inputs is not None and inputs.has_input_names() else None
        kinds = kinds_of(self.info.metadata, schema, table) if schema else decide(table)

        def predict(rows: pa.Table, first_row: int) -> pd.DataFrame:
            typed = model_inputs(rows, schema, kinds, first_row) if schema else values_of(rows, kinds, first_row)
            predicted = self.loaded.predict(typed)
            if isinstance(predicted, pd.DataFrame):
                return predicted.set_axis(typed.index)
            values = np.asarray(predicted)
            if values.ndim == 1:
                return pd.DataFrame({"prediction": values}, index=typed.index)
            return pd.DataFrame(values, index=typed.index).add_prefix("prediction_")

        return predict


def find_models(upper: Run) -> list[Model]:
    """The models that a run and the runs below it logged, loaded, the first logged first.

    Raises click.BadParameter where there is none, or one that cannot be loaded here.
    """
    models: list[Model] = []
    for run in tree_of(upper):
        for number, output in enumerate(run.outputs.model_outputs if run.outputs else []):
            name, uri = str(run.info.run_name), f"models:/{output.model_id}"
            name = name if number == 0 else f"{name} {number + 1}"
            if name in [model.name for model in models]:
                name = f"{name} {run.info.run_id[:6]}"
            try:
                info, loaded = mlflow.models.get_model_info(uri), mlflow.pyfunc.load_model(uri)
            except (MlflowException, ImportError, OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise bad("run_id", name, f"has a model that cannot be loaded here: {reason}") from None
            models.append(Model(name, uri, run.data.metrics, info, loaded))
    if not models:
        raise bad("run_id", upper.info.run_id, "logged no model, nor did a run below it: give the run of a `main`.")
    return models


def best_of(models: list[Model], metric: str, greater_is_better: bool) -> Model:
    """The model with the best value of a metric.

    Raises click.BadParameter where no model has the metric.
    """
    scored = [model for model in models if not np.isnan(model.metrics.get(metric, np.nan))]
    if not scored:
        have = ", ".join(sorted({name for model in models for name in model.metrics})) or "none"
        raise bad("metric", metric, f"is a metric of none of the models; they have: {have}.")
    return (max if greater_is_better else min)(scored, key=lambda model: model.metrics[metric])


def write_predictions(
    models: list[Model], best: Model, table: OpenedTable, every: Path, alone: Path, batch_size: int
) -> tuple[int, int]:
    """Write what all models predict to `every` and what the best one predicts to `alone`.

    Returns how many rows there are, and on how many of them the models agree.
    """
    predictors = {model.name: model.on(table) for model in models}
    for note in dict.fromkeys(table.notes):
        click.echo(note, err=True)
    done = agreed = 0
    with TableWriter(every) as beside, TableWriter(alone) as single:
        for rows in table.batches(batch_size):
            predicted = {name: predict(rows, done + 1) for name, predict in predictors.items()}
            # A model that says one thing on a row has the column <name>, one that says several <name>.<column>.
            columns = {
                name if list(said.columns) == ["prediction"] else f"{name}.{column}": said[column]
                for name, said in predicted.items()
                for column in said
            }
            side_by_side = pd.DataFrame(columns)
            first = pd.DataFrame({name: said.iloc[:, 0] for name, said in predicted.items()})
            agreed += int((first.nunique(axis=1, dropna=False) == 1).sum())
            if not done:
                click.echo(side_by_side.head().to_string())
            for writer, said in ((beside, side_by_side), (single, predicted[best.name])):
                writer.write(rows, said.rename(columns=free_names(said.columns, table.names)))
            done += len(rows)
    return done, agreed


@click.command()
@click.option("--run_id", required=True, help="A run of `main`, or any run that logged models itself or below it.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON array or JSON Lines.")
@click.option("--metric", default="roc_auc", help="The metric by which the best model is chosen.")
@click.option("--greater_is_better", type=click.BOOL, default=True, help="Whether more of the metric is better.")
@click.option("--output", default="", help="A folder to write the predictions to, besides the run.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
def predict(run_id: str, data: str, metric: str, greater_is_better: bool, output: str, batch_size: int) -> None:
    """Write what every model predicts for each new instance, and what the best one predicts."""
    if output and not Path(output).expanduser().is_dir():
        raise bad("output", output, "is no folder.")
    upper = get_run(run_id)
    models = find_models(upper)
    best = best_of(models, metric, greater_is_better)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        describe_run(run, "predict")
        written_to = Path(output).expanduser() if output else Path(folder)
        every, alone = written_to / "predictions.csv", written_to / "best_predictions.csv"
        table = open_table(data)
        done, agreed = write_predictions(models, best, table, every, alone, batch_size)
        source, name = dataset_source(data), short_name(data)
        dataset = MetaDataset(source, name=name, digest=table.digest())  # type: ignore[abstract]
        mlflow.log_input(dataset, context="inference")
        mlflow.log_artifact(str(every))
        mlflow.log_artifact(str(alone))
        mlflow.log_metrics({"instances": done, "agreed": agreed})
        mlflow.set_tags({"predicts_with": upper.info.run_id, "best_model": best.name, "best_model_uri": best.uri})
        note_models_used(run.info.run_id, [model.info.model_id for model in models if model.info.model_id])
        click.echo(f"\n{done:,} instances, {len(models)} models, which agree on {agreed:,}.")
        click.echo(f"Best by {metric}: {best.name} ({best.metrics[metric]:.4f}), {best.uri}")
        where = str(written_to) if output else f"runs:/{run.info.run_id}"
        click.echo(f"Predictions: {where}/predictions.csv, and those of {best.name}: {where}/best_predictions.csv")
        say_where_to_look()


if __name__ == "__main__":
    run_command(predict)
