# Databricks notebook source
# MAGIC %md
# MAGIC # git_project: run a Project from Git, at one commit, and reproduce it
# MAGIC
# MAGIC A result that nobody can produce again is an anecdote. Here every run comes from a Git repository, at a commit
# MAGIC whose full hash it records. You run several entry points of one commit, let all the resulting models predict
# MAGIC side by side, and run a past run again, to see whether the result is the same.
# MAGIC
# MAGIC The notebook needs a cluster with a Databricks ML runtime (15.4 LTS to 17.3 LTS, no GPU) or serverless compute,
# MAGIC and an internet connection for the packages and the repository. Run it cell by cell, from top to bottom.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Parameters
# MAGIC
# MAGIC Widgets are the parameters of a notebook: they appear above it, and a job can set them. `repo` must be filled
# MAGIC in: a Git folder of Databricks does not tell its programs where it came from.
# MAGIC
# MAGIC | widget | what it says |
# MAGIC |---|---|
# MAGIC | `experiment` | the MLflow experiment that takes the runs, a path in the workspace |
# MAGIC | `repo` | the https address of the repository, as `git clone` takes it, without a password |
# MAGIC | `project` | the folder of the MLflow Project in the repository |
# MAGIC | `version` | a branch, a tag or a commit; empty for the default branch |
# MAGIC | `runs` | the entry points to run, comma-separated, or YAML with parameters |
# MAGIC | `registered_model` | the name to register the best model under; with Unity Catalog `catalog.schema.name` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/git_project")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("project", "classification")
dbutils.widgets.text("version", "")
dbutils.widgets.text("runs", "[decision_tree: {max_depth: 3}, gaussian_nb, knn, logistic_regression]")
dbutils.widgets.text("registered_model", "main.default.churn_from_git")

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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "git_project"
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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "git_project"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Tracking by hand
# MAGIC
# MAGIC Before the example runs whole projects for you, record one training yourself, with scikit-learn alone. The
# MAGIC table comes with scikit-learn: measurements of tumours. One part trains a model, the rest tests it.

# COMMAND ----------

import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

# COMMAND ----------

# MAGIC %md
# MAGIC A *run* begins with `start_run` and ends with the block. What you log in it stays together: a **parameter** is
# MAGIC what you chose, a **metric** is what came out, a figure is an **artifact**. The model is logged with its
# MAGIC *signature* (which columns it takes, what it answers), an *input example*, and the packages that it needs.

# COMMAND ----------

with mlflow.start_run(run_name="by hand") as by_hand:
    classifier = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X_train, y_train)
    scores = classifier.predict_proba(X_test)[:, 1]
    mlflow.log_param("max_depth", 3)
    mlflow.log_metric("roc_auc", roc_auc_score(y_test, scores))
    mlflow.log_figure(RocCurveDisplay.from_predictions(y_test, scores).figure_, "roc_curve.png")
    mlflow.sklearn.log_model(
        classifier,
        name="model",
        signature=infer_signature(X_train, classifier.predict(X_train)),
        input_example=X_train.head(2),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )

# COMMAND ----------

# MAGIC %md
# MAGIC `search_runs` gives the runs of the experiment as a table. It has what you logged, but not the commit of your
# MAGIC code: a project from Git adds that.

# COMMAND ----------

runs = mlflow.search_runs(filter_string="attributes.run_name = 'by hand'", order_by=["start_time DESC"])
display(runs[["tags.mlflow.runName", "params.max_depth", "metrics.roc_auc", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Run several entry points of one commit
# MAGIC
# MAGIC The example is an MLflow Project: its file `MLproject` names entry points with their parameters. The entry
# MAGIC point `main` finds out which commit `version` stands for, and runs each entry point of the other project from a
# MAGIC clone of its own at that commit, as a child run of one parent run.

# COMMAND ----------

given = {key: dbutils.widgets.get(key) for key in ("repo", "project", "version", "runs")}
submitted = mlflow.projects.run(
    str(project), parameters={**given, "env_manager": "local"}, env_manager="local", run_name="from Git"
)
run = mlflow.get_run(submitted.run_id)
print(f"{run.data.tags['repo']} at {run.data.tags['commit']}")

# COMMAND ----------

# MAGIC %md
# MAGIC One row is one child run, with its parameters, its metrics and the commit.

# COMMAND ----------

children = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/children.csv"))
display(children[["entry_point", "parameters", "status", "roc_auc", "accuracy", "log_loss", "commit", "run_id"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## The Tracking UI
# MAGIC
# MAGIC Open **Experiments** in the sidebar and choose the experiment of the widget (or the flask at the right of this
# MAGIC notebook). The column **Source** names the repository and the commit of each run; expand the parent run to see
# MAGIC its children. Its path within the workspace is:

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Predict with every model
# MAGIC
# MAGIC The entry point `predict` takes the parent run, finds the models below it, and lets each of them predict the
# MAGIC same new customers. Where they disagree, a person should look.

# COMMAND ----------

predicted = mlflow.projects.run(
    str(project), "predict", parameters={"run_id": submitted.run_id}, env_manager="local", run_name="predict"
)
prediction = mlflow.get_run(predicted.run_id)
side_by_side = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{predicted.run_id}/predictions.csv"))
models = [name for name in side_by_side if name.split()[0] in set(children["entry_point"])]
display(side_by_side[["tenure", "contract", *models]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Reproduce a run
# MAGIC
# MAGIC The entry point `reproduce` takes any run that came from Git: it fetches the recorded commit, runs the recorded
# MAGIC entry point with the recorded parameters, and compares what both recorded: parameters, data, metrics,
# MAGIC signatures and predictions. Here it is the first child run, in the environment of this notebook; without
# MAGIC `env_manager` it would build a fresh one. If anything differs, the cell fails, and the report in the run says
# MAGIC what.

# COMMAND ----------

reproduced = mlflow.projects.run(
    str(project),
    "reproduce",
    parameters={"run_id": children["run_id"][0], "env_manager": "local"},
    env_manager="local",
    run_name="reproduce",
)
print(mlflow.artifacts.load_dict(f"runs:/{reproduced.run_id}/report.json")["verdict"])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Register
# MAGIC
# MAGIC The run of `predict` has recorded which model is best. A registered model has numbered versions; its tag says
# MAGIC here which commit the version comes from, so that you can find the code a year later.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(
    prediction.data.tags["best_model_uri"], name, tags={"git_commit": run.data.tags["commit"]}
)
MlflowClient().set_registered_model_alias(name, "challenger", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Use your own repository, and clean up
# MAGIC
# MAGIC Any repository with an `MLproject` file will do, if this notebook is in a Git folder of the collection: write
# MAGIC its address into `repo`, its folder (`.` for the top) into `project` and its entry points into `runs`. For a
# MAGIC private one, a credential helper of Git must know the password on the cluster. When you have finished, delete
# MAGIC the experiment and the registered model if you do not need them, and terminate the cluster: it costs for as
# MAGIC long as it runs.
