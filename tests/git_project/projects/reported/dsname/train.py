import random

import mlflow
import numpy as np

with mlflow.start_run():
    mlflow.log_input(mlflow.data.from_numpy(np.array([random.random()])))  # the training data: another each time
    mlflow.log_input(mlflow.data.from_numpy(np.array([1.0, 2.0])))  # the test data
    mlflow.log_metric("rows", 1)
