# Databricks notebook source
# MAGIC %md
# MAGIC # Classification : qui est sur le point de partir ?
# MAGIC
# MAGIC Huit classifieurs apprennent, sur une table de clients d’une compagnie de téléphone, lesquels partent
# MAGIC (`churn`) : un réseau de neurones, un arbre de décision, un classifieur bayésien naïf, un gradient boosting,
# MAGIC les k plus proches voisins, une régression logistique, une forêt aléatoire et une machine à vecteurs de
# MAGIC support. MLflow enregistre chaque entraînement comme une *exécution* (*run*) : ses paramètres, ses métriques,
# MAGIC ses images et son modèle. Vous comparez les exécutions, vous laissez le meilleur modèle prédire la classe
# MAGIC de nouveaux clients, puis vous l’inscrivez au registre.
# MAGIC
# MAGIC Le notebook demande un cluster muni d’un runtime Databricks ML (de 15.4 LTS à 17.3 LTS, sans GPU) ou du calcul
# MAGIC serverless, et un accès à Internet pour les paquets. Exécutez-le cellule par cellule, de haut en bas.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Paramètres
# MAGIC
# MAGIC Les widgets sont les paramètres d’un notebook : ils apparaissent au-dessus de lui, et un job peut leur donner
# MAGIC une valeur.
# MAGIC
# MAGIC | widget | ce qu’il dit |
# MAGIC |---|---|
# MAGIC | `experiment` | l’expérience MLflow qui reçoit les exécutions, un chemin de l’espace de travail |
# MAGIC | `repo` | l’adresse Git de la collection ; nécessaire seulement si ce notebook a été importé seul |
# MAGIC | `models` | les classifieurs à entraîner, séparés par des virgules |
# MAGIC | `max_depth` | la profondeur maximale d’un arbre |
# MAGIC | `registered_model` | le nom du meilleur modèle au registre ; avec Unity Catalog `catalogue.schéma.nom` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/classification")
dbutils.widgets.text("repo", "")
every = "ann,decision_tree,gaussian_nb,hist_gradient_boosting,knn,logistic_regression,random_forest,svm"
dbutils.widgets.text("models", every)
dbutils.widgets.text("max_depth", "5")
dbutils.widgets.text("registered_model", "main.default.churn")

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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "classification"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Le suivi à la main
# MAGIC
# MAGIC Avant que l’exemple fasse tout cela pour vous, faites-le une fois vous-même, avec scikit-learn seul. Une partie
# MAGIC des clients entraîne un modèle, le reste le teste : le modèle doit être jugé sur des clients qu’il n’a pas vus.

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
# MAGIC Une *exécution* commence par `start_run` et se termine avec le bloc. Ce que vous y journalisez reste ensemble :
# MAGIC un **paramètre** est ce que vous avez choisi, une **métrique** est ce qui en est sorti, une figure est un
# MAGIC **artefact**. Le modèle est journalisé avec sa *signature* (quelles colonnes il prend, ce qu’il répond), un
# MAGIC *exemple d’entrée* et les paquets dont il a besoin.

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
# MAGIC L’artefact se relit depuis l’exécution, et le modèle aussi : par l’adresse `runs:/<run id>/model` il prédit
# MAGIC partout, sans le code ci-dessus.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{by_hand.info.run_id}/roc_curve.png"))
loaded = mlflow.pyfunc.load_model(f"runs:/{by_hand.info.run_id}/model")
display(X_test.head(3).assign(prediction=loaded.predict(X_test.head(3))))

# COMMAND ----------

# MAGIC %md
# MAGIC La **journalisation automatique** fait de même sans appel : chaque `fit` dans une exécution journalise tous les
# MAGIC paramètres de l’estimateur et ses métriques sur les lignes d’apprentissage, et `score` ajoute l’exactitude sur
# MAGIC les autres.

# COMMAND ----------

mlflow.sklearn.autolog(log_models=False, silent=True)
for strength in (0.001, 0.1, 10.0):
    with mlflow.start_run(run_name=f"autolog C={strength}"):
        LogisticRegression(C=strength).fit(X_train, y_train).score(X_test, y_test)
mlflow.sklearn.autolog(disable=True)

# COMMAND ----------

# MAGIC %md
# MAGIC Vous pouvez rechercher ce que vous avez journalisé, ici les exécutions qui ont un paramètre `C`. Les colonnes
# MAGIC qui manquent à une exécution sont vides.

# COMMAND ----------

