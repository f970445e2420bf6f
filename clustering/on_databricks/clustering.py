# Databricks notebook source
# MAGIC %md
# MAGIC # Clustering: how many segments, and who is in them?
# MAGIC
# MAGIC K-Means divides a table of customers into segments, for every number of segments in a range. Nobody has said
# MAGIC beforehand which customer belongs where, so there is no right answer to compare with: four criteria say which
# MAGIC number of segments fits, and they do not always agree. MLflow records each number as a run, so that you can
# MAGIC weigh them against each other, name the segments, and put new customers into them.
# MAGIC
# MAGIC The notebook needs a cluster with a Databricks ML runtime (15.4 LTS to 17.3 LTS, no GPU) or serverless compute,
# MAGIC and an internet connection for the packages. Run it cell by cell, from top to bottom.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Parameters
# MAGIC
# MAGIC Widgets are the parameters of a notebook: they appear above it, and a job can set them.
# MAGIC
# MAGIC | widget | what it says |
# MAGIC |---|---|
# MAGIC | `experiment` | the MLflow experiment that takes the runs, a path in the workspace |
# MAGIC | `repo` | the Git address of the collection; needed only where this notebook was imported alone |
# MAGIC | `k_min`, `k_max` | the fewest and the most segments to try |
# MAGIC | `choose` | what decides: silhouette, davies_bouldin, calinski_harabasz, elbow or vote |
# MAGIC | `registered_model` | the name to register the model under; with Unity Catalog `catalog.schema.name` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/clustering")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("k_min", "2")
dbutils.widgets.text("k_max", "20")
dbutils.widgets.text("choose", "silhouette")
dbutils.widgets.text("registered_model", "main.default.segments")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Packages
# MAGIC
# MAGIC The next three cells find the example, install the packages that it pins in `requirements.txt` for this
# MAGIC notebook alone, and restart Python, because it has loaded other versions already. In a Git folder, the example
# MAGIC is beside this notebook. A notebook that was imported from a `.dbc` is alone, so the collection is fetched from
# MAGIC the address in the widget `repo`.

# COMMAND ----------

import shutil
import tempfile
from pathlib import Path

from git import Repo

project = Path.cwd().parent
if not (project / "MLproject").exists():
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "clustering"
    shutil.rmtree(project.parent, ignore_errors=True)
    if not dbutils.widgets.get("repo"):
        raise ValueError("Imported alone, this notebook needs the Git address of the collection in the widget repo.")
    Repo.clone_from(dbutils.widgets.get("repo"), project.parent, depth=1)
requirements = project / "requirements.txt"

# COMMAND ----------

# MAGIC %pip install --quiet -r "$requirements"

# COMMAND ----------

dbutils.library.restartPython()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Where the runs go
# MAGIC
# MAGIC The restart has forgotten all variables; the widgets have kept their values. Every run of this notebook goes
# MAGIC into one experiment. The line with `PATH` makes the entry points run with the Python, and so with the packages,
# MAGIC of this notebook; the next one keeps progress bars out of the output.

# COMMAND ----------

import os
import sys
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient

project = Path.cwd().parent
if not (project / "MLproject").exists():
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "clustering"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Tracking by hand
# MAGIC
# MAGIC Before the example does all of it for you, do it yourself once, with scikit-learn alone. Two columns are
# MAGIC enough, scaled so that months and dollars count alike.

# COMMAND ----------

import sklearn
import skops
from matplotlib.figure import Figure
from mlflow.models import infer_signature
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X = pd.read_csv(project / "data" / "customers.csv")[["tenure", "monthly_charges"]].astype(float).dropna()
scaled = StandardScaler().fit_transform(X)

# COMMAND ----------

# MAGIC %md
# MAGIC A *run* begins with `start_run` and ends with the block. What you log in it stays together: a **parameter** is
# MAGIC what you chose, a **metric** is what came out, a figure is an **artifact**. The model is logged with its
# MAGIC *signature* (which columns it takes, what it answers), an *input example*, and the packages that it needs.

# COMMAND ----------

with mlflow.start_run(run_name="by hand") as by_hand:
    model = make_pipeline(StandardScaler(), KMeans(n_clusters=3, n_init=1, random_state=0)).fit(X)
    segments = model.predict(X)
    mlflow.log_param("n_clusters", 3)
    mlflow.log_metric("silhouette", silhouette_score(scaled, segments, sample_size=2000, random_state=0))
    figure = Figure()
    figure.subplots().scatter(X["tenure"], X["monthly_charges"], c=segments, s=4)
    mlflow.log_figure(figure, "segments.png")
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(X, segments),
        input_example=X.head(2),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
    )

# COMMAND ----------

# MAGIC %md
# MAGIC The artifact is read back from the run, and so is the model: by the address `runs:/<run id>/model` it predicts
# MAGIC anywhere, without the code above.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{by_hand.info.run_id}/segments.png"))
loaded = mlflow.pyfunc.load_model(f"runs:/{by_hand.info.run_id}/model")
display(X.head(3).assign(segment=loaded.predict(X.head(3))))

