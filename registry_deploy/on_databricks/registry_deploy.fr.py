# Databricks notebook source
# MAGIC %md
# MAGIC # Registre de modèles : la vie d’un modèle après l’entraînement
# MAGIC
# MAGIC Un modèle est entraîné : et maintenant ? On l’inscrit, on le décrit, un contrôle le juge face à celui qui est
# MAGIC en production ; s’il passe, un alias se déplace. Ce qui ne sert plus est archivé puis supprimé. Ce notebook le
# MAGIC fait avec le registre de modèles de MLflow, avec des alias et des étiquettes ; les anciennes étapes (Staging,
# MAGIC Production, Archived) sont obsolètes.
# MAGIC
# MAGIC Le notebook demande un cluster muni d’un runtime Databricks ML (de 15.4 LTS à 17.3 LTS, sans GPU) ou du calcul
# MAGIC serverless, un accès à Internet pour les paquets et, avec Unity Catalog, le droit de créer un modèle dans un
# MAGIC schéma. Exécutez-le cellule par cellule, de haut en bas.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Paramètres
# MAGIC
# MAGIC Les widgets sont les paramètres d’un notebook : ils apparaissent au-dessus de lui, et un job peut leur donner
# MAGIC une valeur. Avec Unity Catalog, le registre des espaces de travail actuels, écrivez dans `registered_model` un
# MAGIC nom à trois niveaux ; le registre de l’espace de travail prend un nom simple.
# MAGIC
# MAGIC | widget | ce qu’il dit |
# MAGIC |---|---|
# MAGIC | `experiment` | l’expérience MLflow qui reçoit les exécutions, un chemin de l’espace de travail |
# MAGIC | `repo` | l’adresse Git de la collection ; nécessaire seulement si ce notebook a été importé seul |
# MAGIC | `registered_model` | le modèle inscrit : `churn_notebook`, ou `catalogue.schéma.churn_notebook` |

# COMMAND ----------

dbutils.widgets.text("experiment", "/Shared/registry_deploy")
dbutils.widgets.text("repo", "")
dbutils.widgets.text("registered_model", "main.default.churn_notebook")

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
# MAGIC ## Où vont les exécutions
# MAGIC
# MAGIC Le redémarrage a effacé toutes les variables ; les widgets ont gardé leurs valeurs. Chaque exécution de ce
# MAGIC notebook va dans une même expérience. Les fonctions importées ci-dessous sont celles des points d’entrée de
# MAGIC l’exemple ; `client` est celui de MLflow.

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
# MAGIC ## Le suivi à la main
# MAGIC
# MAGIC Un modèle arrive au registre depuis une *exécution*. Enregistrez-en d’abord une vous-même, avec scikit-learn
# MAGIC seul : une partie des clients entraîne un modèle, le reste le teste, car un modèle doit être jugé
# MAGIC sur des clients qu’il n’a pas vus.

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
# MAGIC Une *exécution* commence par `start_run` et se termine avec le bloc. Ce que vous y journalisez reste ensemble :
# MAGIC un **paramètre** est ce que vous avez choisi, une **métrique** est ce qui en est sorti, une figure est un
# MAGIC **artefact**. Le modèle est journalisé avec sa *signature* (quelles colonnes il prend, ce qu’il répond), un
# MAGIC *exemple d’entrée* et les paquets dont il a besoin.

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
# MAGIC `search_runs` donne les exécutions de l’expérience sous forme de table. Les modèles inscrits plus bas viennent
# MAGIC de telles exécutions ; une fonction de l’exemple les entraîne sur toutes les colonnes et journalise aussi les
# MAGIC données.

# COMMAND ----------