found = mlflow.search_runs([experiment.experiment_id], filter_string="params.C != ''", order_by=["start_time"])
display(found[["tags.mlflow.runName", "params.C", "metrics.roc_auc", "metrics.training_roc_auc"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Entraîner
# MAGIC
# MAGIC L’exemple est un projet MLflow : son fichier `MLproject` nomme des points d’entrée et leurs paramètres. Le
# MAGIC point d’entrée `main` entraîne les classifieurs sur les mêmes trois quarts de la table, chacun dans une
# MAGIC exécution fille d’une même exécution parente, et les classe sur le dernier quart, qu’aucun d’eux n’a vu.

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
# MAGIC ## Comparer
# MAGIC
# MAGIC L’exécution parente contient le classement sous forme de table. `roc_auc`, selon lequel il est trié, est la
# MAGIC probabilité qu’un client qui part obtienne un score plus élevé qu’un client qui reste. `recall` (le rappel, ou
# MAGIC sensibilité) dit combien de ceux qui partent sont trouvés, `precision` combien de ceux qui sont désignés
# MAGIC partent vraiment.

# COMMAND ----------

display(pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/leaderboard.csv")))

# COMMAND ----------

# MAGIC %md
# MAGIC Les images d’une exécution sont aussi des artefacts. Elles montrent quels modèles sont presque à égalité : une
# MAGIC différence à la troisième décimale n’est pas une raison de préférer un modèle que personne ne sait expliquer.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/leaderboard.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC Les courbes montrent ce que les nombres cachent : combien de clients sont désignés à tort (à gauche), et
# MAGIC combien de ceux qui sont désignés partent vraiment (à droite), selon la part des départs que l’on veut trouver.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/curves.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC Ce que montre la page de l’expérience est une recherche, que l’on peut aussi faire en Python, pour continuer
# MAGIC avec pandas. `specificity` (spécificité) dit combien de ceux qui restent sont laissés en paix, `npv` combien de
# MAGIC ceux qui ne sont pas désignés restent vraiment, `fdr` combien de ceux qui sont désignés le sont à tort.

# COMMAND ----------

children = mlflow.search_runs(
    [experiment.experiment_id],
    filter_string=f"tags.`mlflow.parentRunId` = '{submitted.run_id}'",
    order_by=["metrics.roc_auc DESC"],
)
display(children[["tags.mlflow.runName", "metrics.roc_auc", "metrics.specificity", "metrics.npv", "metrics.fdr"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## L’interface de suivi
# MAGIC
# MAGIC Ouvrez **Experiments** dans la barre latérale et choisissez l’expérience du widget (ou la fiole à droite de ce
# MAGIC notebook). Dépliez l’exécution parente, sélectionnez ses filles et cliquez sur **Compare** : un nuage de points
# MAGIC oppose une métrique à un paramètre, les coordonnées parallèles montrent tout à la fois. La page d’une exécution
# MAGIC a ses métriques (celles du réseau de neurones en courbes, un point par époque), ses artefacts, avec la matrice
# MAGIC de confusion dans `evaluation.png`, et son modèle. Le chemin de l’exécution parente dans l’espace de travail
# MAGIC est :

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Prédire
# MAGIC
# MAGIC Le point d’entrée `predict` prend le modèle de n’importe quelle exécution et de nouveaux clients comme on les
# MAGIC écrit, ici un objet JSON par ligne. Le modèle est un Pipeline qui sait préparer les colonnes brutes : rien
# MAGIC n’est mis à l’échelle à la main.

# COMMAND ----------

best = run.data.tags["best_model_uri"]
predicted = mlflow.projects.run(
    str(project), "predict", parameters={"model_uri": best}, env_manager="local", run_name="predict"
)
predictions = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{predicted.run_id}/predictions.csv"))
display(predictions[["tenure", "contract", "monthly_charges", "prediction", "probability_Yes"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Inscrire au registre
# MAGIC
# MAGIC Un modèle inscrit a des versions numérotées, dont chacune connaît l’exécution d’où elle vient. Un *alias* est
# MAGIC un nom qui désigne une version et peut être déplacé : le code qui charge `models:/<nom>@challenger` ne change
# MAGIC pas quand une meilleure version arrive. L’exemple `registry_deploy` continue à partir d’ici : un contrôle
# MAGIC décide quelle version devient `champion`.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(mlflow.models.get_model_info(best).model_uri, name)
MlflowClient().set_registered_model_alias(name, "challenger", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC La version est chargée par son alias et interrogée directement, sans projet. Elle donne les mêmes classes que
# MAGIC ci-dessus.

# COMMAND ----------

model = mlflow.pyfunc.load_model(f"models:/{name}@challenger")
customers = pd.read_json(project / "data" / "new_customers.jsonl", lines=True)
customers = customers.astype(dict.fromkeys(customers.select_dtypes("number"), float))
display(customers[["tenure", "contract"]].assign(prediction=model.predict(customers)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Utiliser votre propre table, et nettoyer
# MAGIC
# MAGIC `main` prend `data`, le chemin ou l’URL d’un fichier CSV, Parquet ou JSON (dans un volume aussi :
# MAGIC `/Volumes/<catalogue>/<schéma>/<volume>/table.csv`), et `target`, la colonne à prédire : ajoutez les deux à
# MAGIC `parameters` ci-dessus. Quand vous avez fini, supprimez l’expérience et le modèle inscrit si vous n’en avez
# MAGIC plus besoin, et arrêtez le cluster : il coûte tant qu’il tourne.
