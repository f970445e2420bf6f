"""Serves a registered model on an Azure Machine Learning managed online endpoint: a `rollout.Target`.

It was run with the unmodified Azure client against a local stand-in of Azure, never on a live subscription.
Credentials come from the environment alone (DefaultAzureCredential): nothing here reads, keeps or logs a secret.
"""

import dataclasses
import json
import re
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import requests
import yaml
from azure.ai.ml import MLClient, entities
from azure.ai.ml.constants import AssetTypes
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from pydantic import Field

from candidate import Candidate
from model_files import reason
from rollout import Target, need_example
from target import Colour, DeploymentError, Status

HERE = Path(__file__).parent
# It asks for pydantic 2.11, so the environment of a model that pins another pydantic cannot be built.
INFERENCE_SERVER = "azureml-inference-server-http==1.4.1"
PRICES = "https://azure.microsoft.com/pricing/details/machine-learning/"
# The client's own 10 retries wait for minutes on a server that is down, and somebody waits for the answer.
RETRIES = 3
LOADING_SECONDS, PROBE_SECONDS = 300, 10  # a model may take five minutes to load
LOG_LINES = 60
ADVICE = {
    400: "correct what it names in the configuration",
    401: "sign in (`az login`, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET) and try again",
    403: "ask the workspace's owner for the role AzureML Data Scientist, and for the right to upload to its storage",
    404: "check subscription_id, resource_group, workspace_name and the endpoint's name",
    409: "another change to this endpoint is under way: wait until it has ended and try again",
    429: "too many requests or too little quota: wait a minute, or ask for quota, and try again",
}
SCORING_ADVICE = {
    401: "its keys have been changed just now: try again",
    404: "no version has traffic: deploy one",
    424: "the model refused the request: send the columns and types of its signature",
    429: "it has more requests than its instances take: send fewer at once, or raise instance_count",
}
Text = Annotated[str, Field(min_length=1)]


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True, extra="forbid"))
class AzureConfig:
    """Where to deploy and on which machines; holds no secret. A value of the wrong form raises ValidationError."""

    subscription_id: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    resource_group: Text
    workspace_name: Text
    instance_type: Text = "Standard_DS3_v2"
    instance_count: Annotated[int, Field(ge=1, le=50)] = 1  # of each colour
    request_timeout_seconds: Annotated[int, Field(ge=1, le=180)] = 60
    public_network_access: bool = True  # whether requests come from outside the workspace's network
    base_image: Text = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"  # under the model's own packages
    auth_mode: Literal["key", "aml_token", "aad_token"] = "key"  # how requests are let in

    @property
    def workspace(self) -> str:
        """The workspace's full name."""
        return f"{self.subscription_id}/{self.resource_group}/{self.workspace_name}"

    @classmethod
    def read(cls, path: str | Path = HERE / "azure.json", **changes: Any) -> "AzureConfig":
        """Read the configuration from a JSON file; `changes` replace its values.

        Raises DeploymentError: the file cannot be read, lacks a name, has an unknown one or holds a wrong value.
        """
        try:
            values = dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DeploymentError(f"config={path}: expected a JSON file: {error}") from error
        try:
            return cls(**{**values, **changes})
        except pydantic.ValidationError as error:
            wrong = error.errors()[0]
            name, why = wrong["loc"][0], wrong["msg"]
            if wrong["type"] in ("missing", "unexpected_keyword_argument"):
                names = ", ".join(field.name for field in dataclasses.fields(cls))
                raise DeploymentError(f"config={path}: {name}: {why}; the names are {names}") from error
            if name == "subscription_id":
                why = "expected a UUID (see `az account show`)"
            raise DeploymentError(f"{name}={wrong['input']!r}: {why}") from error


