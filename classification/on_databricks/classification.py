# Databricks notebook source
# MAGIC %md
# MAGIC # Classification: who is about to leave?
# MAGIC
# MAGIC Eight classifiers learn from a table of customers of a telephone company which of them leave (`churn`): a
# MAGIC neural network, a decision tree, naive Bayes, gradient boosting, nearest neighbours, a logistic regression, a
# MAGIC random forest and a support vector machine. MLflow records each training as a *run*: its parameters, its
# MAGIC metrics, its pictures and its model. You compare the runs, let the best model predict the class of new
# MAGIC customers, and register it.
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
# MAGIC | `models` | which classifiers to train, comma-separated |
# MAGIC | `max_depth` | how deep a tree may grow |
# MAGIC | `registered_model` | the name to register the best model under; with Unity Catalog `catalog.schema.name` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/classification")
dbutils.widgets.text("repo", "")
every = "ann,decision_tree,gaussian_nb,hist_gradient_boosting,knn,logistic_regression,random_forest,svm"
dbutils.widgets.text("models", every)
dbutils.widgets.text("max_depth", "5")
dbutils.widgets.text("registered_model", "main.default.churn")

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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "classification"
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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "classification"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Tracking by hand
# MAGIC
# MAGIC Before the example does all of it for you, do it yourself once, with scikit-learn alone. Some of the customers
# MAGIC train a model, the others test it: a model must be judged on customers that it has not seen.

# COMMAND ----------

import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split

table = pd.read_csv(project / "data" / "churn.csv")
X = table[["tenure", "monthly_charges"]].astype(float)
y = table["churn"]
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

# COMMAND ----------

# MAGIC %md
# MAGIC A *run* begins with `start_run` and ends with the block. What you log in it stays together: a **parameter** is
# MAGIC what you chose, a **metric** is what came out, a figure is an **artifact**. The model is logged with its
# MAGIC *signature* (which columns it takes, what it answers), an *input example*, and the packages that it needs.

# COMMAND ----------

with mlflow.start_run(run_name="by hand") as by_hand:
    classifier = LogisticRegression(C=0.5).fit(X_train, y_train)
    scores = classifier.predict_proba(X_test)[:, 1]
    mlflow.log_param("C", 0.5)
    mlflow.log_metric("roc_auc", roc_auc_score(y_test == "Yes", scores))
    curve = RocCurveDisplay.from_predictions(y_test, scores, pos_label="Yes", plot_chance_level=True)
    mlflow.log_figure(curve.figure_, "roc_curve.png")
    mlflow.sklearn.log_model(
        classifier,
        name="model",
        signature=infer_signature(X_train, classifier.predict(X_train)),
        input_example=X_train.head(2),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
    )

# COMMAND ----------

# MAGIC %md
# MAGIC The artifact is read back from the run, and so is the model: by the address `runs:/<run id>/model` it predicts
# MAGIC anywhere, without the code above.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{by_hand.info.run_id}/roc_curve.png"))
loaded = mlflow.pyfunc.load_model(f"runs:/{by_hand.info.run_id}/model")
display(X_test.head(3).assign(prediction=loaded.predict(X_test.head(3))))

# COMMAND ----------

# MAGIC %md
# MAGIC **Autologging** does the same without a call: each `fit` within a run logs all parameters of the estimator and
# MAGIC its metrics on the training rows, and `score` adds the accuracy on the others.

# COMMAND ----------

mlflow.sklearn.autolog(log_models=False, silent=True)
for strength in (0.001, 0.1, 10.0):
    with mlflow.start_run(run_name=f"autolog C={strength}"):
        LogisticRegression(C=strength).fit(X_train, y_train).score(X_test, y_test)
mlflow.sklearn.autolog(disable=True)

# COMMAND ----------

# MAGIC %md
# MAGIC You can search what you have logged, here the runs with a parameter `C`. The columns that one run lacks are
# MAGIC empty.

# COMMAND ----------

