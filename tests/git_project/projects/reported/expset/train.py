import mlflow

mlflow.set_experiment("wine")
with mlflow.start_run():
    mlflow.log_metric("rmse", 0.7)
