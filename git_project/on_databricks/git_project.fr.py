# Databricks notebook source
# MAGIC %md
# MAGIC # git_project : exécuter un projet depuis Git, à un commit donné, et le reproduire
# MAGIC
# MAGIC Un résultat que personne ne peut produire à nouveau est une anecdote. Ici, chaque exécution vient d’un dépôt
# MAGIC Git, à un commit dont elle enregistre le hachage complet. Vous exécutez plusieurs points d’entrée d’un même
# MAGIC commit, vous laissez tous les modèles obtenus prédire côte à côte, puis vous refaites une exécution passée,
# MAGIC pour voir si le résultat est le même.
# MAGIC
# MAGIC Le notebook demande un cluster muni d’un runtime Databricks ML (de 15.4 LTS à 17.3 LTS, sans GPU) ou du calcul
# MAGIC serverless, et un accès à Internet pour les paquets et le dépôt. Exécutez-le cellule par cellule, de haut en
# MAGIC bas.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Paramètres
# MAGIC
# MAGIC Les widgets sont les paramètres d’un notebook : ils apparaissent au-dessus de lui, et un job peut leur donner
# MAGIC une valeur. `repo` doit être rempli : un dossier Git de Databricks ne dit pas à ses programmes d’où il vient.
# MAGIC
# MAGIC | widget | ce qu’il dit |
# MAGIC |---|---|
# MAGIC | `experiment` | l’expérience MLflow qui reçoit les exécutions, un chemin de l’espace de travail |
# MAGIC | `repo` | l’adresse https du dépôt, telle que `git clone` la prend, sans mot de passe |
# MAGIC | `project` | le dossier du projet MLflow dans le dépôt |
# MAGIC | `version` | une branche, une étiquette Git ou un commit ; vide pour la branche par défaut |
# MAGIC | `runs` | les points d’entrée à exécuter, séparés par des virgules, ou du YAML avec des paramètres |
# MAGIC | `registered_model` | le nom du meilleur modèle au registre ; avec Unity Catalog `catalogue.schéma.nom` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/git_project")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("project", "classification")
dbutils.widgets.text("version", "")
dbutils.widgets.text("runs", "[decision_tree: {max_depth: 3}, gaussian_nb, knn, logistic_regression]")
dbutils.widgets.text("registered_model", "main.default.churn_from_git")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Paquets
# MAGIC
# MAGIC Les trois cellules suivantes trouvent l’exemple, installent pour ce seul notebook les paquets dont
# MAGIC `requirements.txt` fixe la version, et redémarrent Python, qui en avait déjà chargé d’autres versions. Dans un
# MAGIC dossier Git, l’exemple se trouve à côté de ce notebook. Un notebook importé d’un fichier `.dbc` est seul : la
# MAGIC collection est alors prise à l’adresse du widget `repo`.

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
# MAGIC ## Où vont les exécutions
# MAGIC
# MAGIC Le redémarrage a effacé toutes les variables ; les widgets ont gardé leurs valeurs. Chaque exécution de ce
# MAGIC notebook va dans une même expérience. La ligne de `PATH` fait tourner les points d’entrée avec le Python, donc
# MAGIC avec les paquets, de ce notebook ; la suivante écarte les barres de progression de l’affichage.

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
# MAGIC ## Le suivi à la main
# MAGIC
# MAGIC Avant que l’exemple exécute pour vous des projets entiers, enregistrez vous-même un entraînement, avec
# MAGIC scikit-learn seul. La table est fournie par scikit-learn : des mesures de tumeurs. Une partie entraîne un
# MAGIC modèle, le reste le teste.

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
# MAGIC Une *exécution* commence par `start_run` et se termine avec le bloc. Ce que vous y journalisez reste ensemble :
# MAGIC un **paramètre** est ce que vous avez choisi, une **métrique** est ce qui en est sorti, une figure est un
# MAGIC **artefact**. Le modèle est journalisé avec sa *signature* (quelles colonnes il prend, ce qu’il répond), un
# MAGIC *exemple d’entrée* et les paquets dont il a besoin.

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
# MAGIC `search_runs` donne les exécutions de l’expérience sous forme de table. Elle contient ce que vous avez
# MAGIC journalisé, mais pas le commit de votre code : un projet depuis Git l’ajoute.

