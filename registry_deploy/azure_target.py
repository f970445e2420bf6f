"""Serves a registered model on an Azure Machine Learning managed online endpoint, blue/green.

Two deployments, `blue` and `green`, stand behind one endpoint. A new version goes to a colour without traffic, must
answer its own input example as it answers it here, and only then receives requests; the old colour stays for rollback.

It was run with the unmodified Azure client against a local stand-in of Azure, never on a live subscription.
Credentials come from the environment alone (DefaultAzureCredential): nothing here reads, keeps or logs a secret.
"""

import dataclasses
import json
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from candidate import Candidate, fetch, payload, shares
from model_files import reason
from target import Colour, DeploymentError, Status, check_canary

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model as ModelAsset
    from azure.ai.ml.entities import OnlineDeployment, OnlineEndpoint
    from azure.core.polling import LROPoller

HERE = Path(__file__).parent
COLOURS = ("blue", "green", "amber")  # the third while two are kept: the live one and the one to roll back to
# It asks for pydantic 2.11, so the environment of a model that pins another pydantic cannot be built.
INFERENCE_SERVER = "azureml-inference-server-http==1.4.1"
PRICES = "https://azure.microsoft.com/pricing/details/machine-learning/"
# The client's own 10 retries wait for minutes on a server that is down, and somebody waits for the answer.
RETRIES = 3
LOADING_SECONDS, PROBE_SECONDS = 300, 10  # a model may take five minutes to load
LOG_LINES = 60
AUTH_MODES = ("key", "aml_token", "aad_token")
MOST = {"instance_count": 50, "request_timeout_seconds": 180}  # of a configuration, in numbers
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


@dataclass(frozen=True)
class AzureConfig:
    """Where to deploy and on which machines; holds no secret. A value of the wrong form raises DeploymentError."""

    subscription_id: str  # a UUID
    resource_group: str
    workspace_name: str
    instance_type: str = "Standard_DS3_v2"
    instance_count: int = 1  # of each colour
    request_timeout_seconds: int = 60  # at most Azure's 180
    public_network_access: bool = True  # whether requests come from outside the workspace's network
    base_image: str = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"  # under the model's own packages
    auth_mode: str = "key"  # how requests are let in: key, aml_token or aad_token

    def __post_init__(self) -> None:
        uuid_form = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
        for field in dataclasses.fields(self):
            value, expected = getattr(self, field.name), f"a {getattr(field.type, '__name__', '')}"
            right = type(value) is field.type and value != ""
            if right and field.name == "subscription_id":
                right, expected = bool(re.fullmatch(uuid_form, value)), "a UUID (see `az account show`)"
            elif right and field.name == "auth_mode":
                right, expected = value in AUTH_MODES, ", ".join(AUTH_MODES)
            elif right and (most := MOST.get(field.name)):
                right, expected = 1 <= value <= most, f"1 to {most}"
            if not right:
                raise DeploymentError(f"{field.name}={value!r}: expected {expected}")

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
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DeploymentError(f"config={path}: expected a JSON file: {error}") from error
        try:
            return cls(**{**values, **changes})
        except TypeError as error:
            names = ", ".join(field.name for field in dataclasses.fields(cls))
            raise DeploymentError(f"config={path}: {error}; the names are {names}") from error


@dataclass(frozen=True)
class _Endpoint:
    """An endpoint and its deployments as Azure reports them."""

    endpoint: "OnlineEndpoint"
    deployments: Mapping[str, "OnlineDeployment"]

    @property
    def traffic(self) -> dict[str, int]:
        """The colours that have traffic, in percent."""
        return {name: percent for name, percent in self.endpoint.traffic.items() if percent}

    @property
    def previous(self) -> str:
        """The colour that had the requests before the last deploy, where it is still there."""
        mark = _tag(self.endpoint, "previous")
        return next((name for name, held in self.deployments.items() if mark and _tag(held, "deploy") == mark), "")


