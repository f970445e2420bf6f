"""What a model answers to a request without a server: `python expected.py MODEL EXAMPLE ANSWER`, in its environment."""

import sys
from pathlib import Path

from mlflow.pyfunc import load_model, scoring_server


def main(folder: str, example: str, answer: str) -> None:
    """Answer the JSON request in one file and write the answer to another."""
    model = load_model(folder)
    request = Path(example).read_text()
    found = scoring_server.invocations(request, "application/json", model, model.metadata.get_input_schema())
    Path(answer).write_text(found.response)


if __name__ == "__main__":
    main(*sys.argv[1:4])
