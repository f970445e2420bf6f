"""A module beside the script."""

import mlflow


def note(words: list[str]) -> None:
    """Log how many words there are."""
    mlflow.log_metric("words", len(words))
