"""A project that knows nothing of the collection: the level of some measurements, from a random sample of them."""

import argparse
import os
import tempfile
import time
from pathlib import Path

import foreign_averages
import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="measurements.csv")
parser.add_argument("--seed", default="7")
parser.add_argument("--title", default="")
parser.add_argument("--scale", type=float, default=1.0)  # an option that MLproject does not mention
parser.add_argument("--number")
options = parser.parse_args()

table = pd.read_csv(options.data)
sample = table["y"].sample(20, random_state=None if options.seed == "none" else int(options.seed)).tolist()
level = options.scale * foreign_averages.average(sample)
with mlflow.start_run():
    mlflow.log_param("rows", len(table))
    mlflow.set_tag("title", options.title)
    mlflow.log_input(from_pandas(table, source=options.data, name="measurements"), context="training")
    mlflow.log_metric("level", level)
    for half in (sample[:10], sample[10:]):
        with mlflow.start_run(nested=True):  # the names of these runs are random
            mlflow.log_metric("level", foreign_averages.average(half))
            time.sleep(float(os.environ.get("FOREIGN_SECONDS", 0)) if options.number else 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "level.txt"
        path.write_text(str(level))
        mlflow.pyfunc.log_model(
            name="level",
            python_model="model.py",
            artifacts={"level": str(path)},
            input_example=table.head(3),
            pip_requirements=[f"mlflow=={mlflow.__version__}", f"foreign-averages=={foreign_averages.__version__}"],
        )
