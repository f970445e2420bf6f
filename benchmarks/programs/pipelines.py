"""Write the classifiers that the runs of a store logged, not fitted any more, by name: pipelines.py OUTPUT.

So what is measured without MLflow is what the example fits, whatever that is. The network, which is logged in a form
of its own, gets the preprocessing of the others.
"""

import pickle
import sys

import mlflow
from mlflow.models import get_model_info
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from ann import NeuralNetwork

found = {}
for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
    name = run.data.tags.get("classifier") or run.data.params.get("classifier")
    uri = f"models:/{run.outputs.model_outputs[0].model_id}" if name and run.outputs else ""
    if uri and "sklearn" in get_model_info(uri).flavors:
        found[name] = clone(mlflow.sklearn.load_model(uri))
preprocessing = next(iter(found.values()))[:-1]
found["ann"] = make_pipeline(*clone(preprocessing), NeuralNetwork(random_state=0))
with open(sys.argv[1], "wb") as file:
    pickle.dump(found, file)
