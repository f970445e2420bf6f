"""Answers every row with the same level: needs a package that is nowhere but in this project's environment."""

from pathlib import Path
from typing import Any

import foreign_averages
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Level(PythonModel):
    def load_context(self, context: Any) -> None:
        self.level = float(Path(context.artifacts["level"]).read_text())

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        return [foreign_averages.average([self.level, 1, 1])] * len(model_input)


set_model(Level())