found = mlflow.search_runs([experiment.experiment_id], filter_string="params.C != ''", order_by=["start_time"])
display(found[["tags.mlflow.runName", "params.C", "metrics.roc_auc", "metrics.training_roc_auc"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Train
# MAGIC
# MAGIC The example is an MLflow Project: its file `MLproject` names entry points with their parameters. The entry
# MAGIC point `main` trains the classifiers on the same three quarters of the table, each in a child run of one parent
# MAGIC run, and ranks them on the last quarter, which none of them has seen.

# COMMAND ----------

submitted = mlflow.projects.run(
    str(project),
    parameters={"models": dbutils.widgets.get("models"), "max_depth": dbutils.widgets.get("max_depth")},
    env_manager="local",
    run_name="classifiers",
)
run = mlflow.get_run(submitted.run_id)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Compare
# MAGIC
# MAGIC The parent run holds the leaderboard as a table. `roc_auc`, by which it is sorted, is the probability that a
# MAGIC customer who leaves gets a higher score than one who stays. `recall` (sensitivity) says how many of those who
# MAGIC leave are found, `precision` how many of those who are named really leave.

# COMMAND ----------

display(pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/leaderboard.csv")))

# COMMAND ----------

# MAGIC %md
# MAGIC The pictures of a run are artifacts too. They show which models are nearly equal: a difference in the third
# MAGIC decimal is no reason to prefer a model that nobody can explain.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/leaderboard.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC The curves show what the numbers hide: how many customers are named by mistake (left), and how many of those
# MAGIC named really leave (right), for each share of the leavers that you want to find.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/curves.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC What the page of the experiment shows is a search, which you can also make in Python, to continue with pandas.
# MAGIC `specificity` says how many of those who stay are left in peace, `npv` how many of those not named really stay,
# MAGIC `fdr` how many of those named are named by mistake.

# COMMAND ----------

children = mlflow.search_runs(
    [experiment.experiment_id],
    filter_string=f"tags.`mlflow.parentRunId` = '{submitted.run_id}'",
    order_by=["metrics.roc_auc DESC"],
)
display(children[["tags.mlflow.runName", "metrics.roc_auc", "metrics.specificity", "metrics.npv", "metrics.fdr"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## The Tracking UI
# MAGIC
# MAGIC Open **Experiments** in the sidebar and choose the experiment of the widget (or the flask at the right of this
# MAGIC notebook). Expand the parent run, select its children and press **Compare**: a scatter plot puts a metric
# MAGIC against a parameter, parallel coordinates show all at once. The page of a run has its metrics (those of the
# MAGIC neural network as curves, one point per epoch), its artifacts with the confusion matrix in `evaluation.png`,
# MAGIC and its model. The path of the parent run within the workspace is:

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Predict
# MAGIC
# MAGIC The entry point `predict` takes the model of any run and new customers as people write them, here one JSON
# MAGIC object per line. The model is a Pipeline that knows how to prepare raw columns, so nothing is scaled by hand.

# COMMAND ----------

best = run.data.tags["best_model_uri"]
predicted = mlflow.projects.run(
    str(project), "predict", parameters={"model_uri": best}, env_manager="local", run_name="predict"
)
predictions = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{predicted.run_id}/predictions.csv"))
display(predictions[["tenure", "contract", "monthly_charges", "prediction", "probability_Yes"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Register
# MAGIC
# MAGIC A registered model has numbered versions, each of which knows the run that it comes from. An *alias* is a name
# MAGIC that points to one version and can be moved: code that loads `models:/<name>@challenger` does not change when a
# MAGIC better version comes. The example `registry_deploy` goes on from here: a gate decides which version becomes
# MAGIC `champion`.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(mlflow.models.get_model_info(best).model_uri, name)
MlflowClient().set_registered_model_alias(name, "challenger", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC The version is loaded by its alias and asked directly, without a Project. It gives the same classes as above.

# COMMAND ----------

model = mlflow.pyfunc.load_model(f"models:/{name}@challenger")
customers = pd.read_json(project / "data" / "new_customers.jsonl", lines=True)
customers = customers.astype(dict.fromkeys(customers.select_dtypes("number"), float))
display(customers[["tenure", "contract"]].assign(prediction=model.predict(customers)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Use your own table, and clean up
# MAGIC
# MAGIC `main` takes `data`, the path or URL of a CSV, Parquet or JSON file (in a volume too:
# MAGIC `/Volumes/<catalog>/<schema>/<volume>/table.csv`), and `target`, the column to predict: add both to
# MAGIC `parameters` above. When you have finished, delete the experiment and the registered model if you do not need
# MAGIC them, and terminate the cluster: it costs for as long as it runs.
