"""An option that MLproject does not declare, logged under its name."""

import argparse
import os

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=0.5)
parser.add_argument("--verbose", action="store_true")
options = parser.parse_args()
with mlflow.start_run():
    mlflow.log_params(vars(options))
    mlflow.log_metric("rmse", options.alpha * 2 + int(os.environ.get("SEED", "0")))
