"""A local stand-in for what the Azure Machine Learning client asks of Azure, over HTTPS, so that it can be unmodified.

It refuses what Azure refuses, can be told to fail, and really serves: a deployment is Azure's own inference server
(`azmlinfsrv`) on the uploaded model and script, in an environment built from the uploaded conda file. It knows one
workspace, keeps its state in memory and its files in one folder, and listens on 127.0.0.1 only.
"""

import hashlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import requests
import trustme
import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from running import PATIENCE, free_port
from starlette.exceptions import HTTPException as StarletteHTTPException

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP, WORKSPACE, REGION = "stand-in-group", "stand-in-workspace", "stand-in-region"
ML = "providers/Microsoft.MachineLearningServices"
REGIONAL = f"/subscriptions/{SUBSCRIPTION}/{ML}/locations/{REGION}"
HOME = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{ML}/workspaces/{WORKSPACE}"
ENDPOINT = HOME + "/onlineEndpoints/{endpoint}"
DEPLOYMENT = ENDPOINT + "/deployments/{colour}"
MACHINES = ("Standard_DS3_v2", "Standard_F4s_v2")
HURRY = 100  # how much sooner than on Azure the probes begin
# azmlinfsrv has no option for the address, and would listen on all of them.
SERVE = "from azureml_inference_server_http import amlserver; amlserver.DEFAULT_HOST = '127.0.0.1'; amlserver.run()"


def refusal(status: int, code: str, message: str) -> HTTPException:
    """An answer in the form of Azure's errors."""
    return HTTPException(status, {"code": code, "message": message})


@dataclass
class Fault:
    """What goes wrong: the next `times` requests whose method and path match are answered with `status`.

    The status "Failed" lets a request through, and lets the long-running operation that it starts fail.
    """

    method: str
    path: str
    status: int | str
    times: int = 1_000_000


@dataclass
class Deployment:
    """A colour: what the client put, and the server that answers for it."""

    body: dict[str, Any]
    server: "ModelServer | None" = None
    log: Path | None = None
    stopped: bool = False

    @property
    def state(self) -> str:
        return str(self.body["properties"]["provisioningState"])

    @state.setter
    def state(self, value: str) -> None:
        self.body["properties"]["provisioningState"] = value


@dataclass
class Endpoint:
    """An endpoint: what the client put, its keys and its colours."""

    body: dict[str, Any]
    keys: dict[str, str]
    deployments: dict[str, Deployment] = field(default_factory=dict)

    @property
    def traffic(self) -> dict[str, int]:
        return self.body["properties"].get("traffic") or {}


class ModelServer:
    """Azure's inference server on one uploaded model, as a process of its own."""

    def __init__(self, python: Path, script: Path, model: Path, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.made_of = python, script, model, log
        self.started = time.monotonic()
        self.failures = 0  # probes in a row that it has not answered
        self.session = requests.Session()
        self.session.trust_env = False
        # A container inherits nothing of the client's machine.
        variables = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        variables |= {"AML_APP_ROOT": str(script.parent)}
        options = ["--port", str(port), "--entry_script", str(script), "--model_dir", str(model)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [python, "-c", SERVE, *options], cwd=log.parent, env=variables, stdout=output, stderr=output
            )

    def wait(self, seconds: float = PATIENCE) -> None:
        """Return once it is healthy; raise RuntimeError when it ends before, or takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.session.get(self.url, timeout=PATIENCE).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError("Liveness probe failed: the container crashed or never became healthy")

    def hangs(self, probe: dict[str, Any]) -> bool:
        """Whether the container has to be started again, by Azure's rules for a liveness probe."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self.started < seconds(probe["initialDelay"]) / HURRY:
            return False
        try:
            answered = requests.get(self.url, timeout=1).ok
        except requests.RequestException:  # on a busy machine one that works may take its time
            answered = psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED
        self.failures = 0 if answered else self.failures + 1
        return self.failures >= probe["failureThreshold"]

    def send(self, number: int) -> None:
        """Send a signal to the server and to the processes that it has started."""
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.process.pid)
            for process in (*server.children(recursive=True), server):
                process.send_signal(number)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()


def seconds(duration: str) -> float:
    """The seconds of a duration in ISO 8601, as the client writes them: PT5M10S."""
    parts = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", duration)
    assert parts, duration
    hours, minutes, rest = (int(part or 0) for part in parts.groups())
    return 3600.0 * hours + 60 * minutes + rest


