import argparse

import mlflow

p = argparse.ArgumentParser()
p.add_argument("--alpha", type=float, default=0.5)
a = p.parse_args()
with mlflow.start_run():
    mlflow.log_param("alpha", a.alpha)
    mlflow.log_metric("rmse", a.alpha * 2)
# another commit
# yet another commit
