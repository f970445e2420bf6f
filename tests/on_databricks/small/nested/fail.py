"""Fails, and leaves a run below its own RUNNING."""

import mlflow

run = mlflow.start_run()
client = mlflow.MlflowClient()
client.create_run(run.info.experiment_id, tags={"mlflow.parentRunId": run.info.run_id})
raise ValueError("this is how it failed")
