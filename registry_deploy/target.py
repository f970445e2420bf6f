"""What every deployment target has in common: the error it raises and the state it reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field


class DeploymentError(Exception):
    """What a user can cause or a server can answer, in one line that says what, where and what to do."""


@dataclass(frozen=True)
class Colour:
    """One of the two deployments behind an endpoint.

    Attributes:
        model_name: registered model that it serves.
        model_version: version of that model.
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

    Attributes:
        endpoint: its name.
        scoring_uri: where requests are sent.
        colours: the deployments behind it, by colour (`blue`, `green`).
    """

    endpoint: str
    scoring_uri: str
    colours: Mapping[str, Colour] = field(default_factory=dict)
