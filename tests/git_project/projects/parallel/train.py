"""A hyperparameter search in threads: child runs in any order, two of them with equal parameters."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow

changed = int(os.environ.get("SEED", "0"))


def trial(setting: tuple[int, int]) -> None:
    depth, fold = setting
    time.sleep(random.random() / 4)
    with mlflow.start_run(parent_run_id=parent.info.run_id, nested=True):
        mlflow.log_param("depth", depth)
        mlflow.log_metric("score", depth / 10 + fold + (changed if setting == (3, 1) else 0))


with mlflow.start_run() as parent, ThreadPoolExecutor(3) as pool:
    list(pool.map(trial, [(depth, fold) for depth in (1, 2, 3) for fold in (0, 1)]))
