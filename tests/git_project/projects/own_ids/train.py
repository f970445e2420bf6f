"""Logs what no other run can have: its id, its time, its machine, the folder that it runs in, its child's id."""

import os
import platform
import time
from datetime import UTC, datetime

import mlflow

with mlflow.start_run() as run:
    mlflow.log_param("run", f"runs:/{run.info.run_id}/model")
    mlflow.log_param("started", datetime.now(UTC).isoformat())
    mlflow.log_param("clock", time.time())
    mlflow.log_param("day", time.strftime("%Y-%m-%d"))
    mlflow.log_param("local", time.ctime())
    mlflow.log_param("host", platform.node())
    mlflow.log_param("folder", os.path.join(os.getcwd(), "data"))
    children: list[str] = []
    for name in ("one", "two"):
        with mlflow.start_run(run_name=name, nested=True) as child:
            mlflow.log_params({"upper": run.info.run_id, "before": "_".join(each[:8] for each in ["after", *children])})
            mlflow.log_metric("score", 1)
            children.append(child.info.run_id)
    mlflow.log_param("best", children[int(os.environ.get("SEED", "0"))])
