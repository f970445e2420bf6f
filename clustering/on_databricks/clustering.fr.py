# Databricks notebook source
# MAGIC %md
# MAGIC # Partitionnement : combien de segments, et qui s’y trouve ?
# MAGIC
# MAGIC K-Means divise une table de clients en segments, pour chaque nombre de segments d’un intervalle. Personne n’a
# MAGIC dit d’avance à quel segment appartient un client, il n’y a donc pas de bonne réponse à laquelle comparer :
# MAGIC quatre critères disent quel nombre de segments convient, et ils ne sont pas toujours d’accord. MLflow
# MAGIC enregistre chaque nombre comme une exécution (*run*) : vous pouvez les comparer entre eux, nommer les
# MAGIC segments et y placer de nouveaux clients.
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
# MAGIC | `k_min`, `k_max` | le plus petit et le plus grand nombre de segments à essayer |
# MAGIC | `choose` | ce qui décide : silhouette, davies_bouldin, calinski_harabasz, elbow (coude) ou vote |
# MAGIC | `registered_model` | le nom du modèle au registre ; avec Unity Catalog `catalogue.schéma.nom` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/clustering")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("k_min", "2")
dbutils.widgets.text("k_max", "20")
dbutils.widgets.text("choose", "silhouette")
dbutils.widgets.text("registered_model", "main.default.segments")

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
    project = Path(tempfile.gettempdir()) / "mlproject-collection" / "clustering"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
