"""Assign customers, written as people write them, to the segments of any logged K-Means of this example."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import mlflow

from segment_model import ADDED, SegmentModel
from support.entry_point import describe_run, run_command, say_where_to_look
from support.language import LANGUAGE, tr
from support.scoring import Scored, check_output, log_scored, say_unseen, score_here, score_on_spark


@click.command(params=[LANGUAGE])
@click.option("--model_uri", required=True, help="runs:/<run id>/model, models:/<name>@<alias>, or a folder.")
@click.option("--data", default="data/new_customers.jsonl", help="Path or URL: CSV, Parquet, JSON, Excel.")
@click.option("--output", default="", help="Where to write the segments besides the run: a .csv or .parquet file.")
@click.option("--segment_column", default="segment", help="What to call the column with the segment.")
@click.option("--batch_size", type=click.IntRange(min=1), default=100_000, help="Rows in memory at a time.")
@click.option("--engine", type=click.Choice(["local", "spark"]), default="local", help="What does the work.")
def predict(model_uri: str, data: str, output: str, segment_column: str, batch_size: int, engine: str) -> None:
    """Write the segment of each customer and its distance to the centre."""
    check_output(output, engine)
    model = SegmentModel(model_uri)
    called = {name: name.replace("segment", segment_column, 1) for name in ADDED}

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        describe_run(run, "predict")
        if engine == "spark":
            found = score_on_spark(model, model_uri, data, output, called=called, sums=("far",))
        else:
            file = Path(output).expanduser() if output else Path(folder) / "segments.csv"
            found = score_here(model, data, file, called=called, batch_size=batch_size, sums=("far",))
            mlflow.log_artifact(str(file))
        log_scored(found, data, model_uri, model)
        log_sizes(found, model.pipeline[-1].n_clusters)
        say_assigned(found)
        click.echo(tr("Segments: {where}", where=output or f"runs:/{run.info.run_id}/segments.csv"))
        say_where_to_look()


def say_assigned(found: Scored) -> None:
    """Print the first segments, their sizes, and what to look at first: new categories, and rows far from all."""
    click.echo(found.first.to_string())
    say_unseen(found)
    if far := found.sums["far"]:
        text = (
            "{far:,} of {rows:,} instances lie farther from their centre than any that the model was fitted on: "
            "perhaps they belong to no segment."
        )
        click.echo(tr("Warning: {text}", text=tr(text, far=far, rows=found.rows)), err=True)
    sizes = sorted((int(segment), size) for segment, size in found.counts.items())
    one = "segment {segment}: {size:,} ({share:.1%})"
    shares = [tr(one, segment=segment, size=size, share=size / found.rows) for segment, size in sizes]
    click.echo(tr("{rows:,} instances; {shares}", rows=found.rows, shares=", ".join(shares)))


def log_sizes(found: Scored, n_clusters: int) -> None:
    """Log to the active run how many instances there are, of each segment, and far from all."""
    counts = {f"segment_{segment}": found.counts[str(segment)] for segment in range(n_clusters)}
    mlflow.log_metrics({"instances": found.rows, "far_from_centre": found.sums["far"], **counts})


if __name__ == "__main__":
    run_command(predict)
