"""Write the classifiers that the runs of a store logged, not fitted any more, by name: pipelines.py OUTPUT.

So what is measured without MLflow is what the example fits, whatever that is.
"""

import pickle
import sys

import mlflow
from sklearn.base import clone

found = {}
for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
    name = run.data.tags.get("classifier") or run.data.params.get("classifier")
    if name and run.outputs:
        found[name] = clone(mlflow.sklearn.load_model(f"models:/{run.outputs.model_outputs[0].model_id}"))
with open(sys.argv[1], "wb") as file:
    pickle.dump(found, file)
