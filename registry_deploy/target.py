"""What is deployed behind an endpoint, and the error that every deployment target raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click


class DeploymentError(click.ClickException):
    """What a user can cause or a server can answer: a line that says what, where and what to do, then perhaps a log."""


@dataclass(frozen=True)
class Colour:
    """One of the versions behind an endpoint.

    model_name, model_version: the registered version that it serves.
    state: the target's own word for its condition; `Succeeded` on Azure means that it is ready to serve.
    traffic: share of the endpoint's requests that it answers, in percent.
    identity: which model it holds, on which machines; empty where it cannot be given requests again.
    """

    model_name: str
    model_version: str
    state: str
    traffic: int
    identity: str = ""


@dataclass(frozen=True)
class Status:
    """An endpoint at one moment.

    endpoint: its name. scoring_uri: where requests are sent. colours: the versions behind it, by colour.
    previous: the colour to roll back to, where there is one.
    recording: what has been recorded of its requests, in words; empty where nothing is.
    found: what the target itself has read.
    """

    endpoint: str
    scoring_uri: str = ""
    colours: Mapping[str, Colour] = field(default_factory=dict)
    previous: str = ""
    recording: str = ""
    found: Any = field(default=None, repr=False, compare=False)

    @property
    def live(self) -> dict[str, int]:
        """The colours that have requests, in percent."""
        return {name: colour.traffic for name, colour in self.colours.items() if colour.traffic}

    @property
    def serving(self) -> Colour | None:
        """The colour that answers every request, None where none or several do."""
        return next((colour for colour in self.colours.values() if colour.traffic == 100), None)