# COMMAND ----------

runs = mlflow.search_runs(filter_string="attributes.run_name = 'by hand'", order_by=["start_time DESC"])
display(runs[["tags.mlflow.runName", "params.max_depth", "metrics.roc_auc", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Exécuter plusieurs points d’entrée d’un même commit
# MAGIC
# MAGIC L’exemple est un projet MLflow : son fichier `MLproject` nomme des points d’entrée et leurs paramètres. Le
# MAGIC point d’entrée `main` cherche quel commit `version` désigne, et exécute chaque point d’entrée de l’autre projet
# MAGIC depuis son propre clone, à ce commit, comme exécution fille d’une même exécution parente.

# COMMAND ----------

given = {key: dbutils.widgets.get(key) for key in ("repo", "project", "version", "runs")}
submitted = mlflow.projects.run(
    str(project), parameters={**given, "env_manager": "local"}, env_manager="local", run_name="from Git"
)
run = mlflow.get_run(submitted.run_id)
print(f"{run.data.tags['repo']} at {run.data.tags['commit']}")

# COMMAND ----------

# MAGIC %md
# MAGIC Une ligne est une exécution fille, avec ses paramètres, ses métriques et le commit.

# COMMAND ----------

children = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/children.csv"))
display(children[["entry_point", "parameters", "status", "roc_auc", "accuracy", "log_loss", "commit", "run_id"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## L’interface de suivi
# MAGIC
# MAGIC Ouvrez **Experiments** dans la barre latérale et choisissez l’expérience du widget (ou la fiole à droite de ce
# MAGIC notebook). La colonne **Source** donne le dépôt et le commit de chaque exécution ; dépliez l’exécution parente
# MAGIC pour voir ses filles. Son chemin dans l’espace de travail est :

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Prédire avec tous les modèles
# MAGIC
# MAGIC Le point d’entrée `predict` prend l’exécution parente, trouve les modèles qui en dépendent, et laisse chacun
# MAGIC prédire les mêmes nouveaux clients. Là où ils sont en désaccord, quelqu’un devrait regarder.

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
# MAGIC ## Reproduire une exécution
# MAGIC
# MAGIC Le point d’entrée `reproduce` prend n’importe quelle exécution venue de Git : il va chercher le commit
# MAGIC enregistré, exécute le point d’entrée enregistré avec les paramètres enregistrés, et compare ce que les deux
# MAGIC exécutions ont enregistré : paramètres, données, métriques, signatures et prédictions. Ici, c’est la première
# MAGIC exécution fille, dans l’environnement de ce notebook ; sans `env_manager`, il en construirait un neuf. Si quoi
# MAGIC que ce soit diffère, la cellule échoue, et le rapport de l’exécution dit quoi.

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
# MAGIC ## Inscrire au registre
# MAGIC
# MAGIC L’exécution de `predict` a enregistré quel modèle est le meilleur. Un modèle inscrit a des versions
# MAGIC numérotées ; son étiquette dit ici de quel commit vient la version : vous pourrez retrouver le code dans un an.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(
    prediction.data.tags["best_model_uri"], name, tags={"git_commit": run.data.tags["commit"]}
)
MlflowClient().set_registered_model_alias(name, "challenger", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Utiliser votre propre dépôt, et nettoyer
# MAGIC
# MAGIC Tout dépôt qui contient un fichier `MLproject` convient, si ce notebook se trouve dans un dossier Git de la
# MAGIC collection : écrivez son adresse dans `repo`, son dossier (`.` pour le sommet) dans `project` et ses points
# MAGIC d’entrée dans `runs`. Pour un dépôt privé, un assistant d’identification de Git (*credential helper*) doit
# MAGIC connaître le mot de passe sur le cluster. Quand vous avez fini, supprimez l’expérience et le modèle inscrit si
# MAGIC vous n’en avez plus besoin, et arrêtez le cluster : il coûte tant qu’il tourne.