runs = mlflow.search_runs(filter_string="attributes.run_name = 'by hand'", order_by=["start_time DESC"])
display(runs[["tags.mlflow.runName", "params.max_depth", "metrics.roc_auc", "status"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Deux modèles
# MAGIC
# MAGIC Tous deux apprennent, sur les mêmes 5 282 clients, lesquels partent (`churn`) : un arbre de décision de
# MAGIC profondeur trois, et un gradient boosting. Chacun est une exécution avec ses paramètres, ses données et son
# MAGIC modèle. Une seconde table, de clients qu’aucun des deux n’a vus, est gardée pour le contrôle.

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
# MAGIC ## Inscrire au registre
# MAGIC
# MAGIC Un modèle inscrit a des versions numérotées. L’inscription en crée une, l’étiquette avec l’exécution, les
# MAGIC données et les métriques d’où elle vient, et fait pointer vers elle l’alias `challenger` : une candidate.

# COMMAND ----------

first = register_version(tree, name)
print(f"{name} version {first.version}, aliases: {first.aliases}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Décrire
# MAGIC
# MAGIC Une description s’adresse à ceux qui trouveront la version dans le catalogue. On peut la changer à tout moment,
# MAGIC pour une version et pour le modèle inscrit tout entier. La cellule affiche ensuite tout ce que l’on sait de la
# MAGIC version, un fait par ligne : surtout les colonnes qu’elle prend.

# COMMAND ----------

client.update_registered_model(name, description="Who is about to leave? Made by the notebook of registry_deploy.")
client.update_model_version(name, first.version, description="A decision tree, three questions deep.")
print(description_of(find_version(f"models:/{name}/{first.version}")))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Le contrôle
# MAGIC
# MAGIC `promote_version` fait répondre la candidate sur la table de validation et vérifie ce que `Rules` exige. Tant
# MAGIC qu’il n’y a pas de champion, seuls comptent les seuils ; l’alias `champion` se déplace alors vers elle. Chaque
# MAGIC ligne de la table est une vérification.

# COMMAND ----------

judged = promote_version(f"models:/{name}/{first.version}", "data/churn_validation.csv", "churn", Rules())
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC Voici le second modèle, avec un seuil qu’il ne peut pas atteindre. La version est refusée, et `champion` ne
# MAGIC bouge pas ; la table des raisons est dans l’exécution.

# COMMAND ----------

second = register_version(boosted, name, "Gradient-boosted trees: more exact, slower.")
judged = promote_version(
    f"models:/{name}@challenger", "data/churn_validation.csv", "churn", Rules(thresholds="roc_auc>=0.99")
)
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC Selon les règles par défaut, elle ne doit pas être moins bonne que le champion de plus de 0,01, avec 95 % de
# MAGIC confiance : c’est la borne inférieure d’un intervalle bootstrap de l’amélioration qui compte. Elle passe,
# MAGIC devient `champion`, et l’ancien champion devient `previous`.

# COMMAND ----------

judged = promote_version(f"models:/{name}/{second.version}", "data/churn_validation.csv", "churn", Rules())
display(pd.DataFrame(judged.rows))
print("promoted" if judged.promoted else f"refused: {judged.reasons}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Les alias
# MAGIC
# MAGIC Un alias est un nom que vous choisissez, et une ligne de MLflow le déplace. Le code qui charge par alias
# MAGIC obtient la version vers laquelle il pointe à ce moment-là, et ne change pas.

# COMMAND ----------

client.set_registered_model_alias(name, "for_the_newsletter", second.version)
model = mlflow.pyfunc.load_model(f"models:/{name}@for_the_newsletter")
display(X.head(4)[["tenure", "contract", "monthly_charges"]].assign(prediction=model.predict(X.head(4))))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Versions et historique
# MAGIC
# MAGIC Les versions, de la plus récente à la plus ancienne, avec leurs alias ; et l’historique des champions, du plus
# MAGIC ancien au plus récent, d’après les étiquettes que le contrôle laisse sur le modèle inscrit.

# COMMAND ----------

display(table_of_versions(name, "training_roc_auc"))
display(reigns(name)[["version", "from", "until", "how"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Voir le registre dans l’espace de travail
# MAGIC
# MAGIC Avec Unity Catalog, ouvrez **Catalog**, puis le catalogue, le schéma et **Models** ; sinon **Models** dans la
# MAGIC barre latérale. Les exécutions du contrôle sont dans **Experiments**, dans l’expérience du widget ; chacune a
# MAGIC `gate.csv` et, si deux versions ont été comparées, `gate.png` :

# COMMAND ----------

print(f"/ml/experiments/{experiment.experiment_id}/runs/{judged.run_id}")
display(mlflow.artifacts.load_image(f"runs:/{judged.run_id}/gate.png"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Renommer
# MAGIC
# MAGIC Les versions, les alias, les étiquettes et l’historique suivent ; le code qui charge par l’ancien nom ne trouve
# MAGIC plus le modèle, qui reprend donc aussitôt ce nom.

# COMMAND ----------

client.rename_registered_model(name, f"{name}_2")
print(client.get_registered_model(f"{name}_2").aliases)
client.rename_registered_model(f"{name}_2", name)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Archiver
# MAGIC
# MAGIC Une version archivée est conservée et n’est plus jamais promue. Le point d’entrée `archive` refuse celle vers
# MAGIC laquelle pointe un autre alias que `challenger` : les alias partent donc d’abord. Il est exécuté ici comme
# MAGIC projet, ainsi que le ferait un job.

# COMMAND ----------

for alias in client.get_model_version(name, first.version).aliases:
    client.delete_registered_model_alias(name, alias)
mlflow.projects.run(
    str(project), "archive", parameters={"model_uri": f"models:/{name}/{first.version}"}, env_manager="local"
)
print(client.get_model_version(name, first.version).tags["archived_at"])

# COMMAND ----------

# MAGIC %md
# MAGIC ## Supprimer
# MAGIC
# MAGIC Ce qui est supprimé ne peut pas être restauré : le point d’entrée `delete` demande donc le nom exact pour
# MAGIC confirmation. L’exécution et son modèle journalisé restent. Sans `version`, il supprime le modèle inscrit avec
# MAGIC toutes ses versions.

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
# MAGIC ## Déployer le modèle, et nettoyer
# MAGIC
# MAGIC Les points d’entrée `deploy`, `score`, `rollback` et `undeploy` servent une version sur une machine à vous, sur
# MAGIC Azure Machine Learning ou, avec `target=databricks`, sur Model Serving de Databricks (**Serving** dans la barre
# MAGIC latérale). Quand vous avez fini, supprimez l’expérience et le modèle inscrit si vous n’en avez plus besoin, et
# MAGIC arrêtez le cluster : il coûte tant qu’il tourne.
