"""Assign customers, written as people write them, to the segments of any logged K-Means of this example."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import click
import mlflow
import pandas as pd
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput

from segment_model import ADDED, SegmentModel
from support.entry_point import log_working_tree, name_run, run_command, say_where_to_look
from support.inputs import kinds_of, model_inputs, unseen
from support.names import free_names
from support.on_spark import Scored, first_rows, read_on_spark, refuse_output, score_on_spark, spark_session
from support.table import bad, dataset_source, open_table, short_name
from support.table_writer import TableWriter


@click.command()
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON, Excel.")
@click.option("--output", default="", help="Where to write the segments besides the run: a .csv or .parquet file.")
@click.option("--segment_column", default="segment", help="What to call the column with the segment.")
@click.option("--batch_size", type=click.IntRange(min=1), default=50_000, help="Rows in memory at a time.")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="What does the work.")
def predict(model_uri: str, data: str, output: str, segment_column: str, batch_size: int, engine: str) -> None:
    """Write the segment of each customer and its distance to the centre."""
    if engine == "local" and output and not Path(output).expanduser().parent.is_dir():
        raise bad("output", output, "lies in a folder that does not exist.")
    model = SegmentModel(model_uri)

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        name_run("predict")
        if not run.data.params:  # `mlflow run` has logged them
            mlflow.log_params(click.get_current_context().params)
        log_working_tree()
        mlflow.set_tag("model_uri", model_uri)
        if engine == "spark":
            found = assign_on_spark(model, model_uri, data, output, segment_column)
        else:
            file = Path(output).expanduser() if output else Path(folder) / "segments.csv"
            found = assign_locally(model, data, file, segment_column, batch_size)
            mlflow.log_artifact(str(file))
        log_assigned(found, data, model)
        for warning in warnings_on(found):
            click.echo(warning, err=True)
        shares = [f"segment {segment}: {size:,} ({size / found.rows:.1%})" for segment, size in sizes(found).items()]
        click.echo(f"{found.rows:,} instances; {', '.join(shares)}")
        click.echo(f"Segments: {output or f'runs:/{run.info.run_id}/segments.csv'}")
        say_where_to_look()


def assign_locally(model: SegmentModel, data: str, file: Path, segment_column: str, batch_size: int) -> Scored:
    """Assign a table a batch at a time in this process, and write it to a file."""
    table = open_table(data)
    kinds = kinds_of(model.metadata, model.schema, table)
    names = added_names(segment_column, table.names)
    for note in table.notes:
        click.echo(note, err=True)
    counts: Counter[str] = Counter()
    strange: dict[str, Counter[str]] = {}
    digest = hashlib.sha256()
    done = far = 0
    with TableWriter(file) as writer:
        for rows in table.batches(batch_size):
            X = model_inputs(rows, model.schema, kinds, first_row=done + 1)
            added = model.assign(X, first_row=done + 1).rename(columns=names)
            far += int(added.pop(names["far"]).sum())
            for name, values in unseen(X, model.metadata.get("categories", {})).items():
                strange.setdefault(name, Counter()).update(values)
            writer.write(rows, added)
            if not done:
                show(rows.slice(0, 5).to_pandas(), added)
            counts.update(added[names["segment"]].astype(str))
            digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
            done += len(rows)
    return Scored(done, counts, strange, {names["far"]: far}, digest.hexdigest()[:8])


def assign_on_spark(model: SegmentModel, model_uri: str, data: str, output: str, segment_column: str) -> Scored:
    """Assign a table in the workers of Spark, which write it to a folder of files or a table of the catalog.

    Raises click.BadParameter as `assign_locally` does, where there is no Spark, and where the output exists.
    """
    spark = spark_session()
    refuse_output(spark, output)
    frame = read_on_spark(spark, data)
    names = added_names(segment_column, frame.columns)
    head = first_rows(frame, data, rows=5)
    kinds = kinds_of(model.metadata, model.schema)
    example = model.assign(model_inputs(head, model.schema, kinds)).rename(columns=names)
    show(head, example.drop(columns=names["far"]))
    inputs, known = list(map(str, model.schema.input_names())), model.metadata.get("categories", {})
    return score_on_spark(frame, model_uri, example, inputs, known, output, kinds=kinds, sums=(names["far"],))


def added_names(segment_column: str, taken: list[str]) -> dict[str, str]:
    """What to call each of the columns that we add, where the table has columns of these names already."""
    wanted = {name: name.replace("segment", segment_column, 1) for name in ADDED}
    free = free_names(wanted.values(), taken)
    for name, new in free.items():
        if new != name and name != "far":  # which is not written
            click.echo(f"The table has a column {name!r}, which stays as it is: ours is called {new!r}.", err=True)
    return {name: free[chosen] for name, chosen in wanted.items()}


def show(rows: pd.DataFrame, added: pd.DataFrame) -> None:
    """Print the last columns of the first rows, and what was added to them."""
    shown = pd.concat([rows, added.head(len(rows))], axis=1)
    click.echo(shown.iloc[:, -min(shown.shape[1], 5) :].to_string())


def sizes(found: Scored) -> dict[int, int]:
    """How many instances there are of each segment that has any."""
    return dict(sorted((int(segment), size) for segment, size in found.counts.items()))


def warnings_on(found: Scored) -> list[str]:
    """What to look at before the segments are used: categories that are new to the model, and rows far from all."""
    lines = []
    for name, values in found.unseen.items():
        shown = ", ".join(f"{value!r} ({times})" for value, times in values.most_common(5))
        lines.append(f"Warning: column {name!r} holds categories that the model has not seen: {shown}.")
    if far := sum(found.sums.values()):
        lines.append(
            f"Warning: {far:,} of {found.rows:,} instances lie farther from their centre than any that the model was "
            "fitted on: perhaps they belong to no segment."
        )
    return lines


def log_assigned(found: Scored, data: str, model: SegmentModel) -> None:
    """Log to the active run the table, the model, and how many instances each segment has."""
    run = mlflow.active_run()
    dataset = MetaDataset(dataset_source(data), name=short_name(data), digest=found.digest)  # type: ignore[abstract]
    mlflow.log_input(dataset, context="inference")
    if run and model.description.model_id:  # shows the run on the page of the model
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(model.description.model_id)])
    counts = {f"segment_{segment}": found.counts[str(segment)] for segment in range(model.pipeline[-1].n_clusters)}
    mlflow.log_metrics({"instances": found.rows, "far_from_centre": sum(found.sums.values()), **counts})


if __name__ == "__main__":
    run_command(predict)
