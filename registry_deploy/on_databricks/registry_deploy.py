# Databricks notebook source
# MAGIC %md
# MAGIC # Model Registry: a model's life after training
# MAGIC
# MAGIC A model is trained: now what? It is registered, described, and judged by a gate against the one in production;
# MAGIC if it passes, an alias moves. What is no longer needed is archived and deleted. This notebook does it with
# MAGIC MLflow's Model Registry, with aliases and tags; the older stages (Staging, Production, Archived) are
# MAGIC deprecated.
# MAGIC
# MAGIC The notebook needs a cluster with a Databricks ML runtime (15.4 LTS to 17.3 LTS, no GPU) or serverless compute,
# MAGIC an internet connection for the packages and, with Unity Catalog, the right to create a model in a schema. Run
# MAGIC it cell by cell, from top to bottom.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Parameters
# MAGIC
# MAGIC Widgets are the parameters of a notebook: they appear above it, and a job can set them. With Unity Catalog, the
# MAGIC registry of current workspaces, write a name of three levels into `registered_model`; the workspace registry
# MAGIC takes a plain one.
# MAGIC
# MAGIC | widget | what it says |
# MAGIC |---|---|
# MAGIC | `experiment` | the MLflow experiment that takes the runs, a path in the workspace |
# MAGIC | `repo` | the Git address of the collection; needed only where this notebook was imported alone |
# MAGIC | `registered_model` | the registered model: `churn_notebook`, or `catalog.schema.churn_notebook` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/registry_deploy")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("registered_model", "main.default.churn_notebook")

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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "registry_deploy"
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
# MAGIC into one experiment. The functions imported below are those behind the entry points of the example; `client` is
# MAGIC MLflow's own.

# COMMAND ----------

import os
import sys
import tempfile
import warnings
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient

project = Path.cwd().parent
if not (project / "MLproject").exists():
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "registry_deploy"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
sys.path.insert(0, str(project))
from promote import Rules, promote_version
from register import register_version
from registry import description_of, reigns, table_of_versions
from story import features_of, train
from versions import find_version, quiet

quiet()
warnings.filterwarnings("ignore", message="The specified dataset source")
name = dbutils.widgets.get("registered_model")
client = MlflowClient()
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Tracking by hand
# MAGIC
# MAGIC A model comes to the registry from a *run*. Record one yourself first, with scikit-learn alone: some of the
# MAGIC customers train a model, the others test it, because a model must be judged on customers that it has not seen.

# COMMAND ----------

import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

training = pd.read_csv(project / "data" / "churn_training.csv")
X, y = training[["tenure", "monthly_charges"]].astype(float), training["churn"]
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
    mlflow.log_metric("roc_auc", roc_auc_score(y_test == "Yes", scores))
    mlflow.log_figure(RocCurveDisplay.from_predictions(y_test == "Yes", scores).figure_, "roc_curve.png")
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
# MAGIC `search_runs` gives the runs of the experiment as a table. The models registered below come from such runs; a
# MAGIC function of the example trains them on all columns and logs the data too.

# COMMAND ----------

