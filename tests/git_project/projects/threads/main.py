"""Runs steps from threads, in which no run is active: MLflow puts them below none. Writes down their ids."""

from concurrent.futures import ThreadPoolExecutor

import mlflow


def step(depth: int) -> str:
    return mlflow.run(".", "step", parameters={"depth": depth}, env_manager="local").run_id


with mlflow.start_run():
    with ThreadPoolExecutor(1) as pool:
        steps = list(pool.map(step, (1, 2)))
    mlflow.log_text("\n".join(steps), "steps.txt")
    mlflow.log_metric("steps", len(steps))
