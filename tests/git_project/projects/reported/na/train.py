import mlflow
import pandas as pd


class M(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # hints are a signature
        return pd.Series([1, pd.NA], dtype="Int64")


with mlflow.start_run():
    mlflow.log_metric("rmse", 0.7)
    mlflow.pyfunc.log_model(
        name="model", python_model=M(), pip_requirements=["mlflow"], input_example=pd.DataFrame({"x": [1, 2]})
    )
