"""What every deployment target has in common: its verbs, the error that it raises and the state that it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class DeploymentError(Exception):
    """What a user can cause or a server can answer, in one line that says what, where and what to do."""


def check_canary(canary: int) -> None:
    """Raise DeploymentError unless `canary` is a percentage from 1 to 100."""
    if not 1 <= canary <= 100:
        raise DeploymentError(f"canary={canary}: expected a percentage from 1 to 100")


@dataclass(frozen=True)
class Colour:
    """One of the deployments behind an endpoint.

    model_name, model_version: the registered version that it serves.
    state: the target's own word for its condition; `Succeeded` on Azure means that it is ready to serve.
    traffic: share of the endpoint's requests that it answers, in percent.
    """

    model_name: str
    model_version: str
    state: str
    traffic: int


@dataclass(frozen=True)
class Status:
    """An endpoint at one moment.

    endpoint: its name. scoring_uri: where requests are sent. colours: the deployments behind it, by colour.
    recording: what has been recorded of its requests, in words; empty where nothing is.
    """

    endpoint: str
    scoring_uri: str
    colours: Mapping[str, Colour] = field(default_factory=dict)
    recording: str = ""

    @property
    def serving(self) -> Colour | None:
        """The colour that answers every request, None where none or several do."""
        return next((colour for colour in self.colours.values() if colour.traffic == 100), None)


class Target(Protocol):
    """A place where models are deployed; each verb raises DeploymentError and then has changed nothing."""

    kind: str
    name: str

    @property
    def owner(self) -> str:
        """Machine and directory, or workspace: an endpoint of the same name elsewhere has another owner."""

    def deploy(self, model_uri: str, *, canary: int = 100) -> Status:
        """Serve a version beside the live one, and give it its share of the requests."""

    def status(self) -> Status:
        """What is deployed now."""

    def rollback(self) -> Status:
        """Give all requests back to the version that had them before."""

    def undeploy(self) -> None:
        """Stop the endpoint and remove what its deployment wrote."""

    def score(self, instances: Any) -> list[Any]:
        """Predictions of the endpoint, one for each row of a table or of the arrays of its columns."""
