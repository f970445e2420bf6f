"""Serves a registered model of Unity Catalog on Databricks Model Serving: a `rollout.Target`.

It was run with the unmodified Databricks SDK against the local workspace of this collection, never on a live one.
Credentials come from the environment or a profile alone: nothing here reads, keeps or logs a secret.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError, NotFound, OperationFailed
from databricks.sdk.service import serving

from candidate import Candidate, predictions_of
from model_files import reason
from rollout import Target, need_example
from target import Colour, DeploymentError, Status

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
    """What an endpoint serves.

    entities: by colour. traffic: percent by colour, without those that have none.
    """

    entities: Mapping[str, serving.ServedEntityOutput]
    traffic: Mapping[str, int]

    @property
    def content(self) -> tuple[object, ...]:
        """What can be compared with another moment: which version stands where, and its traffic."""
        return {name: (each.entity_name, each.entity_version) for name, each in self.entities.items()}, self.traffic


class DatabricksTarget(Target):
    """An endpoint of Model Serving and the versions behind it.

    name: the endpoint's name, unique in its workspace.
    workload_size: Small, Medium or Large; all of them scale to zero.
    say: where progress is told.

    Raises DeploymentError: Databricks would refuse the name or the size, or its workspace cannot be reached.
    """

    kind = "databricks"

    def __init__(self, name: str, *, workload_size: str = "Small", say: Callable[[str], object] = print) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise DeploymentError(f"endpoint {name!r}: expected at most 63 letters, digits, - and _")
        if workload_size not in SIZES:
            raise DeploymentError(f"workload_size={workload_size!r}: expected {', '.join(SIZES)}")
        self.name = name
        self.say = say
        self._size = workload_size
        logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
        with _explained("connecting to Databricks"):
            config = Config(retry_timeout_seconds=PATIENCE, http_timeout_seconds=120)
            self._client = WorkspaceClient(config=config)
        self._begun: _Endpoint | None = None  # what was asked for since the last status

    @property
    def owner(self) -> str:
        """The address of the workspace that holds the endpoint."""
        return str(self._client.config.host)

    def status(self) -> Status:
        """The endpoint and its colours; without scoring URI and colours when nothing is deployed."""
        found, self._begun = self._read(), None
        if found is None:
            return Status(self.name)
        colours = {}
        for name, held in sorted(found.entities.items()):
            state = held.state.deployment.value if held.state and held.state.deployment else ""
            model, traffic = (str(held.entity_name), str(held.entity_version)), found.traffic.get(name, 0)
            # One without requests is not taken again: which is the newer would no longer be known.
            colours[name] = Colour(*model, state, traffic, f"{model} {held.workload_size}" if traffic else "")
        uri = f"{self.owner}/serving-endpoints/{self.name}/invocations"
        # A new version goes to the colour after the live one, so of two colours the one before is the older.
        live = [name for name in found.traffic if self._colour_before(name) in found.entities]
        previous = self._colour_before(live[0]) if live else ""
        return Status(self.name, uri, colours, previous, found=found)

    def _colour_before(self, colour: str) -> str:
        return self.colours[self.colours.index(colour) - 1]

    def _read(self) -> _Endpoint | None:
        """What the endpoint serves, or None when there is no such endpoint."""
        with _explained(f"reading endpoint {self.name}"):
            try:
                config = self._client.serving_endpoints.get(self.name).config
            except NotFound:
                return None
        entities = {str(each.name): each for each in (config.served_entities if config else None) or []}
        if others := ", ".join(sorted(entities.keys() - set(self.colours))):
            raise DeploymentError(
                f"{self.name}: serves {others}, which this project has not deployed: take another name"
            )
        routes = (config.traffic_config.routes if config and config.traffic_config else None) or []
        named = {str(each.served_entity_name or each.served_model_name): each.traffic_percentage for each in routes}
        return _Endpoint(entities, {name: percent for name, percent in named.items() if percent})

    @contextmanager
    def _changing(self, operation: str) -> Iterator[Path]:
        registry = mlflow.get_registry_uri()
        if operation == "deploy" and not registry.startswith("databricks"):
            told = f"target=databricks: the registry is {registry}; export MLFLOW_TRACKING_URI=databricks"
            raise DeploymentError(told)
        with super()._changing(operation) as folder:
            yield folder

    def _check(self, model: Candidate) -> None:
        if model.name.count(".") != 2:
            raise DeploymentError(f"model_uri={model.uri!r}: expected a model of Unity Catalog, catalog.schema.name")
        need_example(model)

    def _identity(self, model: Candidate) -> str:
        return f"{(model.name, model.version)} {self._size}"

    def _cost(self) -> str:
        idle = "after 30 minutes without requests it scales to zero, and the next request waits"
        return f" Its size is {self._size}. Databricks bills it while it serves; {idle}. Prices: {PRICES}"

    def _start(self, model: Candidate, colour: str, before: Status) -> None:
        entity = serving.ServedEntityOutput(
            name=colour,
            entity_name=model.name,
            entity_version=model.version,
            workload_size=self._size,
            scale_to_zero_enabled=True,
        )
        entities = before.found.entities if before.found else {}
        self._configure(_Endpoint({**entities, colour: entity}, before.live or {colour: 100}), before.found)

    def _ask(self, request: str, colour: str = "") -> Any:
        path = f"/serving-endpoints/{self.name}{f'/served-models/{colour}' if colour else ''}/invocations"
        with _explained(f"asking {self.name}{f' ({colour})' if colour else ''}"):
            return predictions_of(self._client.api_client.do("POST", path, body=json.loads(request)))

    def _route(self, before: Status, traffic: dict[str, int], previous: str) -> None:
        """One change of the configuration; what neither serves nor can be rolled back to goes with it."""
        now = self._begun or before.found
        kept = {name: each for name, each in now.entities.items() if name in (*traffic, previous)}
        self._configure(_Endpoint(kept, traffic), now)

    def _configure(self, wanted: _Endpoint, before: _Endpoint | None) -> None:
        """Let the endpoint serve what is wanted, in one change; what it serves now answers until then.

        before: what was read. Raises DeploymentError where somebody has changed the endpoint since, or a version fails.
        """
        given = ("name", "entity_name", "entity_version", "workload_size", "workload_type", "scale_to_zero_enabled")
        served = [
            serving.ServedEntityInput(**{key: getattr(each, key) for key in given}) for each in wanted.entities.values()
        ]
        routes = [serving.Route(wanted.traffic.get(name, 0), served_entity_name=name) for name in wanted.entities]
        traffic = serving.TrafficConfig(routes)
        found, endpoints = self._read(), self._client.serving_endpoints
        if (found and found.content) != (before and before.content):
            raise DeploymentError(f"{self.name}: somebody else has changed it meanwhile: look at its status, try again")
        if found and found.content == wanted.content:
            return
        with _explained(f"changing endpoint {self.name}"):
            if before is None:
                core = serving.EndpointCoreConfigInput(self.name, served_entities=served, traffic_config=traffic)
                change = endpoints.create(self.name, config=core)
            else:
                change = endpoints.update_config(self.name, served_entities=served, traffic_config=traffic)
            self._begun = wanted
            try:
                change.result(timeout=BUILDING)
            except OperationFailed as error:
                pending = endpoints.get(self.name).pending_config
                states = [each.state for each in (pending.served_entities if pending else None) or [] if each.state]
                why = "; ".join(state.deployment_state_message for state in states if state.deployment_state_message)
                raise OperationFailed(why or str(error)) from error

    def _undo(self, before: Status, colour: str, wanted: dict[str, int]) -> str:
        ours = self._begun
        if ours is None:
            return ""
        with suppress(OperationFailed):  # one that failed has changed nothing
            self._client.serving_endpoints.wait_get_serving_endpoint_not_updating(self.name)
        now = self._read()
        if before.found is None and now and (not now.entities or now.content == ours.content):
            self._remove()
        elif before.found and now and now.content == ours.content:
            self._configure(before.found, now)
        return ""

    def _remove(self) -> bool:
        """Delete the endpoint; Databricks bills it no more."""
        if self._read() is None:
            return False
        with _explained(f"deleting endpoint {self.name}"):
            self._client.serving_endpoints.delete(self.name)
        return True


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn whatever Databricks answers into one line: what was being done, the answer, what to do."""
    try:
        yield
    except (DatabricksError, OperationFailed, OSError, ValueError, LookupError) as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        sign_in = ADVICE["Unauthenticated"] if isinstance(error, ValueError) else "try again, and look at its page"
        advice = next((ADVICE[kind] for kind in kinds if kind in ADVICE), sign_in)
        answer = reason(str(error).partition(" Config: ")[0]).rstrip(".")
        raise DeploymentError(f"{doing}: {answer}; {advice}") from error
