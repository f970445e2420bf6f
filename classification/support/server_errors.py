# Copied by `make vendor` from support/server_errors.py of the collection: edit that, or this in your own copy.
"""What a tracking server refuses, or cannot do, as one line: MLflow raises it as a request that failed."""

from __future__ import annotations

import os
import re


def refused_by_server(error: BaseException) -> str | None:
    """The line for what a tracking server refuses, or cannot do; None for any other error.

    A server with accounts says no more than "Permission denied": which right is missing follows from what was asked.
    """
    server, text = os.environ.get("MLFLOW_TRACKING_URI", ""), " ".join(str(error).split())
    asked = re.search(r"/api/\d\.\d/(?:mlflow/|(?=mlflow-artifacts/))([\w-]+(?:/[\w-]+)?)", text)
    if not server.startswith("http") or not asked:
        return refused_by_server(error.__cause__) if error.__cause__ else None
    request, user = asked[1], os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if re.search(r"\b401\b", text):
        name, password = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
        return f"{server} does not know user {user!r} with this password: set {name} and {password}."
    if re.search(r"\b403\b", text):
        resource = "registered model" if re.match("registered-models|model-versions", request) else "experiment"
        if request.startswith("runs/log-"):
            resource += " of the run, or of a model that it uses"
        right = "READ" if re.search("/(get|search|list)", request) else "MANAGE" if "/delete" in request else "EDIT"
        if request == "registered-models/alias":  # to set one, or to remove one: the text does not tell
            right = "EDIT (MANAGE to remove an alias)"
        return f"{server} refuses {request}: user {user!r} lacks the right {right} on the {resource}."
    if re.search(r"\b50[0-9]\b|Max retries", text):
        reason = re.search(r"(?<=\d\] )[\w ]+|too many \d+ error responses", text)
        return f"{server} could not do {request}: {reason[0] + '.' if reason else text[-150:]}"
    return None


def note_models_used(run_id: str, model_ids: list[str]) -> None:
    """Show a run on the pages of the models that it used, where the user may write to these.

    On a server with accounts everybody may load another's model, but not note so on its page.
    """
    from mlflow import MlflowClient  # late: a mistake in the command line is answered before MLflow is loaded
    from mlflow.entities import LoggedModelInput
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient().log_inputs(run_id, models=[LoggedModelInput(each) for each in model_ids])
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
