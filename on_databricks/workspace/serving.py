"""Model Serving: endpoints whose served entities are really asked, each its share of the requests."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from answers import Fields, Refusal, api, required

NAME = r"[A-Za-z0-9][\w-]{0,62}"
SIZES = ("Small", "Medium", "Large")


class Serving:
    """Endpoints, kept in serving/<name>.json. A model is loaded into this process when it is first needed.

    On Databricks each served entity is a container with the model's own packages, which takes minutes to be built.

    folder: the workspace's; its models are in `models`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "serving"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.models = folder / "models"
        self._loaded: dict[Path, Any] = {}
        self._lock = threading.Lock()
        self._endpoints = {path.stem: json.loads(path.read_text("utf-8")) for path in self.folder.glob("*.json")}

    def create(self, given: Fields) -> Fields:
        """POST serving-endpoints."""
        name = str(required(given, "name"))
        if not re.fullmatch(NAME, name):
            raise Refusal(f"Endpoint name {name} must be letters, digits, - and _, at most 63 of them.")
        if name in self._endpoints:
            raise Refusal(f"Endpoint with name '{name}' already exists.", "RESOURCE_ALREADY_EXISTS")
        config = self._checked(required(given, "config"))
        self._endpoints[name] = {"name": name, "tags": given.get("tags") or [], "state": {"ready": "NOT_READY"}}
        return self._begin(self._endpoints[name], config)

    def update(self, given: Fields) -> Fields:
        """PUT serving-endpoints/<name>/config: the old configuration serves until the new one can."""
        endpoint, config = self._found(given), self._checked(given)
        if endpoint["state"]["config_update"] == "IN_PROGRESS":
            message = f"Endpoint {endpoint['name']} is being updated: wait until its update has ended."
            raise Refusal(message, "RESOURCE_CONFLICT")
        return self._begin(endpoint, config)

    def delete(self, given: Fields) -> None:
        """DELETE serving-endpoints/<name>."""
        name = self._found(given)["name"]
        del self._endpoints[name]
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    async def invoke(self, request: Request) -> Response:
        """POST serving-endpoints/<name>/invocations, or .../served-models/<entity>/invocations for one of them."""
        endpoint, body = self._found(request.path_params), (await request.body()).decode(errors="replace")
        if "config" not in endpoint:
            raise Refusal(f"Endpoint {endpoint['name']} is not ready.", "BAD_REQUEST")
        entities = {each["name"]: each for each in endpoint["config"]["served_entities"]}
        shares = {
            each["served_model_name"]: each["traffic_percentage"]
            for each in endpoint["config"]["traffic_config"]["routes"]
        }
        chosen = request.path_params.get("entity") or random.choices(list(shares), list(shares.values()))[0]
        if chosen not in entities:
            raise Refusal(f"Endpoint {endpoint['name']} has no served entity {chosen}.", "RESOURCE_DOES_NOT_EXIST")
        status, answer = await run_in_threadpool(self._answer, entities[chosen], body)
        return Response(answer, status, {"served-model-name": chosen}, "application/json")

    def routes(self) -> list[Route]:
        one = "/api/2.0/serving-endpoints/{name}"
        return [
            api("POST", "/api/2.0/serving-endpoints", self.create),
            api("GET", one, self._found),
            api("DELETE", one, self.delete),
            api("PUT", f"{one}/config", self.update),
            Route("/serving-endpoints/{name}/invocations", self.invoke, methods=["POST"]),
            Route("/serving-endpoints/{name}/served-models/{entity}/invocations", self.invoke, methods=["POST"]),
        ]

    def _found(self, given: Fields) -> Fields:
        if given["name"] not in self._endpoints:
            raise Refusal(f"Endpoint with name '{given['name']}' does not exist.", "RESOURCE_DOES_NOT_EXIST")
        return self._endpoints[given["name"]]

    def _checked(self, config: Fields) -> Fields:
        """A configuration with the names and the traffic that follow where they are not given; raises Refusal."""
        entities = []
        for entity in config.get("served_entities") or []:
            model, version = required(entity, "entity_name"), required(entity, "entity_version")
            entity = {"name": f"{model.rpartition('.')[2]}-{version}", **entity}
            if len(model.split(".")) != 3:
                raise Refusal(f"{model}: only models of Unity Catalog, <catalog>.<schema>.<model>, are served.")
            if not self._place(entity).is_dir():
                raise Refusal(f"Version {version} of {model} does not exist.", "RESOURCE_DOES_NOT_EXIST")
            if entity.get("workload_size") not in SIZES:
                raise Refusal(f"workload_size of {entity['name']} must be one of {', '.join(SIZES)}.")
            entities.append(entity)
        names = [each["name"] for each in entities]
        if not entities or len(set(names)) < len(names):
            raise Refusal("A configuration needs served_entities, each with a name of its own.")
        routes = (config.get("traffic_config") or {}).get("routes") or []
        routes = routes or [{"served_model_name": names[0], "traffic_percentage": 100}]
        routes = [{"served_model_name": each.get("served_entity_name"), **each} for each in routes]
        if sum(each["traffic_percentage"] for each in routes) != 100:
            raise Refusal("The traffic percentages of all routes must sum to 100.")
        if unknown := {each["served_model_name"] for each in routes} - set(names):
            raise Refusal(f"The route to {unknown.pop()} names no served entity.")
        return {"served_entities": entities, "traffic_config": {"routes": routes}}

    def _begin(self, endpoint: Fields, config: Fields) -> Fields:
        endpoint["pending_config"] = config
        endpoint["state"]["config_update"] = "IN_PROGRESS"
        if all(self._place(each) in self._loaded for each in config["served_entities"]):
            self._finish(endpoint, config)
        else:
            threading.Thread(target=self._finish, args=(endpoint, config), daemon=True).start()
        return endpoint

    def _finish(self, endpoint: Fields, config: Fields) -> None:
        """Load the models of a configuration, then let it serve; where one cannot be loaded, the old one goes on."""
        update = "NOT_UPDATING"
        for entity in config["served_entities"]:
            try:
                self._model(entity)
                entity["state"] = {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
            except Exception as error:  # a model may raise anything while it loads
                message = f"{type(error).__name__}: {error}"
                entity["state"] = {"deployment": "DEPLOYMENT_FAILED", "deployment_state_message": message}
                update = "UPDATE_FAILED"
        if update == "NOT_UPDATING":
            endpoint |= {"config": config, "last_updated_timestamp": round(time.time() * 1000)}
            endpoint["state"]["ready"] = "READY"
            del endpoint["pending_config"]  # that of a failed update is shown until the next one
        endpoint["state"]["config_update"] = update
        (self.folder / f"{endpoint['name']}.json").write_text(json.dumps(endpoint, indent=2), encoding="utf-8")

    def _place(self, entity: Fields) -> Path:
        return self.models.joinpath(*entity["entity_name"].split("."), entity["entity_version"])

    def _model(self, entity: Fields) -> Any:
        import mlflow.pyfunc

        place = self._place(entity)
        with self._lock:
            if place not in self._loaded:
                self._loaded[place] = mlflow.pyfunc.load_model(str(place))
            return self._loaded[place]

    def _answer(self, entity: Fields, body: str) -> tuple[int, str]:
        """Status and body: what MLflow's own scoring server would answer."""
        from mlflow.pyfunc.scoring_server import invocations

        model = self._model(entity)
        try:
            found = invocations(body, "application/json", model, model.metadata.get_input_schema())
            return found.status, found.response
        except Exception as error:
            return 400, json.dumps({"error_code": "BAD_REQUEST", "message": str(error)})
