"""Takes the newest version of a registered model."""

import mlflow

with mlflow.start_run():
    version = mlflow.MlflowClient().get_registered_model("Taken").latest_versions[0].version
    mlflow.log_metric("version", int(version))