class AzureTarget(Target):
    """A managed online endpoint and the deployments behind it.

    name: the endpoint's name, unique in its Azure region. say: where progress is told.

    Raises DeploymentError where Azure would refuse the name.
    """

    kind = "azureml"

    def __init__(self, name: str, *, config: AzureConfig, say: Callable[[str], object] = print) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", name):
            raise DeploymentError(f"endpoint {name!r}: expected 3 to 32 letters, digits or hyphens, a letter first")
        self.name = name
        self.say = say
        self._config = config
        with _explained("connecting to Azure"):
            self._client = MLClient(
                DefaultAzureCredential(),
                config.subscription_id,
                config.resource_group,
                config.workspace_name,
                show_progress=True,  # without its bar azure-ai-ml 1.35.2 waits for ever for an upload that failed
                enable_telemetry=False,
                retry_total=RETRIES,
            )
        self._endpoints, self._deployments = self._client.online_endpoints, self._client.online_deployments

    @property
    def owner(self) -> str:
        """The workspace that holds the endpoint."""
        return self._config.workspace

    def status(self) -> Status:
        """The endpoint and its colours; without scoring URI and colours when nothing is deployed."""
        with _explained(f"reading endpoint {self.name}"):
            try:
                endpoint = self._endpoints.get(self.name)
            except ResourceNotFoundError:
                return Status(self.name)
            deployments = {item.name: item for item in self._deployments.list(self.name)}
        colours, previous = {}, ""
        for name, held in sorted(deployments.items()):
            state = str(getattr(held.provisioning_state, "value", held.provisioning_state))
            ready = state == "Succeeded"
            identity = f"{_tag(held, 'mlflow_id')} on {_machines(held)}" if ready else ""
            model, traffic = (_tag(held, "mlflow_model"), _tag(held, "mlflow_version")), endpoint.traffic.get(name, 0)
            colours[name] = Colour(*model, state, traffic, identity)
            if ready and _tag(held, "deploy") and _tag(held, "deploy") == _tag(endpoint, "previous"):
                previous = name
        return Status(self.name, str(endpoint.scoring_uri), colours, previous, found=(endpoint, deployments))

    def _existing(self) -> tuple[entities.OnlineEndpoint, Mapping[str, entities.OnlineDeployment]]:
        status = self.status()
        if status.found is None:
            raise self._nothing()
        found: tuple[entities.OnlineEndpoint, Mapping[str, entities.OnlineDeployment]] = status.found
        return found

    def _check(self, model: Candidate) -> None:
        need_example(model)
        if len(json.loads(model.request or "{}")) != 1:
            raise DeploymentError(f"{model.title}: its input example has more than rows: log it without parameters")
        self._mark = uuid.uuid4().hex  # on what this deploy makes, so that it undoes nothing of another's
        # More than its name a role in the workspace may not read.
        with _explained(f"looking for workspace {self._config.workspace_name}"):
            self._client.workspaces.get(self._config.workspace_name)

    def _identity(self, model: Candidate) -> str:
        return f"{model.identity} on {_machines(self._config)}"

    def _cost(self) -> str:
        billed = "Azure bills every instance from its start until `undeploy`, whether requests come or not"
        return f" It takes {_machines(self._config)}. {billed}. Prices: {PRICES}"

    def _start(self, model: Candidate, colour: str, before: Status) -> None:
        if before.found is None:
            access = "enabled" if self._config.public_network_access else "disabled"
            auth, tags = self._config.auth_mode, {"deploy": self._mark}
            endpoint = entities.ManagedOnlineEndpoint(
                name=self.name, auth_mode=auth, public_network_access=access, tags=tags
            )
            _finish(f"creating endpoint {self.name}", self._endpoints.begin_create_or_update, endpoint)
        elif (held := before.found[1].get(colour)) and _machines(held) != _machines(self._config):
            # Whether Azure takes new machines and a new model in one update was not tried: a fresh one is sure.
            self._delete(colour)
        deployment = self._deployment(model, colour, self._register(model))
        doing = f"deploying {model.title} to {colour} of {self.name}"
        _finish(doing, self._deployments.begin_create_or_update, deployment)

    def _deployment(self, model: Candidate, colour: str, asset: str) -> entities.OnlineDeployment:
        """What Azure is asked to run: the model in its own packages, behind our scoring script."""
        config, conda = self._config, yaml.safe_load((model.path / "conda.yaml").read_text(encoding="utf-8"))
        for entry in conda["dependencies"]:
            if isinstance(entry, dict):
                entry["pip"].append(INFERENCE_SERVER)

        def probe(first: int, failures: int) -> entities.ProbeSettings:
            every, most = PROBE_SECONDS, failures
            return entities.ProbeSettings(initial_delay=first, period=every, timeout=10, failure_threshold=most)

        return entities.ManagedOnlineDeployment(
            name=colour,
            endpoint_name=self.name,
            model=asset,
            environment=entities.Environment(image=config.base_image, conda_file=conda),
            code_configuration=entities.CodeConfiguration(code=str(HERE / "azure_scoring"), scoring_script="score.py"),
            instance_type=config.instance_type,
            instance_count=config.instance_count,
            request_settings=entities.OnlineRequestSettings(request_timeout_ms=1000 * config.request_timeout_seconds),
            # Once it had the time to load, three failed probes say that it hangs: Azure then starts it again.
            liveness_probe=probe(LOADING_SECONDS, 3),
            readiness_probe=probe(PROBE_SECONDS, LOADING_SECONDS // PROBE_SECONDS),
            tags=_tags(model) | {"deploy": self._mark},
        )

    def _register(self, model: Candidate) -> str:
        """The id of the model's asset in the workspace, created unless it is there."""
        name, models = re.sub(r"[^A-Za-z0-9_-]", "-", model.name), self._client.models
        kind, tags = AssetTypes.MLFLOW_MODEL, _tags(model)
        with _explained(f"registering {model.title}"):
            try:
                asset = models.get(name, version=model.version)
            except ResourceNotFoundError:
                ours = entities.Model(name=name, version=model.version, path=str(model.path), type=kind, tags=tags)
                asset = models.create_or_update(ours)
        if _tag(asset, "mlflow_id") != model.identity:
            # A registry that was made anew counts from 1 again, and Azure would serve the model of the old one.
            raise DeploymentError(
                f"{model.title}: the workspace's model {name}:{model.version} is another model (of another registry?);"
                " register yours under another name"
            )
        return str(asset.id)

    def _ask(self, request: str, colour: str = "") -> Any:
        # The client's own `invoke` keeps the colour in a class-level header, and so pins every later call to it.
        endpoint, _ = self._existing()
        with _explained(f"reading the keys of {self.name}"):
            credentials: Any = self._endpoints.get_keys(self.name)
        key = getattr(credentials, "primary_key", None) or credentials.access_token
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if colour:
            headers["azureml-model-deployment"] = colour
        [instances] = json.loads(request).values()
        where = f"{self.name}{f' ({colour})' if colour else ''}"
        timeout = self._config.request_timeout_seconds + 10
        try:
            body = json.dumps({"input_data": instances})  # requests' own refuses infinite numbers
            answer = requests.post(str(endpoint.scoring_uri), data=body, headers=headers, timeout=timeout)
            if answer.ok:
                return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise DeploymentError(f"{where} did not answer: {reason(error)}; try again") from error
        advice = SCORING_ADVICE.get(answer.status_code, "see its log in Azure Machine Learning studio")
        try:
            why = answer.json()["error"]["message"]
        except (ValueError, LookupError, TypeError):
            why = answer.text
        raise DeploymentError(f"{where} answered {answer.status_code}: {reason(why)}; {advice}")

    def _route(self, before: Status, traffic: dict[str, int], previous: str) -> None:
        """One PUT, which also notes the deployment to roll back to: by its mark, as a colour may be used again."""
        endpoint, deployments = self._existing()
        mark = _tag(deployments[previous], "deploy") if previous else ""
        live = {name: percent for name, percent in endpoint.traffic.items() if percent}
        if (live, _tag(endpoint, "previous")) != (traffic, mark):
            endpoint.traffic = traffic
            endpoint.tags = {**(endpoint.tags or {}), "previous": mark}
            _finish(f"changing the traffic of {self.name}", self._endpoints.begin_create_or_update, endpoint)

    def _undo(self, before: Status, colour: str, wanted: dict[str, int]) -> str:
        now, log = self.status(), ""
        if now.found is None:
            return log
        endpoint, deployments = now.found
        ours = colour in deployments and _tag(deployments[colour], "deploy") == self._mark
        if ours:
            with suppress(DeploymentError), _explained("reading the log"):
                log = self._deployments.get_logs(colour, self.name, lines=LOG_LINES).strip()
        if before.found is None and _tag(endpoint, "deploy") == self._mark:
            self._remove()
            return log
        if now.live == wanted != before.live:
            self._route(before, before.live, before.previous)
        if ours:
            self._delete(colour)
        return log

    def _delete(self, colour: str) -> None:
        _finish(f"deleting {colour} of {self.name}", self._deployments.begin_delete, colour, self.name)

    def _tidy(self, before: Status, kept: Collection[str]) -> None:
        for name in self._existing()[1].keys() - kept:
            self._delete(name)

    def _remove(self) -> bool:
        """Delete the endpoint with its deployments: no instance of it is billed any more. Model assets stay."""
        there = self.status().found is not None
        if there:
            _finish(f"deleting endpoint {self.name}", self._endpoints.begin_delete, self.name)
        return there


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn whatever Azure answers into one line: what was being done, the answer, what to do."""
    try:
        yield
    except AzureError as error:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        if isinstance(error, ClientAuthenticationError):
            status = 401
        advice = ADVICE.get(status or 0, "try again, and look at the workspace in Azure Machine Learning studio")
        # A long-running operation that failed is reported inside a 200.
        code = f"Azure answered {status}" if status and status >= 400 else "it failed"
        raise DeploymentError(f"{doing}: {code}: {reason(error)}; {advice}") from error


def _finish(doing: str, begin: Callable[..., Any], *given: Any) -> None:
    """Begin an operation and wait for its end; the client's dots go to stderr, out of what is told on stdout."""
    with _explained(doing), redirect_stdout(sys.stderr):
        begin(*given).result()


def _machines(held: AzureConfig | entities.OnlineDeployment) -> str:
    return f"{held.instance_count} x {held.instance_type}"


def _tags(model: Candidate) -> dict[str, str]:
    """How the workspace names a version of the registry."""
    return {"mlflow_model": model.name, "mlflow_version": model.version, "mlflow_id": model.identity}


def _tag(resource: Any, name: str) -> str:
    """A tag of something in the workspace, empty when it has none."""
    return str((resource.tags or {}).get(name, ""))