experiment = mlflow.set_experiment(dbutils.widgets.get("experiment"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Le suivi à la main
# MAGIC
# MAGIC Avant que l’exemple fasse tout cela pour vous, faites-le une fois vous-même, avec scikit-learn seul. Deux
# MAGIC colonnes suffisent, mises à l’échelle pour que les mois et les dollars comptent autant.

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
# MAGIC Une *exécution* commence par `start_run` et se termine avec le bloc. Ce que vous y journalisez reste ensemble :
# MAGIC un **paramètre** est ce que vous avez choisi, une **métrique** est ce qui en est sorti, une figure est un
# MAGIC **artefact**. Le modèle est journalisé avec sa *signature* (quelles colonnes il prend, ce qu’il répond), un
# MAGIC *exemple d’entrée* et les paquets dont il a besoin.

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
# MAGIC L’artefact se relit depuis l’exécution, et le modèle aussi : par l’adresse `runs:/<run id>/model` il prédit
# MAGIC partout, sans le code ci-dessus.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{by_hand.info.run_id}/segments.png"))
loaded = mlflow.pyfunc.load_model(f"runs:/{by_hand.info.run_id}/model")
display(X.head(3).assign(segment=loaded.predict(X.head(3))))

# COMMAND ----------

# MAGIC %md
# MAGIC La **journalisation automatique** fait de même sans appel : chaque `fit` dans une exécution journalise tous les
# MAGIC paramètres de l’estimateur et ses métriques.

# COMMAND ----------

mlflow.sklearn.autolog(log_models=False, silent=True)
for count in (2, 4):
    with mlflow.start_run(run_name=f"autolog {count} segments"):
        KMeans(n_clusters=count, n_init=1, random_state=0).fit(scaled)
mlflow.sklearn.autolog(disable=True)

# COMMAND ----------

# MAGIC %md
# MAGIC Vous pouvez rechercher ce que vous avez journalisé, ici les exécutions qui ont un paramètre `n_clusters`.

# COMMAND ----------

found = mlflow.search_runs([experiment.experiment_id], filter_string="params.n_clusters != ''")
display(found[["tags.mlflow.runName", "params.n_clusters", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Essayer chaque nombre de segments
# MAGIC
# MAGIC L’exemple est un projet MLflow : son fichier `MLproject` nomme des points d’entrée et leurs paramètres. Le
# MAGIC point d’entrée `main` ajuste K-Means une fois pour chaque nombre de segments, sur `tenure` (ancienneté en mois)
# MAGIC et `monthly_charges` (dollars par mois), chaque fois dans une exécution fille d’une même exécution parente. Les
# MAGIC deux colonnes sont d’abord mises à l’échelle, parce que K-Means mesure des distances.

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
# MAGIC ## Ce que disent les critères
# MAGIC
# MAGIC - `inertia`, la somme des carrés des distances aux centres, diminue toujours ; son *coude* est le point où
# MAGIC   un segment de plus n’apporte plus grand-chose ;
# MAGIC - `silhouette` (coefficient de silhouette, de -1 à 1) est élevé si les clients sont plus près de leur segment
# MAGIC   que du suivant ;
# MAGIC - `davies_bouldin` (indice de Davies-Bouldin) est bas si les segments sont étroits, comparés à ce qui les
# MAGIC   sépare ;
# MAGIC - `calinski_harabasz` (indice de Calinski-Harabasz) est élevé si l’essentiel de la variance est entre les
# MAGIC   segments.
# MAGIC
# MAGIC Une ligne ci-dessous est une exécution fille.

# COMMAND ----------

criteria = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/criteria.csv"))
display(criteria[["n_clusters", "inertia", "silhouette", "davies_bouldin", "calinski_harabasz"]])

# COMMAND ----------

# MAGIC %md
# MAGIC L’image marque ce que chaque critère choisit et ce qui a été retenu. Quand ils sont en désaccord, c’est qu’ils
# MAGIC posent des questions différentes ; le nombre dépend alors de ce que vous ferez des segments, et les critères
# MAGIC vous disent ce qu’il coûte.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/criteria.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Qui se trouve dans les segments
# MAGIC
# MAGIC Le profil a une ligne pour chaque segment du nombre retenu : sa taille, et la moyenne ou la part de chaque
# MAGIC colonne. Les colonnes que K-Means n’a pas vues décrivent les segments sans les avoir formés.

# COMMAND ----------

display(pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{submitted.run_id}/profile.csv")))

# COMMAND ----------

# MAGIC %md
# MAGIC Chaque point est un client. Rien ne sépare ces clients en îlots : les segments sont les coins d’un même nuage.

# COMMAND ----------

display(mlflow.artifacts.load_image(f"runs:/{submitted.run_id}/scatter.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## L’interface de suivi
# MAGIC
# MAGIC Ouvrez **Experiments** dans la barre latérale et choisissez l’expérience du widget (ou la fiole à droite de ce
# MAGIC notebook). Sélectionnez les exécutions filles, cliquez sur **Compare**, et mettez `n_clusters` en abscisse du
# MAGIC nuage de points et un critère en ordonnée. La description de l’exécution parente présente les segments en
# MAGIC toutes lettres. Son chemin dans l’espace de travail est :

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{submitted.run_id}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Placer de nouveaux clients dans les segments
# MAGIC
# MAGIC Le point d’entrée `predict` donne à chaque nouveau client un segment et la distance à son centre. Le modèle met
# MAGIC les colonnes à l’échelle comme lors de son ajustement. Un client plus loin du centre que tous ceux que l’on
# MAGIC connaît n’appartient peut-être à aucun segment.

# COMMAND ----------

chosen = run.data.tags["chosen_model_uri"]
predicted = mlflow.projects.run(
    str(project), "predict", parameters={"model_uri": chosen}, env_manager="local", run_name="predict"
)
segments = pd.read_csv(mlflow.artifacts.download_artifacts(f"runs:/{predicted.run_id}/segments.csv"))
display(segments[["tenure", "monthly_charges", "segment", "segment_name", "segment_distance"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Inscrire au registre
# MAGIC
# MAGIC Un modèle inscrit a des versions numérotées, dont chacune connaît l’exécution d’où elle vient. Un *alias* est
# MAGIC un nom qui désigne une version et peut être déplacé. Les numéros des segments n’ont pas de sens d’une version à
# MAGIC l’autre : le segment 0 de la suivante peut en être un autre. Le code qui s’en sert doit donc charger une
# MAGIC version précise, par un alias qui ne bouge pas.

# COMMAND ----------

name = dbutils.widgets.get("registered_model")
version = mlflow.register_model(mlflow.models.get_model_info(chosen).model_uri, name)
MlflowClient().set_registered_model_alias(name, "in_use", version.version)

# COMMAND ----------

# MAGIC %md
# MAGIC La version est chargée par son alias et interrogée directement, sans projet. Elle donne les mêmes segments que
# MAGIC ci-dessus.

# COMMAND ----------

model = mlflow.pyfunc.load_model(f"models:/{name}@in_use")
customers = segments[["tenure", "monthly_charges"]].astype(float)
display(customers.assign(segment=model.predict(customers)))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Utiliser votre propre table, et nettoyer
# MAGIC
# MAGIC `main` prend `data`, le chemin ou l’URL d’un fichier CSV, Parquet ou JSON (dans un volume aussi), et `columns`,
# MAGIC les colonnes sur lesquelles ajuster : ajoutez les deux à `parameters` ci-dessus. Quand vous avez fini,
# MAGIC supprimez l’expérience et le modèle inscrit si vous n’en avez plus besoin, et arrêtez le cluster : il coûte
# MAGIC tant qu’il tourne.
