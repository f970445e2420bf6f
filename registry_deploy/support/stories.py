# Copied by `make vendor` from support/stories.py of the collection: edit that, or this in your own copy.
"""What the stories of a served model begin with: a registered model of their own."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from support.table import bad

STORY = "story"  # the tag of a registered model that a story made


def fresh_start(name: str, example: str) -> None:
    """A registered model of the story of an example, without a champion, so that the story can be told again.

    Raises click.BadParameter where there is a registered model of that name that no story has made.
    """
    client = MlflowClient()
    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, tags={STORY: "true"}, description=f"Made by the story of {example}.")
        return
    if STORY not in found.tags:
        raise bad("name", name, "is a registered model that this story did not make: choose another name.")
    for alias in found.aliases:
        client.delete_registered_model_alias(name, alias)
