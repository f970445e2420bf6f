"""Train and track one classifier as many scripts do: metric by metric, with requirements that MLflow infers.

script_a_model.py PIPELINES NAME
"""

import sys

import mlflow
from churn import pipelines, roc_auc, split
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
)

X_train, X_test, y_train, y_test = split()
pipeline = pipelines(sys.argv[1])[sys.argv[2]]
with mlflow.start_run():
    mlflow.set_tag("classifier", sys.argv[2])
    for key, value in pipeline[-1].get_params(deep=False).items():
        mlflow.log_param(key, value)
    pipeline.fit(X_train, y_train)
    probabilities, predicted = pipeline.predict_proba(X_test), pipeline.predict(X_test)
    for metric in (accuracy_score, balanced_accuracy_score):
        mlflow.log_metric(metric.__name__, metric(y_test, predicted))
    for metric in (f1_score, precision_score, recall_score):
        mlflow.log_metric(metric.__name__, metric(y_test, predicted, pos_label="Yes"))
    mlflow.log_metric("log_loss", log_loss(y_test, probabilities))
    mlflow.log_metric("roc_auc", roc_auc(y_test, probabilities))
    mlflow.sklearn.log_model(pipeline, name="model", serialization_format="cloudpickle")
