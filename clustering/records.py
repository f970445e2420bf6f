"""What a run records: the model of a clustering with its metrics, and who is in the segments."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo

from describe import profile, profile_table, summary
from features import Table
from kmeans import Clustering
from pictures import profile_figure, scatter_figure, silhouette_figure
from support.kinds import to_metadata
from support.language import tr
from support.requirements import OF_A_PIPELINE, pinned
from support.texts import in_markdown, on_picture


def log_clustering(table: Table, clustering: Clustering) -> ModelInfo:
    """Log a clustering to the active run: its table, its model, its metrics and the sizes of its segments."""
    mlflow.log_input(table.dataset, context="training")
    info = mlflow.sklearn.log_model(
        clustering.pipeline,
        name="model",
        input_example=table.frame[table.columns.fitted].head(5),
        signature=ModelSignature(table.columns.schema, infer_signature(clustering.labels[:5]).inputs),
        serialization_format="skops",  # on Databricks the default is a pickle
        skops_trusted_types=["numpy.dtype"],  # all that a ColumnTransformer asks for
        pip_requirements=pinned(*OF_A_PIPELINE),
        metadata={
            "segments": profile(table, clustering, table.columns.fitted).names,
            "farthest": clustering.farthest,
            "kinds": to_metadata({name: table.columns.kinds[name] for name in table.columns.fitted}),
            "categories": {
                name: sorted(table.frame[name].dropna().unique().tolist()) for name in table.columns.categorical
            },
        },
    )
    mlflow.log_metrics(clustering.metrics, dataset=table.dataset, model_id=info.model_id)
    mlflow.set_tag("sizes", json.dumps(clustering.sizes))
    return info


def log_segments(table: Table, clustering: Clustering, drawn: pd.DataFrame, remark: str = "") -> str:
    """Log who is in the segments to the active run: profile (CSV, picture, Markdown), scatter, silhouettes.

    drawn: the axes of the scatter. remark: what else there is to say on the number of segments, in sentences.

    Returns the Markdown, which also becomes the description of the run in the Tracking UI.
    """
    described = profile(table, clustering, [*table.columns.fitted, *table.columns.described])
    name = on_picture(Path(table.source).name)
    title = tr("{k} segments of {rows:,} rows of {table}", k=clustering.n_clusters, rows=table.rows, table=name)
    said = [tr("K-Means on {columns}.", columns=in_markdown(", ".join(table.columns.fitted)))]
    if len(table.frame) < table.rows:
        said.append(tr("Means and shares are those of a sample of {rows:,} rows.", rows=len(table.frame)))
    text = summary(described, f"## {title}\n\n{' '.join([*said, remark]).rstrip()}")
    mlflow.log_text(text, "segments.md")
    mlflow.set_tag("mlflow.note.content", text)
    mlflow.log_text(profile_table(described).to_csv(index=False), "profile.csv")
    mlflow.log_figure(profile_figure(described, title), "profile.png")
    mlflow.log_figure(scatter_figure(drawn, clustering.labels, described.names, title), "scatter.png")
    mlflow.log_figure(silhouette_figure(clustering, title), "silhouette.png")
    return text
