# Copied by `make vendor` from support/french.py of the collection: edit that, or this in your own copy.
"""What the examples print and draw, in French: `language=fr`. The English stands where it is used."""

from __future__ import annotations

FRENCH = {
    # classification/report.py
    "{rows:,} test rows of {table}": "{rows:,} lignes de test de {table}",
    "{rows:,} test rows of {table}, all classes pooled, each against the rest": (
        "{rows:,} lignes de test de {table}, toutes classes réunies, chacune contre les autres"
    ),
    "{rows:,} test rows of {table}, with 95 % intervals": "{rows:,} lignes de test de {table}, intervalles à 95 %",
    "Calibration": "Calibration",
    "Mean predicted probability": "Probabilité prédite moyenne",
    "Share of the class": "Part de la classe",
    "Confusion matrix (share of the true class)": "Matrice de confusion (part de la vraie classe)",
    "True class": "Vraie classe",
    "Predicted class": "Classe prédite",
    "ROC curve (dotted: chance)": "Courbe ROC (pointillés : hasard)",
    "False positive rate": "Taux de faux positifs",
    "True positive rate (recall)": "Taux de vrais positifs (rappel)",
    "Precision-recall curve (dotted: chance)": "Courbe précision-rappel (pointillés : hasard)",
    "Recall": "Rappel",
    "Precision": "Précision",
    "{metric} (higher is better)": "{metric} (à maximiser)",
    "{metric} (lower is better)": "{metric} (à minimiser)",
    # classification/features.py
    "{rows:,} rows, {columns} columns to learn from; {tested:,} of the rows are kept for the test.": (
        "{rows:,} lignes, {columns} colonnes pour l’apprentissage ; {tested:,} des lignes sont gardées pour le test."
    ),
    "{count} classes of {target}: {listed}": "{count} classes de {target} : {listed}",
    "Positive class of {target}: {positive}, {share:.1%} of the rows.": (
        "Classe positive de {target} : {positive}, {share:.1%} des lignes."
    ),
    "For comparison: always answering {label} has an accuracy of {share:.3f}.": (
        "Pour comparaison : répondre toujours {label} donne une exactitude de {share:.3f}."
    ),
    "{tested:,} test rows, {fewest:,} of class {label}, are few: the metrics depend on chance. "
    "A larger test_size helps, or more rows.": (
        "{tested:,} lignes de test, dont {fewest:,} de classe {label}, c’est peu : les métriques dépendent du hasard. "
        "Augmentez test_size, ou ajoutez des lignes."
    ),
    "{twins:,} of the {tested:,} test rows are equal to a training row. If they are copies, remove them from the "
    "table: a model that knows them by heart looks better than it is.": (
        "{twins:,} des {tested:,} lignes de test sont égales à une ligne d’apprentissage. Si ce sont des copies, "
        "retirez-les de la table : un modèle qui les connaît par cœur paraît meilleur qu’il n’est."
    ),
    "Warning: {text}": "Attention : {text}",
    # classification/evaluation.py
    "Try class_weight=balanced.": "Essayez class_weight=balanced.",
    "Try class_weight=balanced or threshold=f1.": "Essayez class_weight=balanced ou threshold=f1.",
    "{name} has {count} different integers, and each is a class. Is it an amount?": (
        "{name} a {count} entiers différents, et chacun est une classe. Est-ce une quantité ?"
    ),
    "{names}: no row of class {label} is found, its recall is 0.": (
        "{names} : aucune ligne de classe {label} n’est trouvée, son rappel est nul."
    ),
    "column {name} alone reaches a roc_auc of {reached:.4f}. Is it known when you predict? "
    "If not, leave it out by drop.": (
        "la colonne {name} atteint à elle seule un roc_auc de {reached:.4f}. Est-elle connue au moment de prédire ? "
        "Sinon, écartez-la par drop."
    ),
    "{names}: a roc_auc above {limit} is rarely real. Are there columns that are only known afterwards, or made from "
    "the target? Leave them out by drop.": (
        "{names} : un roc_auc au-dessus de {limit} est rarement réel. Y a-t-il des colonnes qui ne sont connues "
        "qu’après, ou tirées de la cible ? Écartez-les par drop."
    ),
    # classification/compare.py, classification/train.py
    "fitted in {seconds:.2f} s": "ajusté en {seconds:.2f} s",
    "{best} has a better roc_auc than any other: not by chance in the choice of the test rows (95 %).": (
        "{best} a un meilleur roc_auc que tous les autres : pas par hasard dans le choix des lignes de test (95 %)."
    ),
    "Chance may explain the difference in roc_auc to {best}: {others}.": (
        "Le hasard peut expliquer l’écart de roc_auc avec {best} : {others}."
    ),
    "The 95 % interval of every metric is in leaderboard.csv.": (
        "L’intervalle à 95 % de chaque métrique est dans leaderboard.csv."
    ),
    "Best model: {name}, {uri}": "Meilleur modèle : {name}, {uri}",
    "roc_auc is between {low:.4f} and {high:.4f} with 95 % confidence, as far as these test rows tell.": (
        "roc_auc est entre {low:.4f} et {high:.4f} avec une confiance de 95 %, d’après ces lignes de test."
    ),
    "Model: {uri}": "Modèle : {uri}",
    # classification/tune.py, classification/trials.py
    "Study {study}: {count} trials are there already.": "Étude {study} : {count} essais sont déjà là.",
    "given up at {metric} {value}": "abandonné à {metric} {value}",
    "{count} trials, {pruned} of them given up": "{count} essais, dont {pruned} abandonnés",
    "{said}, in {seconds:.0f} s": "{said}, en {seconds:.0f} s",
    "Best of the folds: {name}, {reached}": "Le meilleur sur les plis : {name}, {reached}",
    "On the {rows:,} test rows, which no trial saw:": "Sur les {rows:,} lignes de test, qu’aucun essai n’a vues :",
    "{name}, defaults": "{name}, par défaut",
    "{name}, tuned": "{name}, réglé",
    "The tuned {name}, with {metric} {value:.4f}, cannot be told apart from the best default, {first}, with "
    "{best:.4f}: chance in the choice of the test rows may explain the difference.": (
        "{name} réglé, avec {metric} {value:.4f}, ne se distingue pas du meilleur par défaut, {first}, avec "
        "{best:.4f} : le hasard dans le choix des lignes de test peut expliquer l’écart."
    ),
    "The tuned {name}, with {metric} {value:.4f}, does not beat the best default, {first}, with {best:.4f}.": (
        "{name} réglé, avec {metric} {value:.4f}, ne bat pas le meilleur par défaut, {first}, avec {best:.4f}."
    ),
    "The tuned {name}, with {metric} {value:.4f}, beats every default; the best one is {first}, with {best:.4f}.": (
        "{name} réglé, avec {metric} {value:.4f}, bat tous les classifieurs par défaut ; le meilleur, {first}, atteint "
        "{best:.4f}."
    ),
    "The ann was not compared: TensorFlow is loaded only if the search includes it.": (
        "L’ann n’a pas été comparé : TensorFlow n’est chargé que si la recherche l’inclut."
    ),
    "Best model: {uri}": "Meilleur modèle : {uri}",
    "Train it again: {command}": "Pour l’entraîner à nouveau : {command}",
    "{said}. `-P study={study}` continues them.": "{said}. `-P study={study}` les continue.",
    "{metric} (mean of the folds)": "{metric} (moyenne des plis)",
    "Optimisation history": "Historique de l’optimisation",
    "The {name} trials": "Les essais de {name}",
    "What matters to the {name}": "Ce qui compte pour {name}",
    "Trial": "Essai",
    "Best Value": "Meilleure valeur",
    "Hyperparameter": "Hyperparamètre",
    "Hyperparameter Importance": "Importance de l’hyperparamètre",
    # classification/predict.py, clustering/predict.py, support/scoring.py
    "Predictions: {where}": "Prédictions : {where}",
    "Segments: {where}": "Segments : {where}",
    "{label} {times:,} ({share:.1%})": "{label} {times:,} ({share:.1%})",
    "{rows:,} instances: {shares}": "{rows:,} lignes : {shares}",
    "{rows:,} instances; {shares}": "{rows:,} lignes ; {shares}",
    "segment {segment}: {size:,} ({share:.1%})": "segment {segment} : {size:,} ({share:.1%})",
    "{far:,} of {rows:,} instances lie farther from their centre than any that the model was fitted on: perhaps they "
    "belong to no segment.": (
        "plus loin de leur centre que toutes les lignes de l’apprentissage : {far:,} sur {rows:,}. Peut-être "
        "n’appartiennent-elles à aucun segment."
    ),
    "column {name!r} holds categories that the model has not seen: {listed}.": (
        "la colonne {name!r} contient des catégories que le modèle n’a pas vues : {listed}."
    ),
    "{rows:,} instances. Predictions: {where}": "{rows:,} lignes. Prédictions : {where}",
    # new_project/regression/train.py
    "{tested} test rows are few: the metrics depend on chance. A larger test_size helps, or more rows.": (
        "{tested} lignes de test, c’est peu : les métriques dépendent du hasard. Augmentez test_size, ou ajoutez des "
        "lignes."
    ),
    "For comparison: always answering the mean has a mean_absolute_error of {error:.4g}.": (
        "Pour comparaison : répondre toujours la moyenne donne une mean_absolute_error de {error:.4g}."
    ),
    "{target}: true": "{target} : valeur réelle",
    "predicted": "valeur prédite",
    "r2 {r2:.3f} on the test rows": "r2 {r2:.3f} sur les lignes de test",
    # clustering/sweep.py, clustering/fit.py
    "inertia {inertia:,.1f}": "inertie {inertia:,.1f}",
    "{verdict} Chosen by {by}: {k}.": "{verdict} Choisi par {by} : {k}.",
    "How many segments? {rows:,} rows of {table}": "Combien de segments ? {rows:,} lignes de {table}",
    "{k} segments": "{k} segments",
    "Where the criteria disagree": "Là où les critères ne sont pas d’accord",
    # clustering/criteria.py
    "{k} ({names})": "{k} ({names})",
    "{k} ({names}; at the end of the range: the best may lie beyond)": (
        "{k} ({names} ; au bout de l’intervalle : le meilleur est peut-être au-delà)"
    ),
    "The criteria agree on the number of segments: {said}.": (
        "Les critères sont d’accord sur le nombre de segments : {said}."
    ),
    "The criteria disagree on the number of segments: {said}.": (
        "Les critères ne sont pas d’accord sur le nombre de segments : {said}."
    ),
    "The inertia has no elbow.": "L’inertie n’a pas de coude.",
    # clustering/records.py, clustering/describe.py
    "{k} segments of {rows:,} rows of {table}": "{k} segments de {rows:,} lignes de {table}",
    "K-Means on {columns}.": "K-Means sur {columns}.",
    "Means and shares are those of a sample of {rows:,} rows.": (
        "Les moyennes et les parts sont celles d’un échantillon de {rows:,} lignes."
    ),
    "segment": "segment",
    "rows": "lignes",
    "share": "part",
    "all": "toutes",
    "mean {feature}": "{feature}, moyenne",
    "all: {value}": "toutes : {value}",
    "nothing much": "presque rien",
    "Segment {segment}, {name}.": "Segment {segment}, {name}.",
    "What sets it apart: {apart}.": "Ce qui le distingue : {apart}.",
    "low {feature}": "{feature} bas",
    "high {feature}": "{feature} haut",
    "close to the mean": "proche de la moyenne",
    "too few rows to describe": "trop peu de lignes à décrire",
    "Warning: the smallest segment holds {smallest:,} of {rows:,} rows ({share:.2%}): perhaps outliers, not a segment. "
    "Fewer segments, log_columns or drop may help.": (
        "Attention : le plus petit segment a {smallest:,} des {rows:,} lignes ({share:.2%}) : peut-être des valeurs "
        "aberrantes, pas un segment. Essayez moins de segments, log_columns ou drop."
    ),
    "Hint: a few large values dominate {columns}: -P log_columns={names} fits on logarithms.": (
        "Conseil : quelques grandes valeurs dominent {columns} : -P log_columns={names} prend leurs logarithmes."
    ),
    # clustering/pictures.py
    "silhouette coefficient (higher is better)": "coefficient de silhouette (à maximiser)",
    "Davies-Bouldin index (lower is better)": "indice de Davies-Bouldin (à minimiser)",
    "Calinski-Harabasz index (higher is better)": "indice de Calinski-Harabasz (à maximiser)",
    "inertia (the elbow, by Kneedle)": "inertie (le coude, selon Kneedle)",
    "{segment}: {name}": "{segment} : {name}",
    "chosen: k = {k}": "choisi : k = {k}",
    "best: k = {k} ({value})": "meilleur : k = {k} ({value})",
    "no elbow": "pas de coude",
    "{column}, scaled": "{column}, normalisée",
    "(spread at random)": "(étalé au hasard)",
    "first principal component ({share:.0%} of variance)": (
        "première composante principale ({share:.0%} de la variance)"
    ),
    "second ({share:.0%})": "deuxième ({share:.0%})",
    "mean {mean:.2f}": "moyenne {mean:.2f}",
    "segment {segment}": "segment {segment}",
    "silhouette coefficient (below 0: closer to another segment)": (
        "coefficient de silhouette (sous 0 : plus proche d’un autre segment)"
    ),
    "{title}: mean silhouette {mean:.3f}": "{title} : silhouette moyenne {mean:.3f}",
    "{title}: means, and shares in %": "{title} : moyennes, et parts en %",
    "difference from all rows\n(standard deviations)": "écart à l’ensemble des lignes\n(écarts types)",
    # registry_deploy/dossier.py
    "{heading}: nothing is recorded": "{heading} : rien n’est enregistré",
    "95 % interval": "intervalle à 95 %",
    "Aliases": "Alias",
    "archived": "archivée",
    "candidate": "candidat",
    "champion": "champion",
    "champion then": "champion d’alors",
    "check": "contrôle",
    "Code commit": "Commit du code",
    "column": "colonne",
    "confirmed by {where}": "confirmé par {where}",
    "CONTRADICTED by {where}: {other}": "CONTREDIT par {where} : {other}",
    "Data and answers today": "Données et réponses d’aujourd’hui",
    "decision": "décision",
    "Decisions of the gate": "Décisions du contrôle",
    "Description": "Description",
    "Dossier of {name}, version {version}": "Dossier de {name}, version {version}",
    "Each fact was read then, and compared where two places state it.": (
        "Chaque fait a été lu à ce moment, et comparé là où deux endroits le donnent."
    ),
    "fact": "fait",
    "Inputs": "Entrées",
    "Limits": "Limites",
    "Logged model": "Modèle journalisé",
    "mean of five": "moyenne de cinq",
    "metric": "métrique",
    "Metrics": "Métriques",
    "Model, data, code and environment": "Modèle, données, code et environnement",
    "none": "aucun",
    "not known": "inconnu",
    "not measured": "non mesuré",
    "not promoted": "non promue",
    "Nothing on this page speaks of rows that are unlike the validation data.": (
        "Rien sur cette page ne vaut pour des lignes qui ne ressemblent pas aux données de validation."
    ),
    "Outputs": "Sorties",
    "Packages": "Paquets",
    "pending": "en cours",
    "Program": "Programme",
    "promoted": "promue",
    "Python": "Python",
    "Read from": "Lues dans",
    "refused": "refusée",
    "Registered at": "Inscrite le",
    "Registered by": "Inscrite par",
    "replaced": "remplacée",
    "Repository": "Dépôt",
    "Reproduced": "Reproduite",
    "required": "exigé",
    "restored": "rétablie",
    "rolled_back": "retirée par retour arrière",
    "Rows": "Lignes",
    "run": "exécution",
    "Run": "Exécution",
    "Source of the training data": "Source des données d’apprentissage",
    "standard deviation": "écart type",
    "stated in one place only": "donné à un seul endroit",
    "the history of champions": "l’historique des champions",
    "the model": "le modèle",
    "the evaluation had other data or answers": "l’évaluation avait d’autres données ou réponses",
    "The newest verdict": "Le dernier verdict",
    "the registered model": "le modèle inscrit",
    "the run": "l’exécution",
    "the run that tried it": "l’exécution qui l’a essayé",
    "The code had changes that are in no commit; the run has them as git.diff.": (
        "Le code avait des changements qui ne sont dans aucun commit ; l’exécution les garde dans git.diff."
    ),
    "Training data": "Données d’apprentissage",
    "Uncommitted changes": "Changements sans commit",
    "undecided": "indécise",
    "Validation": "Validation",
    "Validation data": "Données de validation",
    "value": "valeur",
    "verdict": "verdict",
    "what is judged": "ce qui est jugé",
    "what this page cannot tell": "ce que cette page ne peut pas dire",
    "when": "quand",
    "who": "qui",
    "Written {at} by {who}.": "Écrit le {at} par {who}.",
    "Permutation importance ({metric}, {rows:,} rows)": "Importance par permutation ({metric}, {rows:,} lignes)",
}
