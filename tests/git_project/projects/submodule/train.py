"""Takes its numbers from a module of another repository, beside this one."""

import os
import sys

import mlflow

sys.path.insert(0, "lib")
from numbers_of_others import NUMBER

with mlflow.start_run():
    mlflow.log_metric("number", NUMBER + int(os.environ.get("SEED", "0")))
