"""How a version goes live, the same on every target: start it beside the live one, test it, give it its share.

If anything fails meanwhile, what was begun is taken back. A target only says how a version is started, asked, given
requests and removed where it serves.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from candidate import Candidate, fetch, serving_input
from model_files import reason
from target import DeploymentError, Status


class Target(ABC):
    """An endpoint and the versions behind it, one in each colour. Each verb that raises has changed nothing.

    kind: where it serves. name: of the endpoint. say: where progress is told.
    env_manager: `local` asks a model for its own answers in this environment, `uv` in the one that it asks for.
    """

    kind: ClassVar[str]
    # The third is for a new version while two are kept: the live one and the one to roll back to.
    colours: ClassVar[tuple[str, ...]] = ("blue", "green", "amber")
    name: str
    say: Callable[[str], object]
    env_manager: str = "local"

    def deploy(self, model_uri: str, *, canary: int = 100) -> Status:
        """Serve a model version beside the live one, after it has answered its own input example as it does here.

        A version that is up is not started again, so the same call with a higher `canary` takes a canary further.

        model_uri: `models:/name@alias` or `models:/name/version`; an alias is pinned to the version that it means now.
        canary: percent of the requests that the version answers, 1 to 100; it gets all where nothing else has any.

        Raises DeploymentError: the traffic is as it was, and what was begun is removed.
        """
        if not 1 <= canary <= 100:
            raise DeploymentError(f"canary={canary}: expected a percentage from 1 to 100")
        with self._changing("deploy") as folder:
            model = fetch(model_uri, folder, self.env_manager)
            self._check(model)
            before = self.status()
            colour, new = self._place(model, before)
            wanted, previous = before.live, before.previous
            if new or wanted.get(colour, 0) not in (canary, 100):
                wanted, previous = shares(before.live, colour, canary)
            with self._undone(before, colour, wanted):
                if new:
                    also = " and ".join(sorted({*before.colours} - {colour}))
                    beside = f", beside {also}: nothing changes there" if also else ""
                    self.say(f"{model.title} goes to {colour}{beside}.{self._cost()}")
                    self._start(model, colour, before)
                if wanted != before.live and model.request is not None:
                    model.check(self._ask(model.request, colour), f"{colour} of {self.name}")
                    self.say(f"{model.title}: {colour} answers the model's input example as it should")
                self._route(before, wanted, previous)
            self._tidy(before, {*wanted, colour, previous})
            alone = f" (not {canary} %: no other version has any)" if canary < wanted[colour] else ""
            self.say(f"{self.name}: {model.title} answers {wanted[colour]} % of the requests{alone}, from {colour}")
            return self.status()

    def rollback(self) -> Status:
        """Give all requests back to the version that had them before the last `deploy`, in one change of traffic.

        A second rollback in a row is refused: the version that was left is not good again; deploy it to take it again.
        """
        with self._changing("rollback"):
            before = self._deployed()
            if not before.previous:
                raise DeploymentError(f"{self.name}: nothing to roll back to; deploy the version that you want instead")
            wanted = {before.previous: 100}
            with self._undone(before, "", wanted):
                self._route(before, wanted, "")
            self.say(f"{self.name}: every request goes to {before.previous} again")
            return self.status()

    def undeploy(self) -> bool:
        """Stop the endpoint and remove what its deployment wrote; whether there was one. Registered models stay."""
        with self._changing("undeploy"):
            return self._remove()

    def score(self, instances: Any) -> list[Any]:
        """Predictions of the endpoint, one for each row of a table or of the arrays of its columns.

        Raises DeploymentError: nothing is deployed, it cannot be reached, or the model refuses the instances.
        """
        predictions = self._ask(serving_input(instances))
        return predictions if isinstance(predictions, list) else [predictions]

    @property
    @abstractmethod
    def owner(self) -> str:
        """Machine and directory, or workspace: an endpoint of the same name elsewhere has another owner."""

    @abstractmethod
    def status(self) -> Status:
        """What is deployed now; without colours when nothing is."""

    def _nothing(self) -> DeploymentError:
        return DeploymentError(f"{self.name} is not deployed in {self.owner}: deploy a version first")

    def _deployed(self) -> Status:
        status = self.status()
        if not status.colours:
            raise self._nothing()
        return status

    def _place(self, model: Candidate, before: Status) -> tuple[str, bool]:
        """The colour for a version, and whether it has to be started there."""
        live, identity = before.live, self._identity(model)
        for name in sorted(before.colours, key=lambda each: -before.colours[each].traffic):
            if before.colours[name].identity == identity:
                return name, False
        if len(live) > 1:
            told = ", ".join(f"version {before.colours[name].model_version} {live[name]} %" for name in live)
            raise DeploymentError(f"{self.name}: a canary is under way ({told}): take it to 100 or roll it back first")
        after = self.colours.index(next(iter(live))) + 1 if live else 0
        free = [name for name in self.colours[after:] + self.colours[:after] if name not in live]
        # A deploy that fails must not take away what can be rolled back to.
        return next((name for name in free if name != before.previous), free[0]), True

    @contextmanager
    def _undone(self, before: Status, colour: str, wanted: dict[str, int]) -> Iterator[None]:
        """Take back what the block has begun, where it fails."""
        try:
            yield
        except BaseException as error:  # Ctrl-C too
            line = str(error) or type(error).__name__
            try:
                log = self._undo(before, colour, wanted)
            except Exception as trouble:
                left = f"look at endpoint {self.name}, a cloud bills what still runs there"
                raise DeploymentError(f"{line}; and cleaning up failed ({reason(trouble)}): {left}") from error
            if isinstance(error, DeploymentError):
                raise DeploymentError(f"{line}; {self._traffic_now(before)}\n{log}".rstrip()) from error
            raise

    def _traffic_now(self, before: Status) -> str:
        """What a failed deploy has left of the traffic; somebody else may have changed it meanwhile."""
        try:
            same = self.status().live == before.live
        except DeploymentError:
            same = False
        return "the traffic is as it was" if same else "look at its status, whether the traffic is as it was"

    # What a target says

    @contextmanager
    def _changing(self, operation: str) -> Iterator[Path]:
        """Keep others from changing the endpoint meanwhile, where that can be; yields a folder for the model."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    @abstractmethod
    def _check(self, model: Candidate) -> None:
        """Raise DeploymentError where a version cannot be served here: before anything is begun."""

    @abstractmethod
    def _identity(self, model: Candidate) -> str:
        """The `identity` of the colour that holds a version on the machines that are asked for."""

    def _cost(self) -> str:
        """What will be billed."""
        return ""

    @abstractmethod
    def _start(self, model: Candidate, colour: str, before: Status) -> None:
        """Start a version in a colour without requests, and wait until it is ready."""

    @abstractmethod
    def _ask(self, request: str, colour: str = "") -> Any:
        """The predictions for a request to MLflow's scoring server, of one colour or of those that have traffic."""

    @abstractmethod
    def _route(self, before: Status, traffic: dict[str, int], previous: str) -> None:
        """Change who answers, in one step, and keep which colour to roll back to."""

    @abstractmethod
    def _undo(self, before: Status, colour: str, wanted: dict[str, int]) -> str:
        """Take back what this object has begun, and nothing that another has; returns the log of what it removes."""

    def _tidy(self, before: Status, kept: Collection[str]) -> None:  # noqa: B027
        """Remove the versions that neither serve nor can be rolled back to, where `_route` has not."""

    @abstractmethod
    def _remove(self) -> bool:
        """Take the endpoint down; whether there was one."""


def need_example(model: Candidate) -> None:
    """Raise DeploymentError where a version has no input example: what costs money is not served untested."""
    if model.request is None:
        raise DeploymentError(f"{model.title}: has no input example to test it with; log it with input_example=")


def shares(traffic: dict[str, int], colour: str, canary: int) -> tuple[dict[str, int], str]:
    """The traffic after a deploy, in percent, and the colour to roll back to.

    traffic: the colours that have requests now; where there is no other, the colour gets them all.
    """
    other = next((name for name in traffic if name != colour), "")
    return ({colour: canary, other: 100 - canary} if other and canary < 100 else {colour: 100}), other
