"""The floor of `mlflow run classification`: the same fits and predictions, with no MLflow and no picture.

floor_classification.py PIPELINES; prints the ROC AUC of each.
"""

import json
import sys

from churn import pipelines, roc_auc, split

X_train, X_test, y_train, y_test = split()
found = {}
for name, pipeline in pipelines(sys.argv[1]).items():
    found[name] = roc_auc(y_test, pipeline.fit(X_train, y_train).predict_proba(X_test))
print(json.dumps(found))