class AzureTarget:
    """A managed online endpoint and the two deployments behind it: a `target.Target`.

    name: the endpoint's name, unique in its Azure region. say: where progress is told.

    Raises DeploymentError: Azure would refuse the name, or its packages are not installed.
    """

    kind = "azureml"

    def __init__(self, name: str, *, config: AzureConfig, say: Callable[[str], None] = print) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", name):
            raise DeploymentError(f"endpoint {name!r}: expected 3 to 32 letters, digits or hyphens, a letter first")
        self.name = name
        self._config = config
        self._say = say
        self._client = _connect(config)

    @property
    def owner(self) -> str:
        """The workspace that holds the endpoint."""
        return self._config.workspace

    def deploy(self, model_uri: str, *, canary: int = 100) -> Status:
        """Serve a model version, after it has answered its own input example on Azure as it does here.

        A version that already waits in a colour is not deployed again, so the same call with a higher `canary` takes
        a canary further. Nothing but the percentages changes for the requests that arrive meanwhile.

        model_uri: `models:/name@alias` or `models:/name/version`; an alias is pinned to its version.
        canary: percent of the requests that the new version answers; the first version gets 100.

        Raises DeploymentError: the traffic is as it was, and what was begun is removed.
        """
        check_canary(canary)
        with tempfile.TemporaryDirectory() as folder:
            model = fetch(model_uri, Path(folder))
            # More than its name a role in the workspace may not read.
            with _explained(f"looking for workspace {self._config.workspace_name}"):
                self._client.workspaces.get(self._config.workspace_name)
            before = self._read()
            traffic = before.traffic if before else {}
            colour, ready = self._place(model, before)
            if traffic.get(colour) == 100 and ready:
                self._say(f"{self.name} already serves {model.title} from {colour}")
                return self.status()
            other = next((name for name in traffic if name != colour), "")
            previous = _tag(before.deployments[other], "deploy") if before and other else ""
            wanted, mark = shares(traffic, colour, canary), uuid.uuid4().hex
            try:
                if not ready:
                    self._say_cost(model, colour, before)
                    self._create(model, colour, before, mark)
                model.check(self.score(model.example, colour), f"{colour} of {self.name}")
                self._say(f"{model.title}: {colour} answers the model's input example as it should")
                self._set_traffic(wanted, previous)
            except BaseException as error:
                trouble = self._undo(before, colour, wanted, mark)
                if trouble:
                    raise DeploymentError(f"{error or type(error).__name__}; {trouble}") from error
                raise
        for name in set(self._existing().deployments) - {colour, other}:
            self._delete(name)  # it neither serves nor can be rolled back to, and is billed
        self._say(f"{self.name}: {model.title} answers {wanted[colour]} % of the requests, from {colour}")
        return self.status()

    def status(self) -> Status:
        """The endpoint and its colours; without scoring URI and colours when nothing is deployed."""
        found = self._read()
        if found is None:
            return Status(endpoint=self.name, scoring_uri="")
        colours = {
            name: Colour(
                model_name=_tag(deployment, "mlflow_model"),
                model_version=_tag(deployment, "mlflow_version"),
                state=_state(deployment),
                traffic=found.traffic.get(name, 0),
            )
            for name, deployment in sorted(found.deployments.items())
        }
        return Status(endpoint=self.name, scoring_uri=str(found.endpoint.scoring_uri), colours=colours)

    def rollback(self) -> Status:
        """Send every request to the colour that served before the last `deploy`, in one change of traffic.

        A second rollback in a row is refused: the version that was left is not good again.
        """
        found = self._existing()
        if not found.previous or _state(found.deployments[found.previous]) != "Succeeded":
            raise DeploymentError(f"{self.name}: nothing to roll back to; deploy the version that you want instead")
        self._set_traffic({found.previous: 100}, previous="")
        self._say(f"{self.name}: every request goes to {found.previous} again")
        return self.status()

    def undeploy(self) -> None:
        """Delete the endpoint and its deployments; Azure bills no instance of it any more. Model assets stay."""
        if self._read() is None:
            self._say(f"{self.name}: nothing is deployed")
            return
        self._delete_endpoint()
        self._say(f"{self.name}: deleted, with its deployments; no instance of it is billed any more")

    def _read(self) -> _Endpoint | None:
        """The endpoint and its deployments, or None when there is no such endpoint."""
        from azure.core.exceptions import ResourceNotFoundError

        with _explained(f"reading endpoint {self.name}"):
            try:
                endpoint = self._client.online_endpoints.get(self.name)
            except ResourceNotFoundError:
                return None
            return _Endpoint(endpoint, {item.name: item for item in self._client.online_deployments.list(self.name)})

    def _existing(self) -> _Endpoint:
        found = self._read()
        if found is None:
            raise DeploymentError(f"{self.name}: no such endpoint in {self._config.workspace_name}; deploy one first")
        return found

    def _machines_of(self, held: "OnlineDeployment") -> bool:
        """Whether a deployment stands on the machines of the configuration."""
        return (held.instance_type, held.instance_count) == (self._config.instance_type, self._config.instance_count)

    def _place(self, model: Candidate, before: _Endpoint | None) -> tuple[str, bool]:
        """Choose the colour for a model, and whether the model already stands ready in it."""
        if before is None:
            return COLOURS[0], False
        for name, held in sorted(before.deployments.items(), key=lambda each: -before.traffic.get(each[0], 0)):
            if _tag(held, "mlflow_id") == model.identity and _state(held) == "Succeeded" and self._machines_of(held):
                return name, True
        if len(before.traffic) > 1:
            shared = f"a canary is under way {before.traffic}"
            raise DeploymentError(f"{self.name}: {shared}: take it to 100 or roll it back first")
        # A deploy that fails must not take away what can be rolled back to.
        return next(colour for colour in COLOURS if colour not in {*before.traffic, before.previous}), False

    def _say_cost(self, model: Candidate, colour: str, before: _Endpoint | None) -> None:
        count, machine = self._config.instance_count, self._config.instance_type
        kept = [name for name in (before.deployments if before else {}) if name != colour]
        also = f", beside {' and '.join(kept)}, which runs on and is billed as before" if kept else ""
        self._say(
            f"{model.title} goes to {colour}: {count} x {machine}{also}. Azure bills every instance from its start"
            f" until `undeploy`, whether requests come or not. Prices: {PRICES}"
        )

    def _create(self, model: Candidate, colour: str, before: _Endpoint | None, mark: str) -> None:
        """Put the model into a colour that has no traffic, and wait until Azure says that it runs."""
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        if before is None:
            access = "enabled" if self._config.public_network_access else "disabled"
            auth = self._config.auth_mode
            endpoint = ManagedOnlineEndpoint(
                name=self.name, auth_mode=auth, public_network_access=access, tags={"deploy": mark}
            )
            with _explained(f"creating endpoint {self.name}"):
                _finish(self._client.online_endpoints.begin_create_or_update(endpoint))
        elif colour in before.deployments and not self._machines_of(before.deployments[colour]):
            # Whether Azure takes new machines and a new model in one update was not tried: a fresh one is sure.
            self._delete(colour)
        deployment = self._deployment(model, colour, self._register(model), mark)
        with _explained(f"deploying {model.title} to {colour} of {self.name}"):
            _finish(self._client.online_deployments.begin_create_or_update(deployment))

    def _deployment(self, model: Candidate, colour: str, asset: str, mark: str) -> "OnlineDeployment":
        """What Azure is asked to run: the model in its own packages, behind our scoring script."""
        from azure.ai.ml.entities import (
            CodeConfiguration,
            Environment,
            ManagedOnlineDeployment,
            OnlineRequestSettings,
            ProbeSettings,
        )

        config = self._config
        for entry in model.conda["dependencies"]:
            if isinstance(entry, dict):
                entry["pip"].append(INFERENCE_SERVER)

        def probe(first: int, failures: int) -> ProbeSettings:
            return ProbeSettings(initial_delay=first, period=PROBE_SECONDS, timeout=10, failure_threshold=failures)

        return ManagedOnlineDeployment(
            name=colour,
            endpoint_name=self.name,
            model=asset,
            environment=Environment(image=config.base_image, conda_file=model.conda),
            code_configuration=CodeConfiguration(code=str(HERE / "azure_scoring"), scoring_script="score.py"),
            instance_type=config.instance_type,
            instance_count=config.instance_count,
            request_settings=OnlineRequestSettings(request_timeout_ms=1000 * config.request_timeout_seconds),
            # Once it had the time to load, three failed probes say that it hangs: Azure then starts it again.
            liveness_probe=probe(LOADING_SECONDS, 3),
            readiness_probe=probe(PROBE_SECONDS, LOADING_SECONDS // PROBE_SECONDS),
            tags=_tags(model) | {"deploy": mark},
        )

    def _register(self, model: Candidate) -> str:
        """The id of the model's asset in the workspace, created unless it is there."""
        from azure.ai.ml.constants import AssetTypes
        from azure.ai.ml.entities import Model as ModelAsset
        from azure.core.exceptions import ResourceNotFoundError

        name, kind = re.sub(r"[^A-Za-z0-9_-]", "-", model.name), AssetTypes.MLFLOW_MODEL
        with _explained(f"registering {model.title}"):
            try:
                asset = self._client.models.get(name, version=model.version)
            except ResourceNotFoundError:
                ours = ModelAsset(
                    name=name, version=model.version, path=str(model.folder), type=kind, tags=_tags(model)
                )
                asset = self._client.models.create_or_update(ours)
        if _tag(asset, "mlflow_id") != model.identity:
            # A registry that was made anew counts from 1 again, and Azure would serve the model of the old one.
            raise DeploymentError(
                f"{model.title}: the workspace's model {name}:{model.version} is another model (of another registry?);"
                " register yours under another name"
            )
        return str(asset.id)

    def _set_traffic(self, traffic: dict[str, int], previous: str) -> None:
        """Change who answers, in one PUT that also notes which deployment to roll back to."""
        endpoint = self._existing().endpoint
        endpoint.traffic = traffic
        endpoint.tags = {**(endpoint.tags or {}), "previous": previous}
        with _explained(f"changing the traffic of {self.name}"):
            _finish(self._client.online_endpoints.begin_create_or_update(endpoint))

    def _delete(self, colour: str) -> None:
        with _explained(f"deleting {colour} of {self.name}"):
            _finish(self._client.online_deployments.begin_delete(colour, self.name))

    def _delete_endpoint(self) -> None:
        with _explained(f"deleting endpoint {self.name}"):
            _finish(self._client.online_endpoints.begin_delete(name=self.name))

    def _undo(self, before: _Endpoint | None, colour: str, wanted: dict[str, int], mark: str) -> str:
        """Take back what a failed deploy has changed, and nothing that another has; returns what could not be."""
        try:
            now = self._read()
            if now is None:
                return ""
            ours = colour in now.deployments and _tag(now.deployments[colour], "deploy") == mark
            if ours:
                self._say_log(colour)
            if before is None and _tag(now.endpoint, "deploy") == mark:
                self._delete_endpoint()
                return ""
            if before is not None and now.traffic == wanted != before.traffic:
                self._set_traffic(before.traffic, _tag(before.endpoint, "previous"))
            if ours:
                self._delete(colour)
        except DeploymentError as error:
            return f"and cleaning up failed ({error}): look at endpoint {self.name}, what runs there is billed"
        return ""

    def _say_log(self, colour: str) -> None:
        """Tell the last lines of a deployment's log, which its deletion takes away."""
        with suppress(DeploymentError), _explained("reading the log"):
            log = self._client.online_deployments.get_logs(colour, self.name, lines=LOG_LINES)
            self._say(f"Last lines of {colour}'s log:\n{log.strip()}")

    def score(self, instances: Any, colour: str = "") -> list[Any]:
        """Predictions of the versions that have traffic, one for each row, or of one colour whatever its traffic."""
        # The client's own `invoke` keeps the colour in a class-level header, and so pins every later call to it.
        endpoint = self._existing().endpoint
        with _explained(f"reading the keys of {self.name}"):
            credentials: Any = self._client.online_endpoints.get_keys(self.name)
        key = getattr(credentials, "primary_key", None) or credentials.access_token
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if colour:
            headers["azureml-model-deployment"] = colour
        body = json.dumps({"input_data": payload(instances)}, default=str)
        where = f"{self.name}{f' ({colour})' if colour else ''}"
        timeout = self._config.request_timeout_seconds + 10
        try:
            answer = requests.post(str(endpoint.scoring_uri), data=body, headers=headers, timeout=timeout)
            if answer.ok:
                return list(answer.json())
        except (requests.RequestException, ValueError, TypeError) as error:
            raise DeploymentError(f"{where} did not answer: {reason(error)}; try again") from error
        advice = SCORING_ADVICE.get(answer.status_code, "see its log in Azure Machine Learning studio")
        try:
            why = answer.json()["error"]["message"]
        except (ValueError, LookupError, TypeError):
            why = answer.text
        raise DeploymentError(f"{where} answered {answer.status_code}: {reason(why)}; {advice}")


def _connect(config: AzureConfig) -> "MLClient":
    try:
        from azure.ai.ml import MLClient
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise DeploymentError(
            f"target=azureml: {error}; install this project's requirements-azure.txt into this environment"
        ) from error
    with _explained("connecting to Azure"):
        return MLClient(
            DefaultAzureCredential(),
            config.subscription_id,
            config.resource_group,
            config.workspace_name,
            # Without its progress bar, azure-ai-ml 1.35.2 never looks at a failed upload, and waits for it for ever.
            show_progress=True,
            enable_telemetry=False,
            retry_total=RETRIES,
        )


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn whatever Azure answers into one line: what was being done, the answer, what to do."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

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


def _finish(operation: "LROPoller[Any]") -> None:
    """Wait for an operation to end; the client's dots go to stderr, out of what is told on stdout."""
    with redirect_stdout(sys.stderr):
        operation.result()


def _tags(model: Candidate) -> dict[str, str]:
    """How the workspace names a version of the registry."""
    return {"mlflow_model": model.name, "mlflow_version": model.version, "mlflow_id": model.identity}


def _tag(resource: "OnlineEndpoint | OnlineDeployment | ModelAsset", name: str) -> str:
    """A tag of something in the workspace, empty when it has none.

    The tag `deploy` says which call of `deploy` has put it, so that no call takes what another has put for its own.
    """
    return str((resource.tags or {}).get(name, ""))


def _state(deployment: "OnlineDeployment") -> str:
    """Azure's word for a deployment's condition, which the client gives as an enumeration or as text."""
    return str(getattr(deployment.provisioning_state, "value", deployment.provisioning_state))
