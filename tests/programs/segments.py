"""Load models of segments with MLflow alone, and print the sizes of the segments of a table by each, one a line.

Arguments: a CSV file, the columns to take, comma-separated, and a folder for each model.
"""

import json
import sys

import mlflow
import numpy as np
import pandas as pd

data, columns, *models = sys.argv[1:]
table = pd.read_csv(data)[columns.split(",")]
rows = table.astype({name: float for name in table.select_dtypes("number")})
for model in models:
    print(json.dumps(np.bincount(mlflow.pyfunc.load_model(model).predict(rows)).tolist()))
