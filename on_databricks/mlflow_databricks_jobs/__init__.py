"""A project backend of MLflow: `mlflow run PROJECT -b databricks-jobs` runs a project on Databricks by its Jobs API."""
