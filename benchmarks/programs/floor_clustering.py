"""The floor of `mlflow run clustering`: the same fits and criteria, with no MLflow and no picture.

The silhouettes are the example's own: with scikit-learn's, the floor would be higher than what stands on it.
"""

import json
import sys

import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from criteria import silhouettes

table = pd.read_csv(sys.argv[1])
Z = StandardScaler().fit_transform(table[["tenure", "monthly_charges"]].astype("float64"))
with threadpool_limits(1):
    models = [KMeans(k, n_init=10, random_state=0).fit(Z) for k in range(2, 21)]
coefficients = silhouettes(Z, [model.labels_ for model in models])
found = {
    model.n_clusters: {
        "inertia": model.inertia_,
        "silhouette": values.mean(),
        "davies_bouldin": davies_bouldin_score(Z, model.labels_),
        "calinski_harabasz": calinski_harabasz_score(Z, model.labels_),
    }
    for model, values in zip(models, coefficients, strict=True)
}
print(json.dumps(found))
