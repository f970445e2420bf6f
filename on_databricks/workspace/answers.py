"""How Databricks answers: JSON, and an error as a code and a message; the fields of a request wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Fields = dict[str, Any]
STATUS = {  # of every code that is not an invalid request, which is 400
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_CONFLICT": 409,
}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that is refused; without a code of Databricks, for an invalid value."""

    def __init__(self, message: str, code: str = "INVALID_PARAMETER_VALUE") -> None:
        super().__init__(message)
        self.code = code

    def response(self) -> JSONResponse:
        return JSONResponse({"error_code": self.code, "message": str(self)}, STATUS.get(self.code, 400))


def api(method: str, path: str, handler: Callable[[Fields], Fields | None]) -> Route:
    """A route whose handler gets the fields of a request, those of its path among them, and returns the answer."""

    async def answer(request: Request) -> Response:
        return JSONResponse(handler({**await fields(request), **request.path_params}) or {})

    return Route(path, answer, methods=[method])


async def fields(request: Request) -> Fields:
    """The fields of a request: those of the address, then those of the JSON body, which MLflow sends even with GET.

    Raises Refusal (MALFORMED_REQUEST) for a body that is no JSON object.
    """
    try:
        given = json.loads(await request.body() or b"{}")
        return {**request.query_params, **given}
    except (ValueError, TypeError) as error:
        message = f"Invalid JSON given in the body of the request - expected a map: {error}"
        raise Refusal(message, "MALFORMED_REQUEST") from None


def required(given: Fields, name: str) -> Any:
    """A field that must be there; raises Refusal where it is not."""
    if given.get(name) in (None, ""):
        raise Refusal(f"Missing required field: {name}")
    return given[name]


def flag(value: Any) -> bool:
    """Whether a field is true; forms and addresses send it as text."""
    return str(value).lower() == "true"