# COMMAND ----------

# MAGIC %md
# MAGIC **Autologging** does the same without a call: each `fit` within a run logs all parameters of the estimator and
# MAGIC its metrics.

# COMMAND ----------

mlflow.sklearn.autolog(log_models=False, silent=True)
for count in (2, 4):
    with mlflow.start_run(run_name=f"autolog {count} segments"):
        KMeans(n_clusters=count, n_init=1, random_state=0).fit(scaled)
mlflow.sklearn.autolog(disable=True)

# COMMAND ----------

# MAGIC %md
# MAGIC You can search what you have logged, here the runs with a parameter `n_clusters`.

# COMMAND ----------

found = mlflow.search_runs([experiment.experiment_id], filter_string="params.n_clusters != ''")
display(found[["tags.mlflow.runName", "params.n_clusters", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Try every number of segments
# MAGIC
# MAGIC The example is an MLflow Project: its file `MLproject` names entry points with their parameters. The entry
# MAGIC point `main` fits K-Means once for each number of segments, on `tenure` (months as a customer) and
# MAGIC `monthly_charges` (dollars a month), each in a child run of one parent run. Both columns are scaled first,
# MAGIC because K-Means measures distances.

# COMMAND ----------

submitted = mlflow.projects.run(
    str(project),
    parameters={key: dbutils.widgets.get(key) for key in ("k_min", "k_max", "choose")},
    env_manager="local",
    run_name="segments",
)
run = mlflow.get_run(submitted.run_id)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the criteria say
# MAGIC
# MAGIC - `inertia`, the sum of squared distances to the centres, always falls; its *elbow* is where one more
# MAGIC   segment stops paying off;
# MAGIC - `silhouette`, from -1 to 1, is high where customers are closer to their own segment than to the next one;
# MAGIC - `davies_bouldin` is low where segments are narrow, compared with how far apart they are;
# MAGIC - `calinski_harabasz` is high where most of the variance lies between the segments.
# MAGIC
# MAGIC One row below is one child run.

# COMMAND ----------

criteria = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/criteria.csv"))
display(criteria[["n_clusters", "inertia", "silhouette", "davies_bouldin", "calinski_harabasz"]])

# COMMAND ----------

# MAGIC %md
# MAGIC The picture marks what each criterion chooses and what was chosen. Where they disagree, they ask different
# MAGIC questions; the number then depends on what you do with the segments, and the criteria tell you what it costs.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/criteria.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Who is in the segments
# MAGIC
# MAGIC The profile has a row for each segment of the chosen number: its size, and the mean or share of every column.
# MAGIC The columns that K-Means did not see describe the segments without having formed them.

# COMMAND ----------

display(pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/profile.csv")))

# COMMAND ----------

# MAGIC %md
# MAGIC Each dot is a customer. These customers have no gaps between them: the segments are corners of one cloud, not
# MAGIC islands.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/scatter.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The Tracking UI
# MAGIC
# MAGIC Open **Experiments** in the sidebar and choose the experiment of the widget (or the flask at the right of this
# MAGIC notebook). Select the child runs, press **Compare**, and put `n_clusters` on the x axis of the scatter plot and
# MAGIC a criterion on the y axis. The description of the parent run describes the segments in words. Its path within
# MAGIC the workspace is:

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Put new customers into the segments
# MAGIC
# MAGIC The entry point `predict` gives each new customer a segment and the distance to its centre. The model scales
# MAGIC the columns as it did when it was fitted. A customer who lies farther from the centre than any known one
# MAGIC perhaps belongs to no segment.

# COMMAND ----------

chosen = run.data.tags["chosen_model_uri"]
predicted = mlflow.projects.run(
    str(project), "predict", parameters={"model_uri": chosen}, env_manager="local", run_name="predict"
)
segments = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{predicted.run_id}/segments.csv"))
display(segments[["tenure", "monthly_charges", "segment", "segment_name", "segment_distance"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Register
# MAGIC
# MAGIC A registered model has numbered versions, each of which knows the run that it comes from. An *alias* is a name
# MAGIC that points to one version and can be moved. The number of a segment means nothing in another version: segment
# MAGIC 0 of the next version may be another one, so code that uses them should load one version, by a fixed alias.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(mlflow.models.get_model_info(chosen).model_uri, name)
MlflowClient().set_registered_model_alias(name, "in_use", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC The version is loaded by its alias and asked directly, without a Project. It gives the same segments as above.

# COMMAND ----------

model = mlflow.pyfunc.load_model(f"models:/{name}@in_use")
customers = segments[["tenure", "monthly_charges"]].astype(float)
display(customers.assign(segment=model.predict(customers)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Use your own table, and clean up
# MAGIC
# MAGIC `main` takes `data`, the path or URL of a CSV, Parquet or JSON file (in a volume too), and `columns`, those to
# MAGIC fit on: add both to `parameters` above. When you have finished, delete the experiment and the registered model
# MAGIC if you do not need them, and terminate the cluster: it costs for as long as it runs.
