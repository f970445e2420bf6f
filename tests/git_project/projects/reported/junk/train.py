import argparse
import os

import mlflow

p = argparse.ArgumentParser()
p.add_argument("--data")
p.add_argument("--depth", type=float)
a = p.parse_args()
rows = open(a.data).read().splitlines()  # noqa: SIM115
with mlflow.start_run():
    mlflow.log_param("rows", len(rows))
    if os.environ.get("OLD_LIBRARY"):  # as autologging does: one version has a parameter, the next has not
        mlflow.log_param("multi_class", "auto")
    mlflow.log_metric("rmse", len(rows) / a.depth)