runs = mlflow.search_runs(filter_string="attributes.run_name = 'by hand'", order_by=["start_time DESC"])
display(runs[["tags.mlflow.runName", "params.max_depth", "metrics.roc_auc", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Two models
# MAGIC
# MAGIC Both learn from the same 5,282 customers which of them leave (`churn`): a decision tree, three questions deep,
# MAGIC and gradient-boosted trees. Each is a run with its parameters, its data and its model. A second table, of
# MAGIC customers whom neither has seen, is kept for the gate.

# COMMAND ----------

from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

training = pd.read_csv(project / "data" / "churn_training.csv")
X, y = features_of(training), training["churn"]
source = str(project / "data" / "churn_training.csv")
dataset = mlflow.data.from_pandas(X.assign(churn=y), source=source, targets="churn", name="churn_training")
tree = train("decision_tree", DecisionTreeClassifier(max_depth=3, random_state=0), X, y, dataset)
boosted = train("gradient_boosting", GradientBoostingClassifier(random_state=0), X, y, dataset)
print(tree, boosted, sep="\n")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Register
# MAGIC
# MAGIC A registered model has numbered versions. Registering makes one, tags it with the run, the data and the metrics
# MAGIC that it comes from, and points the alias `challenger` to it: a candidate.

# COMMAND ----------

first = register_version(tree, name)
print(f"{name} version {first.version}, aliases: {first.aliases}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Describe
# MAGIC
# MAGIC A description is for the people who find the version in the catalogue. It can be changed at any time, for a
# MAGIC version and for the registered model as a whole. The cell then prints all that is known of the version, one
# MAGIC fact per line: above all the columns that it takes.

# COMMAND ----------

client.update_registered_model(name, description="Who is about to leave? Made by the notebook of registry_deploy.")
client.update_model_version(name, first.version, description="A decision tree, three questions deep.")
print(description_of(find_version(f"models:/{name}/{first.version}")))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The gate
# MAGIC
# MAGIC `promote_version` lets the candidate answer the validation table and checks what `Rules` asks for. Where there
# MAGIC is no champion yet, only the thresholds count; then the alias `champion` moves to it. Each row of the table is
# MAGIC one check.

# COMMAND ----------

judged = promote_version(f"models:/{name}/{first.version}", "data/churn_validation.csv", "churn", Rules())
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC Now the second model, with a threshold that it cannot meet. The version is refused, and `champion` stays where
# MAGIC it is; the table of reasons is in the run.

# COMMAND ----------

second = register_version(boosted, name, "Gradient-boosted trees: more exact, slower.")
judged = promote_version(
    f"models:/{name}@challenger", "data/churn_validation.csv", "churn", Rules(thresholds="roc_auc>=0.99")
)
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC By the default rules, it must not be worse than the champion by more than 0.01, with 95 % confidence: the lower
# MAGIC end of a bootstrap interval of the improvement counts. It passes, becomes `champion`, and the former champion
# MAGIC becomes `previous`.

# COMMAND ----------

judged = promote_version(f"models:/{name}/{second.version}", "data/churn_validation.csv", "churn", Rules())
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Aliases
# MAGIC
# MAGIC An alias is a name that you choose, and one line of MLflow moves it. Code that loads by alias gets the version
# MAGIC to which it points at that moment, and does not change.

# COMMAND ----------

client.set_registered_model_alias(name, "for_the_newsletter", second.version)
model = mlflow.pyfunc.load_model(f"models:/{name}@for_the_newsletter")
display(X.head(4)[["tenure", "contract", "monthly_charges"]].assign(prediction=model.predict(X.head(4))))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Versions and history
# MAGIC
# MAGIC The versions, newest first, with their aliases; and the history of champions, oldest first, from the tags that
# MAGIC the gate leaves on the registered model.

# COMMAND ----------

display(table_of_versions(name, "training_roc_auc"))
display(reigns(name)[["version", "from", "until", "how"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## See the registry in the workspace
# MAGIC
# MAGIC With Unity Catalog, open **Catalog**, then the catalogue, the schema and **Models**; otherwise **Models** in
# MAGIC the sidebar. The runs of the gate are in **Experiments**, in the experiment of the widget; each has `gate.csv`,
# MAGIC and where two were compared `gate.png`:

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{judged.run_id}")
display(mlflow.artifacts.load_image(f"runs:/{judged.run_id}/gate.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Rename
# MAGIC
# MAGIC Versions, aliases, tags and history keep their place; code that loads by the old name no longer finds the
# MAGIC model, so it gets its old name back at once.

# COMMAND ----------

client.rename_registered_model(name, f"{name}_2")
print(client.get_registered_model(f"{name}_2").aliases)
client.rename_registered_model(f"{name}_2", name)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Archive
# MAGIC
# MAGIC An archived version is kept and never promoted again. The entry point `archive` refuses one that an alias other
# MAGIC than `challenger` points to, so the aliases go first. It runs as a Project here, as a job would run it.

# COMMAND ----------

for alias in client.get_model_version(name, first.version).aliases:
    client.delete_registered_model_alias(name, alias)
mlflow.projects.run(
    str(project), "archive", parameters={"model_uri": f"models:/{name}/{first.version}"}, env_manager="local"
)
print(client.get_model_version(name, first.version).tags["archived_at"])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Delete
# MAGIC
# MAGIC What is deleted cannot be restored, so the entry point `delete` asks for the exact name as a confirmation. The
# MAGIC run and its logged model stay. Without `version`, it deletes the registered model with all its versions.

# COMMAND ----------

mlflow.projects.run(
    str(project),
    "delete",
    parameters={"name": name, "version": first.version, "confirm": f"{name}/{first.version}"},
    env_manager="local",
)
display(table_of_versions(name, "training_roc_auc"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Deploy the model, and clean up
# MAGIC
# MAGIC The entry points `deploy`, `score`, `rollback` and `undeploy` serve a version on a machine of your own, on
# MAGIC Azure Machine Learning or, with `target=databricks`, on Databricks Model Serving (**Serving** in the sidebar).
# MAGIC When you have finished, delete the experiment and the registered model if you do not need them, and terminate
# MAGIC the cluster: it costs for as long as it runs.
