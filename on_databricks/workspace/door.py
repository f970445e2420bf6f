"""The door of the workspace: it lets in who names this machine and carries the token."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from answers import Refusal

OPEN = ("/ml/", "/local/runs/", "/.well-known/", "/oidc/")  # read by a browser, or before a client has its token
LOOPBACK = ("127.0.0.1", "localhost")


class Door:
    """Middleware that refuses a request that names another machine, or carries no token or a wrong one."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(Request(scope))
            except Refusal as refusal:
                return await refusal.response()(scope, receive, send)
        await self.app(scope, receive, send)

    def _check(self, request: Request) -> None:
        path, given = request.url.path, request.headers.get("Authorization", "")
        if request.url.hostname not in LOOPBACK:  # a page elsewhere that resolves its own name to this machine
            raise Refusal("This workspace is reached at 127.0.0.1 only.", "PERMISSION_DENIED")
        if path == "/oidc/v1/token":  # it asks for credentials of another kind
            return
        if request.method in ("GET", "HEAD") and (path == "/" or path.startswith(OPEN)):
            return
        if not given.startswith("Bearer "):
            message = "Credential was not sent or was of an unsupported type for this API."
            raise Refusal(message, "UNAUTHENTICATED")
        if not hmac.compare_digest(given.removeprefix("Bearer ").encode(), self.token.encode()):
            raise Refusal("Invalid access token.", "UNAUTHENTICATED")
