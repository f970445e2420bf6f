"""The door of the workspace: the token, the host, and the faults that a test or a curious reader asks for."""

from __future__ import annotations

import hmac
import threading
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from answers import STATUS, Refusal, fields, refuse, required

OPEN = ("/", "/ml/", "/local/runs/", "/.well-known/", "/oidc/")  # read by a browser, or before a client has its token
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass
class Fault:
    """Answers that a route gives instead of its own.

    route: the beginning of a path.
    status: the HTTP status.
    times: how often; None for ever.
    """

    route: str
    status: int
    times: int | None = None


class Faults:
    """What is to fail, until it has or is healed."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._dying_jobs = 0
        self._lock = threading.Lock()

    def meet(self, path: str) -> int | None:
        """The status that a request to a path is to fail with, if it is."""
        with self._lock:
            for fault in self._faults:
                if path.startswith(fault.route) and fault.times != 0:
                    fault.times = fault.times and fault.times - 1
                    return fault.status
        return None

    def kill_next_job(self) -> bool:
        """Whether the job that is about to begin is to die."""
        with self._lock:
            self._dying_jobs, dies = max(self._dying_jobs - 1, 0), self._dying_jobs > 0
        return dies

    async def add(self, request: Request) -> Response:
        """POST /local/faults: {"route": ..., "status": 429, "times": 3} or {"job": "dies"}."""
        given = await fields(request)
        if given.get("job") == "dies":
            self._dying_jobs += 1
        else:
            route, status, times = required(given, "route"), required(given, "status"), given.get("times")
            if status not in STATUS.values() or not (times is None or isinstance(times, int)):
                right = f"status is one of {', '.join(map(str, sorted(set(STATUS.values()))))}; times a number or null"
                raise Refusal("INVALID_PARAMETER_VALUE", right)
            self._faults.append(Fault(route, status, times))
        return await self.show(request)

    async def heal(self, request: Request) -> Response:
        """DELETE /local/faults: nothing fails any more."""
        self._faults.clear()
        self._dying_jobs = 0
        return await self.show(request)

    async def show(self, request: Request) -> Response:
        """GET /local/faults."""
        return JSONResponse({"faults": [asdict(fault) for fault in self._faults], "dying_jobs": self._dying_jobs})

    def routes(self) -> list[Route]:
        return [
            Route("/local/faults", self.add, methods=["POST"]),
            Route("/local/faults", self.heal, methods=["DELETE"]),
            Route("/local/faults", self.show, methods=["GET"]),
        ]


class Door:
    """Lets a request through that names this machine and carries the token, unless it is to fail."""

    def __init__(self, app: ASGIApp, token: str, faults: Faults) -> None:
        self.app = app
        self.token = token
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        if request.url.hostname not in LOOPBACK:  # a page elsewhere that resolves its own name to this machine
            return refuse("PERMISSION_DENIED", "This workspace is reached at 127.0.0.1 only.")
        if not path.startswith("/local/"):
            status = self.faults.meet(path)
            if status is not None:
                code = next(code for code, its_status in STATUS.items() if its_status == status)
                return refuse(code, f"A fault that was asked for at /local/faults ({status}).")
        if path == "/oidc/v1/token":  # it asks for credentials of another kind
            return None
        if request.method in ("GET", "HEAD") and (path == "/" or path.startswith(OPEN[1:])):
            return None
        given = request.headers.get("Authorization", "")
        if not given.startswith("Bearer "):
            message = "Credential was not sent or was of an unsupported type for this API."
            return refuse("UNAUTHENTICATED", message)
        if not hmac.compare_digest(given.removeprefix("Bearer ").encode(), self.token.encode()):
            return refuse("UNAUTHENTICATED", "Invalid access token.")
        return None