class StandIn:
    """The state, and a context manager that serves it and stops every model server at the end.

    Args:
        folder: an empty folder for uploads and logs.
        environments: a folder for built environments, worth keeping from one run to the next.
    """

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder, self.environments = folder, environments
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.assets: dict[str, dict[str, Any]] = {}
        self.blob_metadata: dict[str, dict[str, str]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.token, self.identity_header, self.sas = (secrets.token_hex(16) for _ in range(3))
        self.aml_token, self.aad_token = (secrets.token_hex(16) for _ in range(2))
        self.restarts = 0
        self.certificate, self.authority = folder / "certificate.pem", folder / "authority.pem"
        self.url = ""

    def __enter__(self) -> Self:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(self.certificate)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{listener.getsockname()[1]}"
        # A client that keeps its connections open would hold up the end for the 30 s that TLS waits for its farewell.
        config = uvicorn.Config(
            application(self), ssl_certfile=self.certificate, log_level="critical", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        threading.Thread(target=self.probe, daemon=True).start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def variables(self) -> dict[str, str]:
        """The environment variables that lead the unmodified Azure client here."""
        return {
            "AZUREML_CURRENT_CLOUD": "StandIn",
            "ARM_CLOUD_METADATA_URL": f"{self.url}/metadata/endpoints?api-version=2019-05-01",
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self.identity_header,
            "REQUESTS_CA_BUNDLE": str(self.authority),
            "SSL_CERT_FILE": str(self.authority),
            "NO_PROXY": "localhost",
        }

    def fail(self, method: str, path: str, status: int | str, times: int = 1_000_000) -> None:
        """Let the next `times` requests whose path matches the regular expression fail; see Fault."""
        self.faults.append(Fault(method, path, status, times))

    def fault(self, request: Request, kind: type) -> int | str | None:
        """The status that a request is to fail with, of the given type."""
        for fault in self.faults:
            matches = fault.method == request.method and re.search(fault.path, request.url.path)
            if matches and fault.times > 0 and isinstance(fault.status, kind):
                fault.times -= 1
                return fault.status
        return None

    def endpoint(self, name: str) -> Endpoint:
        if name not in self.endpoints:
            raise refusal(404, "ResourceNotFound", f"The endpoint {name} was not found")
        return self.endpoints[name]

    def deployment(self, name: str, colour: str) -> Deployment:
        if colour not in self.endpoint(name).deployments:
            raise refusal(404, "ResourceNotFound", f"The deployment {colour} was not found")
        return self.endpoint(name).deployments[colour]

    def operate(self, request: Request, work: Callable[[], None], body: dict[str, Any] | None = None) -> Response:
        """Start a long-running operation, and answer as Azure does: with the address to ask how it goes."""
        name, fails = uuid.uuid4().hex, self.fault(request, str)
        self.operations[name] = {"status": "InProgress"}

        def run() -> None:
            try:
                if fails:
                    raise RuntimeError("An internal error occurred in the operation")
                work()
            except Exception as error:
                if body:
                    body["properties"]["provisioningState"] = "Failed"
                self.operations[name] = {"status": "Failed", "error": {"code": "UserError", "message": str(error)}}
            else:
                self.operations[name] = {"status": "Succeeded"}

        threading.Thread(target=run).start()
        where = f"{self.url}{REGIONAL}/mfeOperationsStatus/{name}?api-version=1"
        headers = {"Azure-AsyncOperation": where, "Location": where, "x-ms-retry-after-ms": "200"}
        return JSONResponse(body, 202 if body is None else 201, headers)

    def build(self, environment: dict[str, Any]) -> Path:
        """The Python of the environment that a conda file asks for: its pip packages, with this version of Python."""
        dependencies = yaml.safe_load(environment["properties"]["condaFile"])["dependencies"]
        packages = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
        folder = self.environments / hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16]
        if not folder.exists():
            # Another process may be building the same one: the first that is complete takes the name.
            new = folder.with_suffix(f".{uuid.uuid4().hex}")
            into = ["--python", str(new / "bin" / "python")]
            for command in (["venv", "--python", sys.executable, str(new)], ["pip", "install", *into, *packages]):
                done = subprocess.run([sys.executable, "-m", "uv", *command], capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"ImageBuildFailure: {done.stderr}")
            try:
                new.rename(folder)
            except OSError:
                shutil.rmtree(new)
        return folder / "bin" / "python"

    def serve(self, endpoint: Endpoint, colour: str) -> None:
        """Start the model server of a colour, and stop the one that it replaces."""
        deployment = endpoint.deployments[colour]
        properties = deployment.body["properties"]
        python = self.build(self.assets[properties["environmentId"]])
        code = self.blobs(self.assets[properties["codeConfiguration"]["codeId"]]["properties"]["codeUri"])
        model = self.blobs(self.assets[properties["model"]]["properties"]["modelUri"])
        deployment.log = self.folder / f"{uuid.uuid4().hex}.log"
        server = ModelServer(python, code / properties["codeConfiguration"]["scoringScript"], model, deployment.log)
        server.wait()
        old, deployment.server = deployment.server, server
        deployment.state = "Succeeded"
        if old:
            old.stop()

    def probe(self) -> None:
        """Start again what ends or hangs, until the end."""
        while not self._server.should_exit:
            time.sleep(0.2)
            served = [held for endpoint in [*self.endpoints.values()] for held in [*endpoint.deployments.values()]]
            for deployment in served:
                server, probe = deployment.server, deployment.body["properties"].get("livenessProbe")
                if server and probe and server.hangs(probe) and not deployment.stopped and deployment.server is server:
                    server.send(signal.SIGKILL)
                    server.process.wait()
                    self.restarts += 1
                    again = ModelServer(*server.made_of)
                    with suppress(RuntimeError):
                        again.wait()
                    if deployment.stopped or deployment.server is not server:
                        again.stop()
                    else:
                        deployment.server = again

    def stop(self, deployment: Deployment) -> None:
        deployment.stopped = True
        if deployment.server:
            deployment.server.stop()

    def blobs(self, uri: str) -> Path:
        """The folder of an upload, from the blob or datastore address that its asset holds."""
        path = re.sub(r"^.*/workspaceblobstore/paths/", "models/", uri.removeprefix(f"{self.url}/blob/"))
        return self.folder / "blob" / path


def application(azure: StandIn) -> FastAPI:
    """The routes; whatever is not here is answered with 404, as a wrong name is."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for endpoint in azure.endpoints.values():
            for deployment in endpoint.deployments.values():
                azure.stop(deployment)

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(StarletteHTTPException)
    def refuse(request: Request, error: StarletteHTTPException) -> Response:
        plain = {"code": "ResourceNotFound", "message": f"{request.method} {request.url.path}: {error.detail}"}
        return JSONResponse({"error": error.detail if isinstance(error.detail, dict) else plain}, error.status_code)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable) -> Response:
        azure.requests.append(f"{request.method} {request.url.path}")
        status = azure.fault(request, int)
        known = request.headers.get("authorization") == f"Bearer {azure.token}"
        if request.url.path.startswith("/subscriptions/") and not known:
            status = 401
        # A role in the workspace reads nothing outside it, and does not change the workspace itself.
        outside = request.url.path.startswith(REGIONAL) and "mfeOperationsStatus" not in request.url.path
        if known and (outside or (request.url.path == HOME and request.method != "GET")):
            denied = {"code": "AuthorizationFailed", "message": f"no permission over the scope of {request.url.path}"}
            return JSONResponse({"error": denied}, 403)
        if status:
            error = {"code": f"Fault{status}", "message": f"{request.method} was answered with {status}"}
            return JSONResponse({"error": error}, int(status), {"Retry-After": "1"} if status == 429 else None)
        return await answer(request)

    @app.get("/metadata/endpoints")
    def metadata() -> list:
        login = {"loginEndpoint": azure.url, "audiences": [azure.url]}
        suffixes = {"storage": "stand-in.test"}
        cloud = {"name": "StandIn", "portal": azure.url, "resourceManager": azure.url, "suffixes": suffixes}
        return [cloud | {"authentication": login}]

    @app.get("/msi/token")
    def token(request: Request, resource: str) -> dict:
        if request.headers.get("x-identity-header") != azure.identity_header:
            raise refusal(401, "Unauthorized", "The identity header is missing or wrong")
        expires = str(int(time.time()) + 3600)
        given = azure.aad_token if "ml.azure.com" in resource else azure.token  # each is for one audience
        return {"access_token": given, "expires_on": expires, "resource": resource, "token_type": "Bearer"}

    @app.get(HOME)
    def workspace() -> dict:
        return {"id": HOME, "name": WORKSPACE, "location": REGION, "properties": {"workspaceId": "1"}}

    @app.get(f"{REGIONAL}/mfeOperationsStatus/{{name}}")
    def operation(name: str) -> Response:
        return JSONResponse(azure.operations[name], headers={"x-ms-retry-after-ms": "200"})

    @app.get(f"{HOME}/datastores/workspaceblobstore")
    def datastore() -> dict:
        # The client builds https://{account}.blob.{suffix}; what follows the # falls off as a fragment.
        account = f"{azure.url.removeprefix('https://')}/blob#"
        properties: dict[str, Any] = {"datastoreType": "AzureBlob", "accountName": account, "containerName": "models"}
        properties |= {"credentials": {"credentialsType": "Sas"}}
        return {"id": f"{HOME}/datastores/workspaceblobstore", "name": "workspaceblobstore", "properties": properties}

    @app.post(f"{HOME}/datastores/workspaceblobstore/listSecrets")
    def datastore_secrets() -> dict:
        return {"secretsType": "Sas", "sasToken": f"sig={azure.sas}"}

    @app.api_route("/blob/{path:path}", methods=["HEAD", "PUT"])
    async def blob(request: Request, path: str, sig: str = "", comp: str = "") -> Response:
        file = azure.folder / "blob" / path
        if sig != azure.sas:
            return Response(status_code=403, headers={"x-ms-error-code": "AuthenticationFailed"})
        if request.method == "HEAD" and not file.is_file():
            return Response(status_code=404, headers={"x-ms-error-code": "BlobNotFound"})
        if request.method == "PUT" and comp == "metadata":
            kept = {name: value for name, value in request.headers.items() if name.startswith("x-ms-meta-")}
            azure.blob_metadata[path] = kept
            return Response(status_code=200)
        elif request.method == "PUT":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(await request.body())
        described = {"x-ms-blob-type": "BlockBlob", "ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return Response(
            status_code=201 if request.method == "PUT" else 200,
            headers=described | (azure.blob_metadata.get(path, {}) if request.method == "HEAD" else {}),
        )

    @app.post(HOME + "/codes/{name}/versions/{version}/startPendingUpload")
    def pending_upload(name: str, version: str) -> dict:
        where = f"{azure.url}/blob/{name}-{version}"
        credential = {"credentialType": "SAS", "sasUri": f"{where}?sig={azure.sas}"}
        return {"blobReferenceForConsumption": {"blobUri": where, "credential": credential}}

    @app.get(HOME + "/{kind}/{name}/versions")
    def asset_versions(kind: str, name: str) -> dict:
        prefix = f"{HOME}/{kind}/{name}/versions/"
        return {"value": [asset for key, asset in azure.assets.items() if key.startswith(prefix)]}

    @app.get(HOME + "/{kind}/{name}/versions/{version}")
    def asset(request: Request) -> dict:
        if request.url.path not in azure.assets:
            raise refusal(404, "ResourceNotFound", f"{request.url.path} was not found")
        return azure.assets[request.url.path]

    @app.put(HOME + "/{kind}/{name}/versions/{version}")
    async def put_asset(request: Request, version: str) -> dict:
        body = await request.json()
        # The client reads the flavors of a model without asking whether there are any.
        body["properties"] = {"flavors": {}} | body["properties"]
        body |= {"id": request.url.path, "name": version}
        return azure.assets.setdefault(request.url.path, body)

    @app.get(ENDPOINT)
    def get_endpoint(endpoint: str) -> dict:
        return azure.endpoint(endpoint).body

    @app.put(ENDPOINT)
    async def put_endpoint(request: Request, endpoint: str) -> Response:
        body = await request.json()
        known = azure.endpoints.get(endpoint)
        traffic = body["properties"].get("traffic") or {}
        if sum(traffic.values()) not in (0, 100):
            raise refusal(400, "BadArgument", f"The traffic must sum to 0 or 100, not {sum(traffic.values())}")
        for colour in traffic:
            if not known or colour not in known.deployments or known.deployments[colour].state != "Succeeded":
                raise refusal(400, "BadArgument", f"There is no deployment {colour} that could take traffic")
        properties = {"scoringUri": f"{azure.url}/endpoints/{endpoint}/score", "provisioningState": "Succeeded"}
        body |= {"id": request.url.path, "name": endpoint, "properties": body["properties"] | properties}

        def work() -> None:
            if known:
                known.body = body
            else:
                keys = {"primaryKey": secrets.token_hex(16), "secondaryKey": secrets.token_hex(16)}
                azure.endpoints[endpoint] = Endpoint(body, keys)

        return azure.operate(request, work, body)

    @app.delete(ENDPOINT)
    def delete_endpoint(request: Request, endpoint: str) -> Response:
        known = azure.endpoint(endpoint)

        def work() -> None:
            del azure.endpoints[endpoint]
            for deployment in known.deployments.values():
                azure.stop(deployment)

        return azure.operate(request, work)

    def of_mode(endpoint: str, mode: str) -> Endpoint:
        known = azure.endpoint(endpoint)
        if known.body["properties"]["authMode"].lower() != mode:
            raise refusal(400, "BadArgument", f"The endpoint's authentication mode is not {mode}")
        return known

    @app.post(f"{ENDPOINT}/listKeys")
    def keys(endpoint: str) -> dict:
        return of_mode(endpoint, "key").keys

    @app.post(f"{ENDPOINT}/token")
    def aml_token(endpoint: str) -> dict:
        of_mode(endpoint, "amltoken")
        now = int(time.time())
        times = {"expiryTimeUtc": now + 3600, "refreshAfterTimeUtc": now + 1800}
        return {"accessToken": azure.aml_token, "tokenType": "Bearer", **times}

    @app.get(f"{ENDPOINT}/deployments")
    def deployments(endpoint: str) -> dict:
        return {"value": [deployment.body for deployment in azure.endpoint(endpoint).deployments.values()]}

    @app.get(DEPLOYMENT)
    def get_deployment(endpoint: str, colour: str) -> dict:
        return azure.deployment(endpoint, colour).body

    @app.put(DEPLOYMENT)
    async def put_deployment(request: Request, endpoint: str, colour: str) -> Response:
        body = await request.json()
        known = azure.endpoint(endpoint)
        old = known.deployments.get(colour)
        properties = body["properties"]
        if old and old.state not in ("Succeeded", "Failed"):
            raise refusal(409, "Conflict", f"The deployment {colour} is being changed")
        if properties["instanceType"] not in MACHINES:
            raise refusal(400, "BadArgument", f"The instance type {properties['instanceType']} is not supported")
        for asset in (properties["model"], properties["environmentId"], properties["codeConfiguration"]["codeId"]):
            if asset not in azure.assets:
                raise refusal(400, "BadArgument", f"{asset} was not found")
        properties |= {
            "provisioningState": "Updating" if old else "Creating",
            "scaleSettings": {"scaleType": "Default"},
        }
        body |= {"id": request.url.path, "name": colour}
        known.deployments[colour] = Deployment(body, old.server if old else None)
        return azure.operate(request, lambda: azure.serve(known, colour), body)

    @app.delete(DEPLOYMENT)
    def delete_deployment(request: Request, endpoint: str, colour: str) -> Response:
        deployment = azure.deployment(endpoint, colour)
        if azure.endpoint(endpoint).traffic.get(colour):
            raise refusal(400, "BadArgument", f"The deployment {colour} has traffic: set it to 0 first")
        if deployment.state not in ("Succeeded", "Failed"):
            raise refusal(409, "Conflict", f"The deployment {colour} is being changed")

        def work() -> None:
            del azure.endpoint(endpoint).deployments[colour]
            azure.stop(deployment)

        return azure.operate(request, work)

    @app.post(f"{DEPLOYMENT}/getLogs")
    async def logs(request: Request, endpoint: str, colour: str) -> dict:
        log, tail = azure.deployment(endpoint, colour).log, (await request.json())["tail"]
        return {"content": "\n".join(log.read_text(encoding="utf-8").splitlines()[-tail:]) if log else ""}

    @app.post("/endpoints/{endpoint}/score")
    async def score(request: Request, endpoint: str) -> Response:
        known = azure.endpoint(endpoint)
        right = {"amltoken": [azure.aml_token], "aadtoken": [azure.aad_token]}.get(
            known.body["properties"]["authMode"].lower(), [*known.keys.values()]
        )
        if request.headers.get("authorization") not in [f"Bearer {key}" for key in right]:
            raise refusal(401, "KeyAuthAccessDenied", "The key is missing or wrong")
        colour = request.headers.get("azureml-model-deployment")
        traffic = known.traffic
        if not colour and not sum(traffic.values()):
            raise refusal(404, "NoValidDeployment", "No deployment has traffic")
        colour = colour or random.choices(list(traffic), list(traffic.values()))[0]
        server = azure.deployment(endpoint, colour).server
        if not server:
            raise refusal(503, "NotReady", f"The deployment {colour} does not serve")
        try:
            answer = await run_in_threadpool(server.session.post, f"{server.url}/score", data=await request.body())
        except requests.RequestException:
            raise refusal(503, "NotReady", f"The deployment {colour} broke off") from None
        # Azure puts an error of the model server into a 424.
        status = 200 if answer.ok else 424
        return Response(answer.content, status, {"azureml-model-deployment": colour}, "application/json")

    return app
