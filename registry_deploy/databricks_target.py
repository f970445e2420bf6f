"""Serves a registered model of Unity Catalog on Databricks Model Serving, blue/green.

Served entities named `blue`, `green` and `amber` stand behind one endpoint. A new version goes to a colour without
traffic, must answer its own input example as it answers it here, and only then receives requests; the old one stays.

It was run with the unmodified Databricks SDK against the local workspace of this collection, never on a live one.
Credentials come from the environment or a profile alone: nothing here reads, keeps or logs a secret.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

from candidate import Candidate, fetch, serving_input, shares
from model_files import reason
from target import Colour, DeploymentError, Status, check_canary

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServedEntityOutput

# A new version goes to the colour after the live one. So of two colours the one that follows the other is the newer,
# and the endpoint itself says what a rollback goes back to.
COLOURS = ("blue", "green", "amber")
SIZES = ("Small", "Medium", "Large")
BUILDING = timedelta(minutes=60)  # Databricks builds a container with the model's packages
PATIENCE = 300  # seconds for which the SDK asks a busy endpoint again, or one that wakes from zero
PRICES = "https://www.databricks.com/product/pricing/model-serving"
ADVICE = {
    "BadRequest": "correct what it names: a request needs the columns and types of the model's signature",
    "InvalidParameterValue": "correct what it names",
    "NotFound": "look at the endpoint's name, and deploy a version first",
    "PermissionDenied": "ask for CAN MANAGE and CAN QUERY on the endpoint, and EXECUTE on the model",
    "ResourceConflict": "another change to this endpoint is under way: wait until it has ended and try again",
    "ResourceExhausted": "wait a minute, or deploy with a larger size",
    "Unauthenticated": "sign in: DATABRICKS_HOST with DATABRICKS_TOKEN, or DATABRICKS_CONFIG_PROFILE",
}


@dataclass(frozen=True)
class _Endpoint:
    """What an endpoint serves now.

    entities: by colour. traffic: percent by colour, without those that have none.
    """

    entities: Mapping[str, ServedEntityOutput]
    traffic: Mapping[str, int]

    @property
    def content(self) -> tuple[object, ...]:
        """What can be compared with another moment: which version stands where, and its traffic."""
        held = {name: (each.entity_name, each.entity_version) for name, each in self.entities.items()}
        return held, {name: percent for name, percent in self.traffic.items() if percent}

    @property
    def newest(self) -> str:
        """The colour of the last deploy: of those with traffic the one that follows the other."""
        return next((name for name in self.traffic if _before(name) in self.traffic), next(iter(self.traffic), ""))

    @property
    def previous(self) -> str:
        """The colour that had the requests before the last deploy, where it is still there."""
        before = _before(self.newest) if self.newest else ""
        return before if before in self.entities else ""


class DatabricksTarget:
    """An endpoint of Model Serving and the versions behind it: a `target.Target`.

    name: the endpoint's name, unique in its workspace.
    workload_size: Small, Medium or Large; all of them scale to zero.
    say: where progress is told.

    Raises DeploymentError: Databricks would refuse the name or the size, or its workspace cannot be reached.
    """

    kind = "databricks"

    def __init__(self, name: str, *, workload_size: str = "Small", say: Callable[[str], None] = print) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise DeploymentError(f"endpoint {name!r}: expected at most 63 letters, digits, - and _")
        if workload_size not in SIZES:
            raise DeploymentError(f"workload_size={workload_size!r}: expected {', '.join(SIZES)}")
        self.name = name
        self._size = workload_size
        self._say = say
        self._client = _connect()
        self._begun: _Endpoint | None = None  # what a deploy has asked for last

    @property
    def owner(self) -> str:
        """The address of the workspace that holds the endpoint."""
        return str(self._client.config.host)

    def deploy(self, model_uri: str, *, canary: int = 100) -> Status:
        """Serve a model version, after it has answered its own input example on Databricks as it does here.

        The same call with a higher `canary` takes a canary further. Nothing but the percentages changes for the
        requests that arrive meanwhile.

        model_uri: `models:/catalog.schema.name@alias` or `models:/catalog.schema.name/version`.
        canary: percent of the requests that the new version answers; the first version gets 100.

        Raises DeploymentError: the endpoint is as it was, and what was begun is removed.
        """
        check_canary(canary)
        if not mlflow.get_registry_uri().startswith("databricks"):
            where = f"the registry is {mlflow.get_registry_uri()}"
            raise DeploymentError(f"target=databricks: {where}; export MLFLOW_TRACKING_URI=databricks")
        with tempfile.TemporaryDirectory() as folder:
            model = fetch(model_uri, Path(folder))
            if model.name.count(".") != 2:
                raise DeploymentError(
                    f"model_uri={model_uri!r}: expected a model of Unity Catalog, catalog.schema.name"
                )
            before = self._read()
            colour, ready = self._place(model, before)
            traffic = dict(before.traffic) if before else {}
            if ready and traffic.get(colour) == 100:
                self._say(f"{self.name} already serves {model.title} from {colour}")
                return self.status()
            self._begun, now = None, before
            entities = {**(before.entities if before else {}), colour: self._entity(model, colour)}
            wanted = shares(traffic, colour, canary)
            try:
                if not ready:
                    self._say_cost(model, colour, entities.keys() - {colour})
                    now = self._configure(_Endpoint(entities, traffic or {colour: 100}), before)
                model.check(self.score(model.example, colour), f"{colour} of {self.name}")
                self._say(f"{model.title}: {colour} answers the model's input example as it should")
                # The one that was live stays for a rollback; the one that was kept for it before goes.
                live = {name: each for name, each in entities.items() if name in (*traffic, colour)}
                self._configure(_Endpoint(live, wanted), now)
            except BaseException as error:
                if trouble := self._undo(before):
                    raise DeploymentError(f"{error}; {trouble}") from error
                raise
        self._say(f"{self.name}: {model.title} answers {wanted[colour]} % of the requests, from {colour}")
        return self.status()

    def status(self) -> Status:
        """The endpoint and its colours; without scoring URI and colours when nothing is deployed."""
        found = self._read()
        if found is None:
            return Status(endpoint=self.name, scoring_uri="")
        colours = {}
        for name, entity in sorted(found.entities.items()):
            state = entity.state.deployment.value if entity.state and entity.state.deployment else ""
            model = str(entity.entity_name), str(entity.entity_version)
            colours[name] = Colour(*model, state, found.traffic.get(name, 0))
        return Status(self.name, f"{self.owner}/serving-endpoints/{self.name}/invocations", colours)

    def rollback(self) -> Status:
        """Send every request to the version that had them before the last `deploy`, and remove the one that is left.

        A second rollback in a row is refused: the version that was left is not good again.
        """
        found = self._read()
        if found is None:
            raise DeploymentError(f"{self.name}: no such endpoint in {self.owner}; deploy one first")
        if not found.previous:
            raise DeploymentError(f"{self.name}: nothing to roll back to; deploy the version that you want instead")
        self._configure(_Endpoint({found.previous: found.entities[found.previous]}, {found.previous: 100}), found)
        self._say(f"{self.name}: every request goes to {found.previous} again")
        return self.status()

    def undeploy(self) -> None:
        """Delete the endpoint; Databricks bills it no more. Registered models stay."""
        if self._read() is None:
            self._say(f"{self.name}: nothing is deployed")
            return
        with _explained(f"deleting endpoint {self.name}"):
            self._client.serving_endpoints.delete(self.name)
        self._say(f"{self.name}: deleted; it is billed no more")

    def _read(self) -> _Endpoint | None:
        """What the endpoint serves, or None when there is no such endpoint."""
        from databricks.sdk.errors import NotFound

        with _explained(f"reading endpoint {self.name}"):
            try:
                config = self._client.serving_endpoints.get(self.name).config
            except NotFound:
                return None
        entities = {str(each.name): each for each in (config.served_entities if config else None) or []}
        routes = (config.traffic_config.routes if config and config.traffic_config else None) or []
        if others := ", ".join(sorted(entities.keys() - set(COLOURS))):
            raise DeploymentError(
                f"{self.name}: serves {others}, which this project has not deployed: take another name"
            )
        named = {str(each.served_entity_name or each.served_model_name): each.traffic_percentage for each in routes}
        traffic = {name: percent for name, percent in named.items() if percent}
        return _Endpoint(entities, traffic)

    def _place(self, model: Candidate, before: _Endpoint | None) -> tuple[str, bool]:
        """Choose the colour for a version, and whether the version already stands ready in it."""
        if before is None or not before.traffic:
            return COLOURS[0], False
        for name in before.traffic:
            held = before.entities[name]
            here = (held.entity_name, held.entity_version, held.workload_size)
            if here == (model.name, model.version, self._size):
                return name, True
        if len(before.traffic) > 1:
            shared = f"a canary is under way {dict(before.traffic)}"
            raise DeploymentError(f"{self.name}: {shared}: take it to 100 or roll it back first")
        return _after(before.newest), False

    def _say_cost(self, model: Candidate, colour: str, kept: Set[str]) -> None:
        also = f", beside {' and '.join(sorted(kept))}, which is billed as before" if kept else ""
        self._say(
            f"{model.title} goes to {colour}: size {self._size}{also}. Databricks bills it while it serves; after 30"
            f" minutes without requests it scales to zero, and the next request waits. Prices: {PRICES}"
        )

    def _entity(self, model: Candidate, colour: str) -> ServedEntityOutput:
        from databricks.sdk.service.serving import ServedEntityOutput

        return ServedEntityOutput(
            name=colour,
            entity_name=model.name,
            entity_version=model.version,
            workload_size=self._size,
            scale_to_zero_enabled=True,
        )

    def _configure(self, wanted: _Endpoint, before: _Endpoint | None) -> _Endpoint:
        """Let the endpoint serve what is wanted, in one change; what it serves now answers until then.

        before: what was read. Raises DeploymentError where somebody has changed the endpoint since, or a version fails.
        """
        from databricks.sdk.errors import OperationFailed
        from databricks.sdk.service.serving import EndpointCoreConfigInput, Route, ServedEntityInput, TrafficConfig

        given = ("name", "entity_name", "entity_version", "workload_size", "workload_type", "scale_to_zero_enabled")
        served = [ServedEntityInput(**{key: getattr(each, key) for key in given}) for each in wanted.entities.values()]
        routes = [Route(wanted.traffic.get(name, 0), served_entity_name=name) for name in wanted.entities]
        found, endpoints = self._read(), self._client.serving_endpoints
        if (found and found.content) != (before and before.content):
            raise DeploymentError(f"{self.name}: somebody else has changed it meanwhile: look at its status, try again")
        if found and found.content == wanted.content:
            return found
        with _explained(f"changing endpoint {self.name}"):
            if before is None:
                core = EndpointCoreConfigInput(self.name, served_entities=served, traffic_config=TrafficConfig(routes))
                change = endpoints.create(self.name, config=core)
            else:
                change = endpoints.update_config(
                    self.name, served_entities=served, traffic_config=TrafficConfig(routes)
                )
            self._begun = wanted
            try:
                change.result(timeout=BUILDING)
            except OperationFailed as error:
                pending = endpoints.get(self.name).pending_config
                states = [each.state for each in (pending.served_entities if pending else None) or [] if each.state]
                why = "; ".join(state.deployment_state_message for state in states if state.deployment_state_message)
                raise OperationFailed(why or str(error)) from error
        return wanted

    def _undo(self, before: _Endpoint | None) -> str:
        """Take back what a failed deploy has changed, and nothing that another has; returns what could not be."""
        from databricks.sdk.errors import OperationFailed

        ours, self._begun = self._begun, None
        if ours is None:
            return ""
        try:
            with suppress(OperationFailed):  # one that failed has changed nothing
                self._client.serving_endpoints.wait_get_serving_endpoint_not_updating(self.name)
            now = self._read()
            if before is None and now and (not now.entities or now.content == ours.content):
                self._client.serving_endpoints.delete(self.name)
            elif before and now and now.content == ours.content:
                self._configure(before, now)
        except Exception as error:
            return f"and cleaning up failed ({reason(error)}): look at endpoint {self.name}, what runs there is billed"
        return ""

    def score(self, instances: Any, colour: str = "") -> list[Any]:
        """Predictions of the versions that have traffic, one for each row, or of one colour whatever its traffic."""
        path = f"/serving-endpoints/{self.name}{f'/served-models/{colour}' if colour else ''}/invocations"
        with _explained(f"asking {self.name}{f' ({colour})' if colour else ''}"):
            answer: Any = self._client.api_client.do("POST", path, body=json.loads(serving_input(instances)))
        return list(answer["predictions"])


def _before(colour: str) -> str:
    return COLOURS[COLOURS.index(colour) - 1]


def _after(colour: str) -> str:
    return COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)]


def _connect() -> WorkspaceClient:
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.config import Config
    except ImportError as error:
        raise DeploymentError(f"target=databricks: {error}; install registry_deploy/requirements.txt") from error
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    with _explained("connecting to Databricks"):
        return WorkspaceClient(config=Config(retry_timeout_seconds=PATIENCE, http_timeout_seconds=120))


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn whatever Databricks answers into one line: what was being done, the answer, what to do."""
    from databricks.sdk.errors import DatabricksError, OperationFailed

    try:
        yield
    except (DatabricksError, OperationFailed, OSError, ValueError, LookupError) as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        sign_in = ADVICE["Unauthenticated"] if isinstance(error, ValueError) else "try again, and look at its page"
        advice = next((ADVICE[kind] for kind in kinds if kind in ADVICE), sign_in)
        answer = reason(str(error).partition(" Config: ")[0]).rstrip(".")
        raise DeploymentError(f"{doing}: {answer}; {advice}") from error
