"""Durations whose names the default pattern does not know."""

import time

import mlflow

with mlflow.start_run():
    mlflow.log_metric("rmse", 0.5)
    mlflow.log_metric("elapsed_ms", time.perf_counter())
    mlflow.log_metric("samples_per_second", time.perf_counter())
    mlflow.log_metric("fit_time", time.perf_counter())
    mlflow.log_dict({"rmse": 0.5, "train_secs": time.perf_counter()}, "report.json")
