"""Answers requests with the model, on Azure Machine Learning's inference server: uploaded beside the model."""

import io
import json
import os
from pathlib import Path

from azureml_inference_server_http.api.aml_response import AMLResponse
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, load_model, scoring_server

MODEL: PyFuncModel


def init() -> None:
    """Load the model once, before the first request."""
    global MODEL
    # A model may hold another one among its artifacts, so the outermost MLmodel is the one to serve.
    described = min(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("MLmodel"), key=lambda path: len(path.parts))
    MODEL = load_model(str(described.parent))


def run(raw_data: str) -> list | AMLResponse:
    """Predict for `{"input_data": ...}`: a table as columns, index and data, a tensor as nested lists, or a list for
    each of the names that an ONNX model has.

    Returns the predictions as a bare list, or 400 with the reason when the input does not fit the model's signature.
    """
    try:
        data = json.loads(raw_data)["input_data"]
        table = isinstance(data, dict) and data.keys() <= {"columns", "index", "data"}
        form = "dataframe_split" if table else "inputs"
        instances = scoring_server.infer_and_parse_data({form: data}, MODEL.metadata.get_input_schema())
        text = io.StringIO()
        scoring_server.predictions_to_json(MODEL.predict(instances), text)
        return json.loads(text.getvalue())["predictions"]
    except (KeyError, ValueError, MlflowException) as error:
        return AMLResponse(f"{type(error).__name__}: {error}", 400)
