import random

import mlflow


class M(mlflow.pyfunc.PythonModel):
    def __init__(self) -> None:
        self.w = random.random()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # hints are a signature
        return [self.w] * len(model_input)


with mlflow.start_run():
    mlflow.log_metric("epochs", 3)
    m = M()
    mlflow.set_tag("w", m.w)
    mlflow.pyfunc.log_model(name="model", python_model=m, pip_requirements=["mlflow"], registered_model_name="Foreign")
    for v in ([m.w, 0.5], [1.0]):
        mlflow.log_metric("loss", v[0], step=len(v))
    mlflow.log_metric("loss", 1.0, step=9)
    mlflow.log_text(str(m.w), "predictions.csv")
