"""Records nothing by which one could tell."""

import mlflow

with mlflow.start_run():
    mlflow.set_tag("done", "yes")
